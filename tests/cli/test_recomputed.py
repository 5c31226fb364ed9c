"""A comparison made, extended by factors, seeds and an optimizer, interrupted twice and exported, against numbers
recomputed from config.toml and log.jsonl of its runs alone."""

import csv
import json
import signal
import statistics
import tomllib
import xml.etree.ElementTree as xml

import pytest
from conftest import aurora, log_of, of_kind, small, start, steps_in_log, wait_for_steps
from scipy import stats

STEPS = 120
TOLERANCE = dict(rel=1e-12, abs=1e-12)


def arguments(text, out, optimizers, seeds, factors, steps=STEPS):
    flags = small("--steps", steps, "--eval-every", 20, "--eval-tokens", "all", "--context", 16)
    return ["compare", "--data", text, "--out", out, "--optimizers", optimizers, "--seeds", seeds, "--sweep-lr", factors,
            *flags]


def interrupted(call, run):
    """Starts the call and stops it in the run, some steps after its beginning."""
    process = start(*call)
    wait_for_steps(run, 3, process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert 3 <= steps_in_log(run) < STEPS, "it was stopped in the run"


@pytest.fixture(scope="module")
def made(text, tmp_path_factory):
    out = tmp_path_factory.mktemp("recomputed") / "out"
    # Made, and interrupted in the sweep.
    first = arguments(text, out, "aurora,muon", 2, "0.5,1")
    interrupted(first, out / "sweep/aurora/lr-0.5/seed-1000")
    assert aurora(*first).returncode == 0
    # Extended by a factor, a seed and an optimizer, and interrupted in the result.
    second = arguments(text, out, "aurora,muon,adamw", 3, "0.5,1,2")
    interrupted(second, out / "runs/adamw/seed-1")
    result = aurora(*second)
    assert result.returncode == 0, result.stderr
    result = aurora("report", out, "--export", out / "export")
    assert result.returncode == 0, result.stderr
    return out


def lr_of(run):
    config = tomllib.loads((run / "config.toml").read_text())
    return config["adamw" if config["optim"]["optimizer"] == "adamw" else "optim"]["lr"]


def final(run):
    """What a finished run came to, from its records."""
    records = log_of(run)
    assert records[-1]["kind"] == "summary"
    assert [record["step"] for record in of_kind(records, "train")] == list(range(1, STEPS + 1))
    neurons = of_kind(records, "neurons")
    last = [record for record in neurons if record["step"] == STEPS]
    evaluation = of_kind(records, "eval")[-1]
    steps = [record["step_ms"] for record in of_kind(records, "train")]
    optimizer = [record["optimizer_ms"] for record in of_kind(records, "train")]
    return {
        "val_loss": evaluation["loss"],
        "bits_per_byte": evaluation["bits_per_byte"],
        "tokens": evaluation["tokens"],
        "dead": statistics.fmean(record["dead"]["0.1"] for record in last),
        "starved": statistics.fmean(record[m]["starved"]["0.1"] for record in last for m in ("gate", "up")),
        "step_ms": statistics.median(steps),
        "optimizer_ms": statistics.median(optimizer),
        "neurons": neurons,
    }


def best_lr(out, name):
    losses = {}
    for place in (out / "sweep" / name).iterdir():
        losses[float(place.name.removeprefix("lr-"))] = final(place / "seed-1000")["val_loss"]
    assert set(losses) == {0.5, 1, 2}
    return min(losses, key=lambda factor: (losses[factor], factor)), losses


def interval(values, level=0.05):
    half = stats.t.ppf(1 - level / 2, len(values) - 1) * statistics.stdev(values) / len(values) ** 0.5
    return [statistics.fmean(values) - half, statistics.fmean(values) + half]


def holm(differences):
    """Intervals and p values of Holm's procedure, straight from its definition."""
    p = {name: stats.ttest_1samp(values, 0).pvalue for name, values in differences.items()}
    order = sorted(p, key=p.get)
    found, largest, level, rejected = {}, 0, 0.05, True
    for rank, name in enumerate(order):
        left = len(order) - rank
        largest = max(largest, min(1, left * p[name]))
        if rejected:
            level = 0.05 / left
        rejected = rejected and p[name] < level
        found[name] = interval(differences[name], level), largest
    return found


NAMES = ("aurora", "muon", "adamw")


@pytest.fixture(scope="module")
def recomputed(made):
    return {name: [final(made / f"runs/{name}/seed-{seed}") for seed in range(3)] for name in NAMES}


def test_the_summary_is_that_of_the_logs(made, recomputed):
    summary = json.loads((made / "summary.json").read_text())
    assert summary["complete"] and summary["seeds"] == [0, 1, 2] and summary["baseline"] == "muon"
    for name, runs in recomputed.items():
        told = summary["optimizers"][name]
        factor, losses = best_lr(made, name)
        assert told["lr"] == pytest.approx((3e-3 if name == "adamw" else 0.02) * factor, **TOLERANCE)
        assert all(lr_of(made / f"runs/{name}/seed-{seed}") == told["lr"] for seed in range(3))
        assert {rate["factor"]: rate["val_loss"] for rate in told["swept"]} == pytest.approx(losses, **TOLERANCE)
        for key in ("val_loss", "bits_per_byte", "dead", "starved"):
            values = [run[key] for run in runs]
            assert told[key]["values"] == pytest.approx(values, **TOLERANCE), (name, key)
            assert told[key]["mean"] == pytest.approx(statistics.fmean(values), **TOLERANCE)
            assert told[key]["ci95"] == pytest.approx(interval(values), **TOLERANCE)
        step, optimizer = (statistics.fmean(run[key] for run in runs) for key in ("step_ms", "optimizer_ms"))
        assert told["step_ms"] == pytest.approx(step, **TOLERANCE)
        assert told["optimizer_share"] == pytest.approx(optimizer / step, **TOLERANCE)
        assert told["tokens_per_second"] == pytest.approx(1000 * 4 * 16 / step, **TOLERANCE)
    assert summary["data"]["evaluated_tokens"] == recomputed["muon"][0]["tokens"]


def test_differences_and_holms_intervals_are_those_of_the_logs(made, recomputed):
    losses = {name: [run["val_loss"] for run in runs] for name, runs in recomputed.items()}
    differences = {name: [a - b for a, b in zip(losses[name], losses["muon"])] for name in ("aurora", "adamw")}
    adjusted = holm(differences)
    summary = json.loads((made / "summary.json").read_text())
    assert {entry["a"] for entry in summary["differences"]} == set(differences)
    for entry in summary["differences"]:
        bounds, p = adjusted[entry["a"]]
        assert entry["val_loss"]["values"] == pytest.approx(differences[entry["a"]], **TOLERANCE)
        assert entry["val_loss"]["ci95"] == pytest.approx(interval(differences[entry["a"]]), **TOLERANCE)
        assert entry["holm"]["ci95"] == pytest.approx(bounds, **TOLERANCE)
        assert entry["holm"]["p"] == pytest.approx(p, **TOLERANCE)


def test_the_configured_rates_are_compared_by_what_there_is(made):
    rates = json.loads((made / "summary.json").read_text())["equal_rates"]
    factors = {name: best_lr(made, name)[0] for name in NAMES}
    if set(factors.values()) == {1}:
        assert rates is None
        return
    # Runs of the result's seeds that were made before the sweep chose another rate stay beside it.
    places = {name: made / "runs" / name if factors[name] == 1 else made / "rates" / name / "lr-1" for name in NAMES}
    result = all(place.exists() for place in places.values())
    assert rates["seeds_of"] == ("result" if result else "sweep")
    if not result:
        places = {name: made / "sweep" / name / "lr-1" for name in NAMES}
    losses = {name: {run.name: final(run)["val_loss"] for run in places[name].iterdir()} for name in NAMES}
    for entry in rates["differences"]:
        shared = sorted(set(losses[entry["a"]]) & set(losses["muon"]))
        values = [losses[entry["a"]][seed] - losses["muon"][seed] for seed in shared]
        assert entry["val_loss"]["values"] == pytest.approx(values, **TOLERANCE) and values


def fates_of(records, layer, matrix):
    """For each neuron: first and last unbroken stretch of records in which it is listed, by brute force."""
    steps = sorted({record["step"] for record in records})
    lists = {record["step"]: set(record["dead_neurons"] if matrix == "dead" else record[matrix]["starved_neurons"])
             for record in records if record["layer"] == layer}
    fates = {}
    for neuron in set().union(*lists.values()):
        present = [neuron in lists[step] for step in steps]
        since = None
        for step, here in zip(reversed(steps), reversed(present)):
            if not here:
                break
            since = step
        revived = sum(a and not b for a, b in zip(present, present[1:]))
        fates[neuron] = (steps[present.index(True)], since, sum(present), revived)
    return fates


def rows_of(file):
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


def test_the_exported_neurons_are_those_of_the_logs(made, recomputed):
    exported = {}
    for row in rows_of(made / "export/neurons.csv"):
        key = (row["optimizer"], int(row["seed"]), int(row["layer"]), row["what"])
        since = int(row["since"]) if row["since"] else None
        exported.setdefault(key, {})[int(row["neuron"])] = (
            int(row["first"]), since, int(row["records"]), int(row["revived"]))
    expected = {}
    for name, runs in recomputed.items():
        for seed, run in enumerate(runs):
            for layer in range(2):
                for what in ("gate", "up", "dead"):
                    fates = fates_of(run["neurons"], layer, what)
                    if fates:
                        expected[name, seed, layer, what] = fates
    assert exported == expected and expected


def test_the_exported_tables_and_figures_are_those_of_the_logs(made, recomputed):
    folder = made / "export"
    for row in rows_of(folder / "runs.csv"):
        run = recomputed[row["optimizer"]][int(row["seed"])]
        for key in ("val_loss", "bits_per_byte", "starved", "dead"):
            assert float(row[key]) == pytest.approx(run[key], **TOLERANCE)
    points = rows_of(folder / "validation.csv")
    assert {row["optimizer"] for row in points} == set(NAMES)
    for row in points:
        losses = [record["loss"] for seed in range(3)
                  for record in of_kind(log_of(made / f"runs/{row['optimizer']}/seed-{seed}"), "eval")
                  if record["step"] == float(row["step"])]
        assert float(row["nats per token"]) == pytest.approx(statistics.fmean(losses), **TOLERANCE)
        low, high = interval(losses)
        assert [float(row["low"]), float(row["high"])] == pytest.approx([max(low, 0), high], **TOLERANCE)
    for row in rows_of(folder / "wall-time.csv"):
        step = statistics.fmean(run["step_ms"] for run in recomputed[row["optimizer"]])
        at = float(row["at"].split("step ")[1])
        assert float(row["training time, s"]) == pytest.approx(at * step / 1000, **TOLERANCE)
    for row in rows_of(folder / "starvation-cost.csv"):
        assert float(row["% of gate and up rows starved"]) >= 0
    environment = json.loads((folder / "environment.json").read_text())
    header = log_of(made / "runs/aurora/seed-0")[0]
    assert environment["machine"] == header["device_name"] and environment["commit"] == header["commit"]
    assert "--sweep-lr 0.5,1,2" in environment["command"]
    table = (folder / "results.tex").read_text()
    for name, runs in recomputed.items():
        assert f"{name} & " in table
        assert f"${statistics.fmean(run['val_loss'] for run in runs):.4f}$" in table


def test_every_figure_of_the_report_is_exported_as_svg_and_numbers(made):
    html = (made / "report.html").read_text()
    folder = made / "export"
    pictures = [file for file in folder.glob("*.svg") if not file.name.startswith("starved-by-layer")]
    assert len(pictures) == html.count('<svg class="chart"')
    for file in pictures:
        assert (folder / file.name.replace(".svg", ".csv")).exists()
    assert len(list(folder.glob("starved-by-layer-*.svg"))) == len(NAMES)
    for file in folder.glob("*.svg"):
        root = xml.parse(file).getroot()
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert "var(" not in file.read_text()
