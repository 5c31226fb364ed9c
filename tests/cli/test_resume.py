"""A run that was stopped, in whatever way, ends as if it had never stopped."""

import random
import re
import signal
import time

import pytest
from conftest import (SMALL, assert_one_line, assert_same_run, aurora, checkpoints, kill, last_checkpoint, log_of,
                      of_kind, start, steps_in_log, train, trained, wait_for_steps)

STEPS = 40
FLAGS = ["--steps", STEPS, "--save-every", 7, "--eval-every", 10, "--diagnose-every", 5]


def uninterrupted(text, folder, *flags):
    return trained(text, folder / "whole", *FLAGS, *flags)


def going_on(run):
    return ["--resume"] if run.is_dir() else []


@pytest.mark.parametrize("optimizer", ["aurora", "aurora:balance=carried", "normuon", "adamw"])
def test_a_run_killed_again_and_again_ends_bit_for_bit_the_same(text, tmp_path, optimizer):
    whole = uninterrupted(text, tmp_path, "--optimizer", optimizer)
    killed = tmp_path / "killed"
    arguments = ["train", "--data", text, "--out", killed, *SMALL, *FLAGS, "--optimizer", optimizer]
    chance = random.Random(optimizer)
    kills = 0
    for target in (0, 0, 3, 8, 12, 16, 21, 27, 33, 38):
        process = start(*arguments, *going_on(killed))
        if target == 0:
            time.sleep(chance.uniform(0.0, 0.6))
        else:
            wait_for_steps(killed, target, process)
            time.sleep(chance.uniform(0.0, 0.02))
        if process.poll() is None:
            kills += 1
        kill(process)
    assert kills >= 5
    result = aurora(*arguments, *going_on(killed))
    assert result.returncode == 0, result.stderr
    assert [record["step"] for record in of_kind(log_of(killed), "train")] == list(range(1, STEPS + 1))
    assert_same_run(whole, killed)


def test_a_checkpoint_folder_is_whole_at_every_moment(text, tmp_path):
    out = tmp_path / "run"
    chance = random.Random(5)
    for _ in range(6):
        process = start("train", "--data", text, "--out", out, *SMALL, "--steps", 4000, "--save-every", 1, "--keep", 2,
                        *going_on(out))
        before = steps_in_log(out)
        wait_for_steps(out, before + 3, process)
        time.sleep(chance.uniform(0.0, 0.05))
        kill(process)
        assert checkpoints(out)
        for folder in checkpoints(out):
            assert {"config.json", "model.safetensors", "optimizer.safetensors", "trainer_state.json"} <= {
                path.name for path in (out / folder).iterdir()
            }
        assert last_checkpoint(out).is_dir()
        evaluated = aurora("eval", out, "--data", text, "--threads", 1)
        assert evaluated.returncode == 0, evaluated.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_saves_says_how_to_go_on_and_the_rest_is_the_same(text, tmp_path, number):
    whole = uninterrupted(text, tmp_path, "--keep", 1)
    out = tmp_path / "stopped"
    process = start("train", "--data", text, "--out", out, *SMALL, *FLAGS, "--keep", 1)
    wait_for_steps(out, 5, process)
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert f"aurora train --resume --out {out}" in errors.splitlines()[-1]
    steps = steps_in_log(out)
    assert 5 <= steps < STEPS
    assert last_checkpoint(out).name == f"checkpoint-{steps:06d}"
    hint = re.search(r"aurora (train --resume --out \S+)", errors).group(1)
    result = aurora(*hint.split())
    assert result.returncode == 0, result.stderr
    assert_same_run(whole, out)


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_a_second_interrupt_kills(text, tmp_path, second):
    out = tmp_path / "run"
    process = start("train", "--data", text, "--out", out, "--width", 256, "--layers", 4, "--heads", 4, "--context", 256,
                    "--batch", 64, "--threads", 1, "--steps", 100)
    end = time.monotonic() + 60
    while not (out / "log.jsonl").exists() and time.monotonic() < end:
        time.sleep(0.01)
    time.sleep(0.5)  # into the first step, which takes many seconds
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    process.send_signal(second)
    process.communicate(timeout=10)
    assert process.returncode == -second


