"""Threads that wait sleep soon, unless the environment says otherwise."""

import os
import signal

import pytest
from conftest import log_of, small, start, wait_for_steps

LONG = ["--steps", 4000, "--eval-every", 4000, "--diagnose-every", 4000]


@pytest.fixture
def running(text, tmp_path):
    """Starts a run with these variables alone of the two, and waits for its first steps."""
    processes = []

    def begin(**variables):
        kept = {name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
        out = tmp_path / f"run-{len(processes)}"
        process = start("train", "--data", text, "--out", out, *small(*LONG), env={**kept, **variables})
        processes.append(process)
        wait_for_steps(out, 1, process)
        return process, out

    yield begin
    for process in processes:
        process.send_signal(signal.SIGKILL)
        process.communicate()


def environment_of(process):
    with open(f"/proc/{process.pid}/environ", "rb") as file:
        return dict(entry.split(b"=", 1) for entry in file.read().split(b"\0") if b"=" in entry)


def test_the_command_tells_libgomp_before_it_is_loaded_and_stays_the_same_process(running):
    process, out = running(WITNESS="kept")
    seen = environment_of(process)
    assert seen[b"GOMP_SPINCOUNT"] == b"1000" and seen[b"WITNESS"] == b"kept"
    assert open(f"/proc/{process.pid}/comm").read().strip() == "aurora"
    arguments = open(f"/proc/{process.pid}/cmdline").read().split("\0")
    assert arguments[:-1] == [str(part) for part in process.args]
    assert log_of(out)[0]["wait_policy"] == "GOMP_SPINCOUNT=1000"


@pytest.mark.parametrize(("name", "value"), [("OMP_WAIT_POLICY", "ACTIVE"), ("GOMP_SPINCOUNT", "7")])
def test_what_the_environment_says_holds(running, name, value):
    process, out = running(**{name: value})
    seen = environment_of(process)
    assert [seen.get(other) for other in (b"OMP_WAIT_POLICY", b"GOMP_SPINCOUNT")].count(None) == 1
    assert seen[name.encode()] == value.encode()
    assert log_of(out)[0]["wait_policy"] == f"{name}={value}"
