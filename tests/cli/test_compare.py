"""aurora compare: one command, several optimizers, all else equal."""

import json
import os
import re
import shutil
import signal
import statistics
import time

import pytest
from conftest import (SMALL, assert_one_line, assert_same_run, aurora, log_of, of_kind, small, start, steps_in_log,
                      trained)
from test_terminal import on_a_terminal

STEPS = 20
FLAGS = ["--steps", STEPS, "--eval-every", 10, "--diagnose-every", 10]


def arguments(text, out, optimizers, *flags):
    """Of a small comparison; those in `flags` win."""
    steps = [] if "--steps" in flags else ["--steps", STEPS]
    return ["compare", "--data", text, "--out", out, "--optimizers", optimizers, *small(*steps, *FLAGS[2:], *flags)]


def compare(text, out, optimizers, *flags):
    return aurora(*arguments(text, out, optimizers, *flags))


def compared(text, out, optimizers, *flags):
    result = compare(text, out, optimizers, *flags)
    assert result.returncode == 0, result.stderr
    return json.loads((out / "summary.json").read_text())


def modified(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("log.jsonl")}


@pytest.fixture(scope="module")
def two(text, tmp_path_factory):
    """A finished comparison of two optimizers over two seeds, with a sweep, for tests that only read it."""
    out = tmp_path_factory.mktemp("compare") / "two"
    compared(text, out, "muon,aurora", "--seeds", 2, "--sweep-lr", "1,2")
    return out


def test_the_folder_and_the_summary_are_those_of_the_contract(two):
    for name in ("muon", "aurora"):
        for run in ("runs/{}/seed-0", "runs/{}/seed-1", "sweep/{}/lr-1/seed-1000", "sweep/{}/lr-2/seed-1000"):
            assert log_of(two / run.format(name))[-1]["kind"] == "summary"
    summary = json.loads((two / "summary.json").read_text())
    assert list(summary["optimizers"]) == ["muon", "aurora"] and summary["baseline"] == "muon"
    assert summary["steps"] == STEPS and summary["complete"]
    muon = summary["optimizers"]["muon"]
    runs = [log_of(two / f"runs/muon/seed-{seed}") for seed in (0, 1)]
    losses = [run[-1]["val_loss"] for run in runs]
    assert muon["val_loss"]["values"] == losses
    assert muon["val_loss"]["mean"] == pytest.approx(statistics.mean(losses), abs=1e-12)
    half = 12.706204736174694 * abs(losses[0] - losses[1]) / 2  # t of one degree, s / sqrt(2)
    assert muon["val_loss"]["ci95"] == pytest.approx([statistics.mean(losses) - half, statistics.mean(losses) + half])
    times = [statistics.median(record["step_ms"] for record in of_kind(run, "train")) for run in runs]
    assert muon["step_ms"] == pytest.approx(statistics.mean(times))
    best = min(muon["swept"], key=lambda rate: rate["val_loss"])
    assert muon["lr"] == best["lr"] == pytest.approx(0.02 * best["factor"])
    assert of_kind(runs[0], "header")[0]["config"]["optim"]["lr"] == best["lr"]
    difference = summary["differences"][0]
    other = [log_of(two / f"runs/aurora/seed-{seed}")[-1]["val_loss"] for seed in (0, 1)]
    assert (difference["a"], difference["b"], difference["seeds"]) == ("aurora", "muon", 2)
    assert difference["val_loss"]["values"] == pytest.approx([a - b for a, b in zip(other, losses)])
    for key in ("initial_weights_sha256", "data_order_sha256"):
        assert summary[key] == [run[0][key] for run in runs] and summary[key][0] != summary[key][1]
    assert (two / "report.html").stat().st_size > 1000


def test_a_run_of_a_comparison_is_that_of_train_bit_for_bit(two, text, tmp_path):
    lr = json.loads((two / "summary.json").read_text())["optimizers"]["aurora"]["lr"]
    alone = trained(text, tmp_path / "alone", "--optimizer", "aurora", "--seed", 1, "--lr", lr, *FLAGS)
    assert_same_run(alone, two / "runs/aurora/seed-1")