def test_a_finished_run_says_so(run):
    before = (run / "log.jsonl").read_bytes()
    result = aurora("train", "--resume", "--out", run)
    assert result.returncode == 0, result.stderr
    assert "already finished" in result.stdout + result.stderr
    assert (run / "log.jsonl").read_bytes() == before


def test_resume_may_change_steps_intervals_and_keep(text, tmp_path):
    out = trained(text, tmp_path / "run", "--steps", 4)
    result = aurora("train", "--resume", "--out", out, "--steps", 8, "--eval-every", 3, "--save-every", 2, "--keep", 1,
                    "--diagnose-every", 2)
    assert result.returncode == 0, result.stderr
    records = log_of(out)
    assert [record["step"] for record in of_kind(records, "train")] == list(range(1, 9))
    assert [record["step"] for record in of_kind(records, "eval") if record["step"] > 4] == [6, 8]
    assert checkpoints(out) == ["checkpoint-000008"]
    assert len(of_kind(records, "summary")) == 1
    assert records[-1]["kind"] == "summary" and records[-1]["steps"] == 8


@pytest.mark.parametrize(
    ("flags", "key"),
    [
        (["--seed", 1], "train.seed"),
        (["--width", 64], "model.width"),
        (["--lr", 0.03], "optim.lr"),
        (["--batch", 2], "train.batch"),
        (["--optimizer", "muon"], "optim.optimizer"),
        (["--adamw-lr", 0.001], "adamw.lr"),
        (["--set", "optim.pp_iterations=3"], "optim.pp_iterations"),
    ],
)
def test_resume_refuses_another_configuration_and_names_the_key(run, flags, key):
    before = {path.name: path.stat().st_mtime_ns for path in run.iterdir()}
    result = aurora("train", "--resume", "--out", run, "--steps", 30, *flags)
    assert_one_line(result, 2, key)
    assert {path.name: path.stat().st_mtime_ns for path in run.iterdir() if path.name in before} == before


def test_resume_refuses_other_text(text, tmp_path):
    out = trained(text, tmp_path / "run", "--steps", 2)
    other = tmp_path / "other.txt"
    other.write_text(text.read_text()[::-1])
    result = aurora("train", "--resume", "--out", out, "--steps", 4, "--data", other)
    assert_one_line(result, 2, "data.paths")


def test_resume_of_nothing_is_one_clear_line(tmp_path):
    result = aurora("train", "--resume", "--out", tmp_path / "nothing")
    assert_one_line(result, 2, tmp_path / "nothing", "config.toml")
    assert not (tmp_path / "nothing").exists()


def test_resume_with_a_cut_off_last_line_in_the_log(text, tmp_path):
    whole = uninterrupted(text, tmp_path)
    out = tmp_path / "run"
    process = start("train", "--data", text, "--out", out, *SMALL, *FLAGS)
    wait_for_steps(out, 18, process)
    kill(process)
    with open(out / "log.jsonl", "ab") as log:
        log.write(b'{"kind":"train","step":19,"lo')
    result = aurora("train", "--resume", "--out", out)
    assert result.returncode == 0, result.stderr
    assert_same_run(whole, out)


def test_a_run_is_not_overwritten_unless_asked(text, tmp_path):
    out = trained(text, tmp_path / "run", "--steps", 2)
    before = (out / "log.jsonl").read_bytes()
    assert_one_line(train(text, out, "--steps", 3), 2, out, "--resume", "--overwrite")
    assert (out / "log.jsonl").read_bytes() == before
    trained(text, out, "--steps", 3, "--overwrite")
    assert [record["step"] for record in of_kind(log_of(out), "train")] == [1, 2, 3]
    assert checkpoints(out) == ["checkpoint-000003"]
