"""log.jsonl and the TensorBoard events: fields, definitions, one record per step."""

import json
import math
import os

import pytest
from conftest import log_of, of_kind, trained

LEVERAGE_QUANTILES = 7


def test_the_log_begins_with_a_header_and_ends_with_a_summary(run):
    records = log_of(run)
    header = records[0]
    assert header["kind"] == "header"
    assert (header["optimizer"], header["seed"], header["device"], header["threads"]) == ("aurora", 0, "cpu", 1)
    assert header["tokens_per_step"] == 4 * 32
    assert header["version"] and header["blas"] and header["started"].endswith("Z")
    assert isinstance(header["config"], dict) and header["config"]
    # Embedding and head, then per layer q k v o, gate up down and two norms, and the last norm.
    assert header["parameters"] == 2 * 256 * 32 + 2 * (4 * 32 * 32 + 3 * 128 * 32 + 2 * 32) + 32
    assert records[-1]["kind"] == "summary"
    assert [record["kind"] for record in records].count("header") == 1


def test_runs_of_one_seed_begin_with_equal_weights_and_read_in_one_order(text, run, tmp_path):
    muon = trained(text, tmp_path / "muon", "--optimizer", "muon", "--steps", 1)
    other_seed = trained(text, tmp_path / "seed", "--seed", 1, "--steps", 1)
    for key in ("initial_weights_sha256", "data_order_sha256"):
        of = lambda folder: log_of(folder)[0][key]
        assert len(of(run)) == 64
        assert of(run) == of(muon) != of(other_seed)


def test_every_step_is_there_once(run):
    steps = [record["step"] for record in of_kind(log_of(run), "train")]
    assert steps == list(range(1, 21))


def test_a_train_record_has_the_fields_of_the_contract(run):
    records = of_kind(log_of(run), "train")
    for record in records:
        assert set(record) >= {"step", "loss", "matrix_lr", "adamw_lr", "grad_norm", "tokens", "step_ms",
                               "optimizer_ms", "tokens_per_second", "seconds", "skipped"}
        assert record["skipped"] is False
        assert record["tokens"] == 4 * 32
        assert 0 < record["optimizer_ms"] < record["step_ms"]
        assert record["tokens_per_second"] > 0 and record["grad_norm"] > 0
    seconds = [record["seconds"] for record in records]
    assert seconds == sorted(seconds) and seconds[0] > 0


def test_the_first_loss_is_that_of_guessing_and_the_last_is_lower(run):
    losses = [record["loss"] for record in of_kind(log_of(run), "train")]
    assert losses[0] == pytest.approx(math.log(256), abs=0.05)
    assert losses[-1] < losses[0] - 1