def test_a_second_call_trains_nothing_and_more_seeds_extend(two, text, tmp_path):
    out = shutil.copytree(two, tmp_path / "copy")
    before = modified(out)
    (out / "summary.json").write_text('{"optimizers": {"mu')
    summary = compared(text, out, "muon,aurora", "--seeds", 2, "--sweep-lr", "1,2")
    assert modified(out) == before and len(summary["optimizers"]) == 2
    summary = compared(text, out, "muon,aurora,u-normuon", "--seeds", 3, "--sweep-lr", "1,2")
    assert {path: time for path, time in modified(out).items() if path in before} == before
    assert all(len(result["val_loss"]["values"]) == 3 for result in summary["optimizers"].values())
    assert len(modified(out)) == len(before) + 2 + 3 + 2


def test_runs_made_by_train_are_adopted(text, tmp_path):
    out = tmp_path / "compare"
    for seed in (0, 1):
        trained(text, out / f"runs/muon/seed-{seed}", "--optimizer", "muon", "--seed", seed, *FLAGS)
    before = modified(out)
    summary = compared(text, out, "muon", "--seeds", 2)
    assert modified(out) == before
    assert "nothing to compare it with" in summary["answer"]


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        (["--seeds", 2, "--sweep-lr", "1,2", "--batch", 2], ["train.batch", "is 4 there", "here 2"]),
        (["--seeds", 1, "--sweep-lr", "1,2"], ["--seeds", "is 2 there", "here 1"]),
        (["--seeds", 2, "--sweep-lr", "1,3"], ["--sweep-lr", "1,2", "1,3"]),
        (["--seeds", 2], ["--sweep-lr", "1,2", "none"]),
        (["--seeds", 2, "--sweep-lr", "1,2", "--set", "optim.momentum=0.9"], ["optim.momentum", "0.95", "0.9"]),
        (["--seeds", 2, "--sweep-lr", "1,2", "--expansions", "2,4"], ["without --expansions"]),
    ],
)
def test_another_comparison_in_the_folder_is_refused_by_what_differs(two, text, flags, parts):
    before = modified(two)
    assert_one_line(compare(text, two, "muon,aurora", *flags), 2, two, "--out", *parts)
    assert modified(two) == before


@pytest.mark.parametrize(
    ("optimizers", "parts"),
    [
        ("", ["--optimizers"]),
        ("muon,,aurora", ["--optimizers", "empty name"]),
        ("muon,auror", ["auror", "aurora", "adamw", "normuon"]),
        ("aurora:pp_iteration=3", ["pp_iteration", "pp_iterations", "balance", "momentum"]),
        ("aurora:pp_iterations=0", ["pp_iterations", "0"]),
        ("muon,muon", ["twice", "muon"]),
        ("aurora,aurora:balance=odds", ["twice", "aurora", "aurora:balance=odds"]),
    ],
)
def test_optimizers_that_are_no_list_of_variants_are_one_clear_line(text, tmp_path, optimizers, parts):
    assert_one_line(compare(text, tmp_path / "out", optimizers), 2, *parts)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        (["--seeds", 0], ["--seeds", "0"]),
        (["--sweep-lr", "0.5,x"], ["--sweep-lr", "0.5,x"]),
        (["--sweep-lr", "1,1"], ["--sweep-lr", "twice"]),
        (["--sweep", "lr"], ["--sweep", "KEY=FACTORS"]),
        (["--sweep", "optim.momentun=1,2"], ["optim.momentun"]),
        (["--sweep", "adamw.lr=0,1"], ["--sweep adamw.lr", "> 0"]),
        (["--sweep-jointly"], ["--sweep-jointly", "two swept settings"]),
        (["--sweep-lr", "auto", "--sweep", "adamw.lr=1,2", "--sweep-jointly"], ["auto"]),
        (["--equal-rates"], ["--equal-rates"]),
        (["--jobs", 0], ["--jobs", "0"]),
        (["--eval-tokens", "many"], ["--eval-tokens", "many"]),
        (["--match-parameters"], ["--expansions"]),
        (["--seed", 999, "--seeds", 2, "--sweep-lr", "1,2"], ["seeds", "sweep"]),
    ],
)
def test_flags_that_make_no_comparison_are_one_clear_line(text, tmp_path, flags, parts):
    assert_one_line(compare(text, tmp_path / "out", "muon", *flags), 2, *parts)


def test_standard_input_is_refused(tmp_path):
    assert_one_line(compare("-", tmp_path / "out", "muon"), 2, "--data", "file")


