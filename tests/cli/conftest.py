"""What the tests of the command share: the binary, small text, small runs."""

import json
import os
import pathlib
import random
import signal
import subprocess
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = pathlib.Path(os.environ.get("AURORA_BINARY", ROOT / "build/release/aurora")).resolve()
SMALL = ["--width", 32, "--layers", 2, "--heads", 2, "--context", 32, "--batch", 4, "--threads", 1]
WORDS = "the a of and to in rose river stone light under over sings keeps falls bright old new while they we".split()


def small(*flags):
    """The flags of a small run; those in `flags` win."""
    kept = [SMALL[i : i + 2] for i in range(0, len(SMALL), 2) if SMALL[i] not in flags]
    return [*sum(kept, []), *flags]


def command(*arguments):
    return [str(BINARY), *(str(argument) for argument in arguments)]


def aurora(*arguments, timeout=300, text=True, **options):
    """Runs the command to its end."""
    return subprocess.run(command(*arguments), capture_output=True, timeout=timeout, text=text, **options)


def train(data, out, *arguments, **options):
    return aurora("train", "--data", data, "--out", out, *small(*arguments), **options)


def trained(data, out, *arguments, **options):
    """A run that has to succeed."""
    result = train(data, out, *arguments, **options)
    assert result.returncode == 0, result.stderr
    return out


def start(*arguments, **options):
    return subprocess.Popen(
        command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def log_of(run):
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def of_kind(records, kind):
    return [record for record in records if record["kind"] == kind]


def steps_in_log(run):
    """How many train records a log being written has."""
    try:
        return (run / "log.jsonl").read_bytes().count(b'"kind":"train"')
    except FileNotFoundError:
        return 0


def wait_for_steps(run, steps, process, timeout=120):
    end = time.monotonic() + timeout
    while steps_in_log(run) < steps and process.poll() is None:
        assert time.monotonic() < end, f"no step {steps} within {timeout} s"
        time.sleep(0.002)


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.communicate()


def checkpoints(run):
    return sorted(path.name for path in run.glob("checkpoint-" + 6 * "[0-9]"))


def last_checkpoint(run):
    return run / (run / "last").read_text().strip()


TENSOR_FILES = ("model.safetensors", "optimizer.safetensors")


def assert_same_run(a, b):
    """Equal weights, equal optimizer state and equal losses in every step, bit for bit."""
    assert checkpoints(a) == checkpoints(b)
    for folder in checkpoints(a):
        for file in TENSOR_FILES:
            assert (a / folder / file).read_bytes() == (b / folder / file).read_bytes(), f"{folder}/{file} differs"
    measured = {"started", "step_ms", "optimizer_ms", "tokens_per_second", "seconds", "optimizer_share", "config", "product_ms",
                "load", "ranks"}
    strip = lambda record: {key: value for key, value in record.items() if key not in measured}
    assert [strip(record) for record in log_of(a)] == [strip(record) for record in log_of(b)]


def words(count, seed):
    chosen = random.Random(seed)
    return "".join(chosen.choice(WORDS) + (".\n" if i % 11 == 10 else " ") for i in range(count))


@pytest.fixture(scope="session")
def text(tmp_path_factory):
    """60 kB of text."""
    file = tmp_path_factory.mktemp("text") / "text.txt"
    file.write_text(words(12000, seed=1))
    return file


@pytest.fixture(scope="session")
def run(text, tmp_path_factory):
    """A finished run of 20 steps, for tests that only read it."""
    out = tmp_path_factory.mktemp("runs") / "aurora"
    return trained(text, out, "--steps", 20, "--eval-every", 10, "--diagnose-every", 5, "--save-every", 10)


@pytest.fixture(scope="session")
def adamw_run(text, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "adamw"
    return trained(text, out, "--optimizer", "adamw", "--lr", 0.002, "--steps", 6, "--diagnose-every", 3)


def assert_one_line(result, code, *parts):
    """The exit code, and one line on standard error that has all of `parts`."""
    lines = result.stderr.splitlines()
    assert result.returncode == code, (result.returncode, result.stderr)
    assert len(lines) == 1, result.stderr
    for part in parts:
        assert str(part) in lines[0], lines[0]
