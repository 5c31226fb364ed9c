"""mpirun aurora train: several ranks give what one gives, and end together however they end."""

import os
import pathlib
import shutil
import signal
import subprocess
import time

import pytest
from conftest import (BINARY, assert_one_line, assert_same_run, aurora, checkpoints, last_checkpoint, log_of, of_kind,
                      small, steps_in_log, trained, wait_for_steps, words)

MPIRUN = shutil.which("mpirun")
pytestmark = pytest.mark.skipif(MPIRUN is None, reason="no mpirun")
LAUNCHER = ["--allow-run-as-root", "--oversubscribe", "--bind-to", "none"]
FLAGS = ["--steps", 30, "--eval-every", 20, "--diagnose-every", 10, "--save-every", 15]
MANY = ["--steps", 100000, "--save-every", 2, "--keep", 2, "--quiet"]


def ranked(count, *arguments):
    return [MPIRUN, *LAUNCHER, "-np", str(count), str(BINARY), *map(str, arguments)]


def start(command, **options):
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def train(count, data, out, *arguments, **options):
    command = ranked(count, "train", "--data", data, "--out", out, *small(*arguments))
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


def trained_by(count, data, out, *arguments, **options):
    result = train(count, data, out, *arguments, **options)
    assert result.returncode == 0, result.stderr
    return out