def test_one_schedule_multiplies_both_learning_rates(text, tmp_path):
    run = trained(text, tmp_path / "run", "--steps", 20, "--warmup", 0.2, "--cooldown", 0.5)
    records = of_kind(log_of(run), "train")
    rates = [record["matrix_lr"] / 0.02 for record in records]
    assert [record["adamw_lr"] / 3e-3 for record in records] == pytest.approx(rates)
    assert rates[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert rates[4:10] == pytest.approx([1.0] * 6)
    falls = [a - b for a, b in zip(rates[10:], rates[11:])]
    assert falls == pytest.approx([0.1] * 9)
    assert 0 <= rates[-1] <= 0.1 + 1e-9


def test_evaluations_come_at_their_interval_and_at_the_last_step(run):
    records = of_kind(log_of(run), "eval")
    assert [record["step"] for record in records] == [10, 20]
    for record in records:
        assert record["bits_per_byte"] == pytest.approx(record["loss"] / math.log(2))
        assert record["tokens"] > 0
        assert record["product_ms"] > 0
    assert records[1]["loss"] < records[0]["loss"]


def test_neurons_are_recorded_for_every_layer_at_their_interval(run):
    records = of_kind(log_of(run), "neurons")
    assert [(record["step"], record["layer"]) for record in records] == [
        (step, layer) for step in (5, 10, 15, 20) for layer in (0, 1)
    ]
    for record in records:
        assert record["neurons"] == 128
        assert 0 <= record["dead"]["0.01"] <= record["dead"]["0.1"] <= 1
        assert len(record["dead_neurons"]) == round(record["dead"]["0.1"] * 128)
        assert 1 <= record["activation_effective_rank"] <= 128
        for matrix in ("gate", "up", "down"):
            fields = record[matrix]
            assert len(fields["starved_neurons"]) == round(fields["starved"]["0.1"] * 128)
            assert fields["starved_neurons"] == sorted(set(fields["starved_neurons"]) & set(range(128)))
            assert 0 <= fields["starved"]["0.01"] <= fields["starved"]["0.1"] <= fields["starved"]["0.5"] <= 1
            assert len(fields["leverage"]) == LEVERAGE_QUANTILES
            assert fields["leverage"] == sorted(fields["leverage"])
            assert fields["leverage"][0] >= 0
            assert fields["leverage"][-1] <= 4 * (1 + 1e-6)  # h <= 1, times m/n
            assert fields["orthogonality_error"] < 1e-4


def test_aurora_evens_out_the_rows_of_gate_and_up(run):
    for record in of_kind(log_of(run), "neurons"):
        for matrix in ("gate", "up"):
            assert record[matrix]["update_row_norm_cv"] < 0.25


def test_a_direction_is_null_under_adamw(adamw_run):
    records = of_kind(log_of(adamw_run), "neurons")
    assert records
    for record in records:
        for matrix in ("gate", "up", "down"):
            assert record[matrix]["update_row_norm_cv"] is None
            assert record[matrix]["orthogonality_error"] is None
            assert len(record[matrix]["leverage"]) == LEVERAGE_QUANTILES


def test_the_summary_follows_from_the_records(run):
    records = log_of(run)
    summary = records[-1]
    last_eval = of_kind(records, "eval")[-1]
    assert summary["steps"] == 20
    assert summary["val_loss"] == last_eval["loss"]
    assert summary["bits_per_byte"] == last_eval["bits_per_byte"]
    layers = [record for record in of_kind(records, "neurons") if record["step"] == 20]
    mean = lambda values: sum(values) / len(values)
    assert summary["dead"] == pytest.approx(mean([layer["dead"]["0.1"] for layer in layers]))
    assert summary["starved"] == pytest.approx(
        mean([layer[matrix]["starved"]["0.1"] for layer in layers for matrix in ("gate", "up")])
    )
    assert 0 < summary["optimizer_share"] < 1
    assert summary["seconds"] >= of_kind(records, "train")[-1]["seconds"]


def test_adamw_trains_every_parameter_at_the_given_rate(adamw_run):
    records = log_of(adamw_run)
    assert records[0]["optimizer"] == "adamw"
    assert max(record["adamw_lr"] for record in of_kind(records, "train")) == pytest.approx(0.002)


def test_no_number_is_written_as_nan(run, adamw_run):
    def refuse(name):
        raise AssertionError(name)

    for folder in (run, adamw_run):
        for line in (folder / "log.jsonl").read_text().splitlines():
            json.loads(line, parse_constant=refuse)


def test_tensorboard_reads_the_events(run):
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    assert len(list(run.glob("events.out.tfevents.*"))) == 1
    accumulator = accumulators.EventAccumulator(str(run), size_guidance={accumulators.SCALARS: 0})
    accumulator.Reload()
    tags = accumulator.Tags()["scalars"]
    records = log_of(run)
    series = {tuple(event.step for event in accumulator.Scalars(tag)): tag for tag in tags if "loss" in tag}
    losses = accumulator.Scalars(series[tuple(range(1, 21))])
    assert [event.value for event in losses] == pytest.approx(
        [record["loss"] for record in of_kind(records, "train")], rel=1e-6
    )
    evaluations = accumulator.Scalars(series[(10, 20)])
    assert [event.value for event in evaluations] == pytest.approx(
        [record["loss"] for record in of_kind(records, "eval")], rel=1e-6
    )


def test_a_run_says_how_its_threads_wait_and_what_it_was_built_from(run):
    header = log_of(run)[0]
    assert header["wait_policy"] in ("GOMP_SPINCOUNT=1000", *(
        f"{name}={os.environ[name]}" for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT") if name in os.environ))
    assert header["load"] >= 0 and header["device_name"]
    assert isinstance(header["commit"], str)


def test_all_of_the_validation_text_is_evaluated_on_request(text, tmp_path):
    data = text.read_bytes() * 8  # a tenth of it is more than 32,768 tokens
    (tmp_path / "long.txt").write_bytes(data)
    tokens = {}
    for asked in ("4096", "all"):
        run = trained(tmp_path / "long.txt", tmp_path / asked, "--steps", 1, "--eval-tokens", asked)
        tokens[asked] = of_kind(log_of(run), "eval")[-1]["tokens"]
        validation = log_of(run)[0]["data"]["validation_bytes"]
    assert tokens["4096"] == 4096
    # Sequences of 32 tokens and the byte after them do not overlap.
    assert tokens["all"] == 32 * (validation // 33) > 40000