def test_text_that_is_too_short_leaves_no_comparison_behind(text, tmp_path):
    short = tmp_path / "short.txt"
    short.write_text("too short")
    result = compare(short, tmp_path / "out", "muon")
    assert result.returncode == 2 and len(result.stderr.splitlines()) == 1, result.stderr
    compared(text, tmp_path / "out", "muon", "--seeds", 1)


def test_a_variants_own_options_win_and_lr_is_not_that_of_adamw(text, tmp_path):
    out = tmp_path / "out"
    compared(text, out, "aurora:lr=0.01+balance=release,muon,adamw", "--seeds", 1, "--lr", 0.03, "--set",
             "optim.momentum=0.9", "--steps", 2)
    config = lambda name: log_of(out / "runs" / name / "seed-0")[0]["config"]
    aurora_config = config("aurora-lr-0.01-balance-release")["optim"]
    assert (aurora_config["lr"], aurora_config["balance"], aurora_config["momentum"]) == (0.01, "release", 0.9)
    assert (config("muon")["optim"]["lr"], config("muon")["optim"]["momentum"]) == (0.03, 0.9)
    assert config("adamw")["adamw"]["lr"] == 0.003


def test_a_run_that_diverges_is_a_result(text, tmp_path):
    out = tmp_path / "out"
    flags = ["--seeds", 2, "--steps", 12, "--clip", 0, "--set", "train.warmup=0"]
    optimizers = "muon,adamw:lr=1e30"
    result = compare(text, out, optimizers, *flags)
    assert result.returncode == 0, result.stderr
    summary = json.loads((out / "summary.json").read_text())
    lost = summary["optimizers"]["adamw:lr=1e30"]
    assert lost["diverged"] == 2 and lost["val_loss"]["mean"] is None
    end = log_of(out / "runs/adamw-lr-1e30/seed-0")[-1]
    assert end["kind"] == "diverged" and end["step"] == lost["diverged_at"][0]["step"] and end["message"]
    assert f"diverged at {end['step']}" in result.stdout
    before = modified(out)
    assert compare(text, out, optimizers, *flags).returncode == 0
    assert modified(out) == before


def test_a_comparison_of_which_all_runs_diverge_says_so(text, tmp_path):
    result = compare(text, tmp_path / "out", "muon:lr=1e30,adamw:lr=1e30", "--seeds", 1, "--steps", 12, "--clip", 0,
                     "--set", "train.warmup=0")
    assert result.returncode == 3, result.stderr
    assert "all 2 runs diverged" in result.stderr
    assert "No optimizer finished" in result.stdout


@pytest.fixture(scope="module")
def muon_config(text, tmp_path_factory):
    """The configuration of a run that is not at Muon's defaults."""
    run = tmp_path_factory.mktemp("config") / "muon"
    trained(text, run, "--optimizer", "muon", "--lr", 0.04, "--steps", 2, "--set", "optim.weight_decay=0.3", "--set",
            "optim.momentum=0.8")
    return run / "config.toml"


def test_the_options_of_a_configuration_are_those_of_every_matrix_optimizer(text, tmp_path, muon_config):
    out = tmp_path / "out"
    summary = compared(text, out, "muon,aurora,normuon:momentum=0.7,adamw", "--config", muon_config, "--seeds", 1,
                       "--steps", 2)
    options = {name: log_of(out / "runs" / name / "seed-0")[0]["config"]["optim"]
               for name in ("muon", "aurora", "normuon-momentum-0.7")}
    for name, momentum in (("muon", 0.8), ("aurora", 0.8), ("normuon-momentum-0.7", 0.7)):
        assert (options[name]["lr"], options[name]["weight_decay"], options[name]["momentum"]) == (0.04, 0.3, momentum)
    told = summary["optimizers"]
    assert told["aurora"]["hyperparameters"]["optim.lr"] == "0.04"
    assert told["adamw"]["hyperparameters"]["adamw.lr"] == "0.003"
    assert summary["not_equal"] == ["optim.momentum"]
    html = (out / "report.html").read_text()
    assert html.count('class="unequal"') == 1 and 'data-setting="optim.momentum" class="unequal"' in html


def test_an_option_that_not_all_can_have_is_refused(text, tmp_path):
    run = trained(text, tmp_path / "normuon", "--optimizer", "normuon:beta2=0.9", "--steps", 2)
    out = tmp_path / "out"
    flags = ["--config", run / "config.toml", "--seeds", 1, "--steps", 2]
    assert_one_line(compare(text, out, "normuon,muon", *flags), 2, "--config", "muon has no option beta2 = 0.9",
                    "normuon:beta2=0.9")
    assert not out.exists()
    compared(text, out, "normuon", *flags)
    assert log_of(out / "runs/normuon/seed-0")[0]["config"]["optim"]["beta2"] == 0.9