def pid_of(out, rank):
    """Of the rank that trains into the folder."""
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            arguments = (process / "cmdline").read_bytes().split(b"\0")
            environment = (process / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if arguments[0] == str(BINARY).encode() and str(out).encode() in arguments:
            if f"OMPI_COMM_WORLD_RANK={rank}".encode() in environment:
                return int(process.name)
    raise AssertionError(f"no rank {rank} of {out}")


def ended(process, timeout=30):
    """Exit code and standard error, within a time."""
    _, errors = process.communicate(timeout=timeout)
    return process.returncode, errors


def sentence(errors, *parts):
    """The one line of ours among those of the launcher."""
    lines = [line for line in errors.splitlines() if line.startswith("aurora train: ")]
    assert len(lines) == 1, errors
    for part in parts:
        assert str(part) in lines[0], lines[0]


def state_of(run):
    return (last_checkpoint(run) / "trainer_state.json").read_text()


@pytest.fixture(scope="module")
def whole(text, tmp_path_factory):
    """By one rank with the gradients of six micro-batches, added in their order."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    return trained(text, out, *FLAGS, "--accumulate", 6, "--reduction", "ordered")


@pytest.mark.parametrize("count", [2, 3])
def test_ordered_ranks_have_the_bits_of_one(text, tmp_path, whole, count):
    out = trained_by(count, text, tmp_path / "run", *FLAGS, "--accumulate", 6 // count, "--reduction", "ordered")
    assert_same_run(whole, out)
    assert state_of(whole) == state_of(out)
    assert log_of(out)[0]["ranks"] == count


@pytest.mark.parametrize("optimizer", ["adamw", "normuon", "aurora:balance=carried"])
def test_every_state_travels(text, tmp_path, optimizer):
    flags = ["--optimizer", optimizer, "--steps", 4, "--save-every", 2, "--reduction", "ordered"]
    one = trained(text, tmp_path / "one", *flags, "--accumulate", 2)
    two = trained_by(2, text, tmp_path / "two", *flags)
    assert_same_run(one, two)


def test_any_order_is_the_same_to_rounding(text, tmp_path, whole):
    out = trained_by(3, text, tmp_path / "run", *FLAGS, "--accumulate", 2)
    one, three = of_kind(log_of(whole), "train"), of_kind(log_of(out), "train")
    # Before the first update the losses are the same numbers, added in the same order.
    assert one[0]["loss"] == three[0]["loss"]
    # A sum of 6 gradients has 5 roundings of 2^-24 of its partial sums; gradients of one model on little text are
    # about as long as their mean, so their partial sums are at most 6 / 6 of it.
    assert one[0]["grad_norm"] == pytest.approx(three[0]["grad_norm"], rel=2 * 5 * 2.0**-24)
    assert len(one) == len(three)


def test_more_ranks_than_micro_batches_is_no_mistake(text, tmp_path):
    flags = ["--steps", 4, "--save-every", 2, "--reduction", "ordered"]
    one = trained(text, tmp_path / "one", *flags, "--accumulate", 2)
    three = trained_by(3, text, tmp_path / "three", *flags, "--set", "train.accumulate=2")
    assert_same_run(one, three)
    trained_by(3, text, tmp_path / "any", "--steps", 2, "--set", "train.accumulate=2")


def test_a_run_goes_on_with_other_numbers_of_ranks(text, tmp_path, whole):
    out = tmp_path / "run"
    flags = ["--data", text, *small(*FLAGS, "--accumulate", 2, "--reduction", "ordered")]
    process = start(ranked(3, "train", "--out", out, *flags, "--quiet"))
    wait_for_steps(out, 1, process)
    second = pid_of(out, 1)
    wait_for_steps(out, 2, process)
    os.kill(second, signal.SIGTERM)
    code, errors = ended(process)
    assert code == 130, errors
    assert f"go on with: aurora train --resume --out {out}" in errors
    steps = steps_in_log(out)
    assert 2 <= steps < 30 and last_checkpoint(out).name == f"checkpoint-{steps:06d}"
    result = subprocess.run(ranked(2, "train", "--resume", "--out", out), capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert of_kind(log_of(out), "train")[-1]["step"] == 30
    for file in ("model.safetensors", "optimizer.safetensors", "trainer_state.json"):
        assert (last_checkpoint(out) / file).read_bytes() == (last_checkpoint(whole) / file).read_bytes(), file
    # A finished run says so, on all ranks.
    result = subprocess.run(ranked(2, "train", "--resume", "--out", out), capture_output=True, text=True, timeout=60)
    assert result.returncode == 0 and result.stdout.count("already finished") == 1, result.stderr


def test_a_rank_that_is_killed_ends_all_and_the_last_checkpoint_is_good(text, tmp_path):
    out = tmp_path / "run"
    process = start(ranked(2, "train", "--data", text, "--out", out, *small(*MANY)))
    wait_for_steps(out, 5, process)
    os.kill(pid_of(out, 1), signal.SIGKILL)
    code, errors = ended(process)
    assert code not in (0, 130), errors
    step = int(last_checkpoint(out).name[-6:])
    result = aurora("train", "--resume", "--out", out, "--steps", step + 2)
    # Another number of steps is another schedule, so only its end is looked at.
    assert result.returncode == 0, result.stderr


def test_a_rank_that_hangs_is_named_by_the_time_limit(text, tmp_path):
    out = tmp_path / "run"
    process = start(ranked(2, "train", "--data", text, "--out", out, *small(*MANY), "--rank-timeout", 2))
    wait_for_steps(out, 3, process)
    stopped = pid_of(out, 1)
    os.kill(stopped, signal.SIGSTOP)
    began = time.monotonic()
    try:
        code, errors = ended(process)
    finally:
        try:
            os.kill(stopped, signal.SIGKILL)
        except ProcessLookupError:
            pass
    assert code == 1 and time.monotonic() - began < 15, errors
    sentence(errors, "rank 0 of 2, in step ", "did not answer within 2 s", f"last checkpoint is {out}")


def test_a_full_disk_of_the_first_rank_ends_all(text, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() != 0 or os.system(f"mount -t tmpfs -o size=1200k tmpfs {disk} 2>/dev/null") != 0:
        pytest.skip("a small file system needs root and the right to mount")
    try:
        result = train(2, text, disk / "run", "--steps", 50, "--save-every", 1, "--quiet")
        assert result.returncode == 1
        sentence(result.stderr, "No space left", last_checkpoint(disk / "run"))
        evaluated = aurora("eval", disk / "run", "--data", text)
        assert evaluated.returncode == 0, evaluated.stderr
    finally:
        os.system(f"umount {disk}")


def both(first, second, wdirs=("/", "/")):
    """Two ranks with arguments of their own."""
    command = [MPIRUN, *LAUNCHER]
    for arguments, folder in zip((first, second), wdirs):
        command += [*([":"] if len(command) > len(LAUNCHER) + 1 else []), "-np", "1", "-wdir", str(folder), str(BINARY),
                    *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return result


def test_ranks_that_disagree_are_refused(text, tmp_path):
    out = tmp_path / "run"
    arguments = ["train", "--data", text, "--out", out, *small("--steps", 4)]
    result = both(arguments, [*arguments, "--seed", 7])
    assert result.returncode == 2, result.stderr
    sentence(result.stderr, "rank 1 has train.seed = 7 instead of 0 on rank 0")
    assert not checkpoints(out)


def test_ranks_that_read_other_text_are_refused(text, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "text.txt").write_text(words(3000, seed=ord(name)))
    arguments = ["train", "--data", "/proc/self/cwd/text.txt", "--out", tmp_path / "run", *small("--steps", 4)]
    result = both(arguments, arguments, (tmp_path / "a", tmp_path / "b"))
    assert result.returncode == 2, result.stderr
    sentence(result.stderr, "rank 1 has other text than rank 0")


def test_an_error_of_one_rank_ends_all_with_its_words(text, tmp_path):
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "text.txt").write_text(words(3000, seed=1))
    arguments = ["train", "--data", "/proc/self/cwd/text.txt", "--out", tmp_path / "run", *small("--steps", 4)]
    result = both(arguments, arguments, (tmp_path / "here", tmp_path))
    assert result.returncode == 1, result.stderr
    sentence(result.stderr, "rank 1: ", "/proc/self/cwd/text.txt")


def test_a_mistake_of_all_is_said_once(text, tmp_path):
    result = train(2, text, tmp_path / "run", "--steps", 0)
    assert result.returncode == 2
    sentence(result.stderr, "train.steps")
    trained(text, tmp_path / "there", "--steps", 2)
    result = train(2, text, tmp_path / "there", "--steps", 2)
    assert result.returncode == 2
    sentence(result.stderr, "holds a run")


def test_a_divergence_is_one_of_all(text, tmp_path):
    result = train(2, text, tmp_path / "run", "--steps", 12, "--optimizer", "adamw:lr=1e30", "--clip", 0, "--set",
                   "train.warmup=0", "--quiet")
    assert result.returncode == 3, result.stderr
    sentence(result.stderr, "not finite")
    assert log_of(tmp_path / "run")[-1]["kind"] == "diverged"


def test_other_commands_are_the_work_of_one_process(text, tmp_path):
    result = subprocess.run(ranked(2, "compare", "--data", text, "--out", tmp_path / "c", "--optimizers", "muon"),
                            capture_output=True, text=True, timeout=60)
    assert result.returncode == 2, result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("aurora compare: ")]
    assert len(lines) == 1 and "start it without mpirun" in lines[0] and "--jobs" in lines[0], result.stderr
    assert not (tmp_path / "c").exists()


def test_one_process_of_a_launcher_is_one_rank(text, tmp_path):
    alone = dict(os.environ, SLURM_NTASKS="4", SLURM_PROCID="0")  # the script of a batch job, not a step of it
    trained(text, tmp_path / "run", "--steps", 2, env=alone)
    assert log_of(tmp_path / "run")[0]["ranks"] == 1
    trained_by(1, text, tmp_path / "one", "--steps", 2)
    other = dict(os.environ, PMI_SIZE="2", PMI_RANK="0")  # another MPI's launcher
    result = aurora("train", "--data", text, "--out", tmp_path / "two", *small("--steps", 2), env=other)
    assert_one_line(result, 1, "2 processes", "1")