def test_a_dry_run_tells_the_runs_and_their_time_and_makes_none(text, tmp_path):
    out = tmp_path / "out"
    result = compare(text, out, "aurora,muon", "--seeds", 2, "--sweep-lr", "1,2", "--sweep", "adamw.lr=0.5,1",
                     "--dry-run")
    assert result.returncode == 0, result.stderr
    assert not out.exists()
    rows = {line.split()[0]: line.split() for line in result.stdout.splitlines()[1:3]}
    assert rows["aurora"][1:4] == rows["muon"][1:4] == ["3", "2", "0"]
    listed = [line for line in result.stdout.splitlines() if str(out) in line]
    assert len(listed) == 10 and all(line.endswith("to do") for line in listed)
    assert listed[0].split()[1] == "muon", "the baseline is first"
    assert re.search(r"about \d.*, from one measured step of each optimizer", result.stdout)
    compared(text, out, "aurora,muon", "--seeds", 2)
    done = compare(text, out, "aurora,muon", "--seeds", 3, "--dry-run")
    assert done.stdout.count(" done\n") == 4


def test_runs_side_by_side_are_those_made_one_by_one(text, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    flags = ["--seeds", 2, "--sweep-lr", "1,2", "--threads", 1]
    compared(text, one, "muon,aurora", *flags)
    compared(text, two, "muon,aurora", *flags, "--jobs", 3)
    for run in one.rglob("seed-*"):
        assert_same_run(run, two / run.relative_to(one))


def test_jobs_divide_the_cores_and_a_later_call_keeps_their_threads(text, tmp_path):
    flags = [flag for flag in small("--steps", 2)]
    at = flags.index("--threads")
    del flags[at:at + 2]
    call = ["compare", "--data", text, "--out", tmp_path / "out", "--optimizers", "muon", *flags]
    assert aurora(*call, "--seeds", 1, "--jobs", 2).returncode == 0
    result = aurora(*call, "--seeds", 2)
    assert result.returncode == 0, result.stderr
    threads = [log_of(tmp_path / f"out/runs/muon/seed-{seed}")[0]["threads"] for seed in (0, 1)]
    assert threads[0] == threads[1] == max(1, len(os.sched_getaffinity(0)) // 2)


def test_ctrl_c_stops_all_runs_side_by_side_and_they_go_on(text, tmp_path):
    out, whole = tmp_path / "out", tmp_path / "whole"
    flags = ["--seeds", 2, "--steps", 200, "--keep", 1]
    process = start(*arguments(text, out, "muon,aurora", *flags, "--jobs", 2))
    end = time.monotonic() + 60
    while min(steps_in_log(out / f"runs/{name}/seed-0") for name in ("muon", "aurora")) < 5 and time.monotonic() < end:
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    stopped = {name: steps_in_log(out / f"runs/{name}/seed-0") for name in ("muon", "aurora")}
    assert all(5 <= steps <= 200 for steps in stopped.values()) and min(stopped.values()) < 200
    assert errors.count("finishing this step") == 1
    compared(text, out, "muon,aurora", *flags, "--jobs", 2)
    compared(text, whole, "muon,aurora", *flags)
    for run in ("muon/seed-0", "muon/seed-1", "aurora/seed-0", "aurora/seed-1"):
        assert_same_run(whole / "runs" / run, out / "runs" / run)


def test_another_error_of_a_run_side_by_side_is_one_line(text, tmp_path):
    short = tmp_path / "short.txt"
    short.write_text("too short")
    result = compare(short, tmp_path / "out", "muon", "--jobs", 2, "--quiet")
    assert_one_line(result, 2, "short.txt")


def test_ctrl_c_keeps_what_is_done_and_the_same_command_goes_on(text, tmp_path):
    flags = ["--seeds", 2, "--steps", 60, "--keep", 1]
    whole, out = tmp_path / "whole", tmp_path / "stopped"
    compared(text, whole, "muon,aurora", *flags)
    process = start(*arguments(text, out, "muon,aurora", *flags))
    end = time.monotonic() + 60
    while steps_in_log(out / "runs/aurora/seed-0") < 5 and time.monotonic() < end:
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert 5 <= steps_in_log(out / "runs/aurora/seed-0") < 60
    hint = re.search(r"1 of 4 runs done.*go on with: aurora (.*)", errors.splitlines()[-1])
    assert hint, errors
    assert not json.loads((out / "summary.json").read_text())["complete"]
    first = modified(out / "runs/muon/seed-0")
    result = aurora(*hint.group(1).split())
    assert result.returncode == 0, result.stderr
    assert modified(out / "runs/muon/seed-0") == first
    for run in ("muon/seed-0", "muon/seed-1", "aurora/seed-0", "aurora/seed-1"):
        assert_same_run(whole / "runs" / run, out / "runs" / run)


def test_expansions_are_comparisons_side_by_side(text, tmp_path):
    out = tmp_path / "out"
    flags = ["--seeds", 1, "--steps", 2, "--expansions", "8,2", "--match-parameters"]
    summary = compared(text, out, "muon,aurora", *flags)
    assert list(summary["expansions"]) == ["2", "8"]
    wanted = log_of(trained(text, tmp_path / "four", "--steps", 1))[0]["parameters"]
    for expansion, of_it in summary["expansions"].items():
        model = log_of(out / f"expansion-{expansion}/runs/muon/seed-0")[0]["config"]["model"]
        assert model["expansion"] == float(expansion) and model["width"] % 4 == 0
        assert of_it["parameters"] == pytest.approx(wanted, rel=0.1)
        assert json.loads((out / f"expansion-{expansion}/summary.json").read_text()) == of_it
    before = modified(out)
    compared(text, out, "muon,aurora", *flags)
    assert modified(out) == before
    assert_one_line(compare(text, out, "muon,aurora", "--seeds", 1, "--steps", 2), 2, "with --expansions")


def test_the_table_and_the_answer_are_on_standard_output(two, text):
    result = compare(text, two, "muon,aurora", "--seeds", 2, "--sweep-lr", "1,2")
    summary = json.loads((two / "summary.json").read_text())
    lines = result.stdout.splitlines()
    for word in ("optimizer", "val loss", "minus muon", "bits/byte", "starved", "dead", "row CV", "step ms"):
        assert word in lines[0]
    for name, line in zip(("muon", "aurora"), lines[1:3]):
        assert line.startswith(name) and f"{summary['optimizers'][name]['val_loss']['mean']:.4f} [" in line
    assert summary["answer"] in lines
    assert str(two / "report.html") in lines[-1]
    shown = json.loads(compare(text, two, "muon,aurora", "--seeds", 2, "--sweep-lr", "1,2", "--json").stdout)
    assert shown == summary


def test_one_seed_concludes_nothing(text, tmp_path):
    result = compare(text, tmp_path / "out", "muon,aurora", "--seeds", 1, "--steps", 2)
    assert "nothing can be concluded" in result.stdout
    assert json.loads((tmp_path / "out/summary.json").read_text())["optimizers"]["muon"]["val_loss"]["ci95"] is None


def test_without_a_terminal_there_is_a_line_per_run_and_no_control_characters(text, tmp_path):
    result = compare(text, tmp_path / "out", "muon,aurora", "--seeds", 2, "--steps", 2)
    ends = [line for line in result.stderr.splitlines() if "validation loss" in line]
    assert [re.match(r"run \d/4  (\S+) seed (\d)", line).groups() for line in ends] == [
        ("muon", "0"), ("aurora", "0"), ("muon", "1"), ("aurora", "1")]
    assert all("left" in line for line in ends)
    assert "\x1b" not in result.stderr and "\r" not in result.stderr
    quiet = compare(text, tmp_path / "quiet", "muon", "--seeds", 2, "--steps", 2, "--quiet")
    assert quiet.stderr == ""


def test_a_terminal_shows_a_table_of_all_runs(text, tmp_path):
    shown = on_a_terminal(["compare", "--data", text, "--out", tmp_path / "out", "--optimizers", "muon,aurora",
                           "--seeds", 2, *SMALL, "--steps", 30], {"TERM": "xterm"})
    for part in ("seed 0", "seed 1", "waiting", "/30", "left", "\x1b["):
        assert part in shown, part
    loss = log_of(tmp_path / "out/runs/muon/seed-0")[-1]["val_loss"]
    assert f"{loss:.4f}" in shown
