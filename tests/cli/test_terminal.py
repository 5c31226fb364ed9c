"""Version, doctor, help, and what a terminal shows."""

import json
import os
import pty
import re
import signal
import subprocess

from conftest import SMALL, aurora, command, last_checkpoint, log_of, start, wait_for_steps

OPTIMIZERS = ("adamw", "muon", "normuon", "u-normuon", "aurora", "riemannian-aurora")


def test_the_version_names_blas_and_torch():
    result = aurora("--version")
    assert result.returncode == 0
    lines = result.stdout.splitlines()
    assert re.fullmatch(r"aurora \d+\.\d+\.\d+", lines[0])
    assert re.match(r"BLAS: .*(oneMKL|OpenBLAS)", lines[1])
    assert re.match(r"torch \d+\.\d+", lines[2])


def test_the_doctor_names_build_blas_torch_and_machine():
    result = aurora("doctor")
    assert result.returncode == 0
    for word in ("version", "compiler", "blas", "torch", "cores", "memory", "missing"):
        assert word in result.stdout
    facts = json.loads(aurora("doctor", "--json").stdout)
    assert facts["version"] in aurora("--version").stdout
    assert isinstance(facts["missing"], list)
    assert facts["cpu"] in result.stdout


def test_help_lists_commands_flags_and_optimizers():
    assert all(word in aurora("--help").stdout for word in ("train", "eval", "sample", "direction", "doctor"))
    result = aurora("train", "--help")
    assert result.returncode == 0 and result.stderr == ""
    flags = ("--data --optimizer --steps --out --preset --width --layers --heads --kv-heads --context --expansion --batch "
             "--accumulate --lr --adamw-lr --warmup --cooldown --clip --seed --threads --eval-every --save-every --keep "
             "--diagnose-every --resume --overwrite --config --set --dry-run --device --dtype --quiet --json --validation")
    for flag in flags.split():
        assert re.search(rf"{flag}\b", result.stdout), flag
    for name in OPTIMIZERS:
        assert name in result.stdout


def on_a_terminal(arguments, environment):
    leader, follower = pty.openpty()
    process = subprocess.Popen(command(*arguments), stdout=subprocess.PIPE, stderr=follower,
                               env={**os.environ, **environment})
    os.close(follower)
    shown = b""
    while True:
        try:
            part = os.read(leader, 4096)
        except OSError:  # the other side is closed
            break
        if not part:
            break
        shown += part
    process.communicate()
    os.close(leader)
    assert process.returncode == 0, shown
    return shown.decode()


def test_a_terminal_shows_one_moving_line(text, tmp_path):
    arguments = ["train", "--data", text, *SMALL, "--steps", 30, "--eval-every", 10, "--diagnose-every", 10]
    shown = on_a_terminal([*arguments, "--out", tmp_path / "a"], {"TERM": "xterm", "NO_COLOR": ""})
    assert "\r" in shown and "\x1b[36m" in shown
    assert "30/30" in shown
    plain = on_a_terminal([*arguments, "--out", tmp_path / "b"], {"TERM": "xterm", "NO_COLOR": "1"})
    assert "30/30" in plain and "\x1b[36m" not in plain


def test_without_a_terminal_there_are_lines_and_no_control_characters(text, tmp_path):
    result = aurora("train", "--data", text, "--out", tmp_path / "run", *SMALL, "--steps", 30, "--eval-every", 10,
                    "--diagnose-every", 10)
    assert result.returncode == 0, result.stderr
    line = result.stderr.splitlines()[-1]
    for word in ("30/30", "loss", "val", "tokens/s", "left", "optimizer", "dead", "starved"):
        assert word in line
    assert "\x1b" not in result.stderr + result.stdout and "\r" not in result.stderr


TRAIN = [*SMALL, "--eval-every", 10, "--diagnose-every", 10, "--save-every", 1000]


def test_progress_that_cannot_be_shown_does_not_end_the_run(text, tmp_path):
    with open("/dev/full", "w") as full:
        arguments = ["train", "--data", text, "--out", tmp_path / "full", *TRAIN, "--steps", 20]
        assert subprocess.run(command(*arguments), stdout=subprocess.PIPE, stderr=full).returncode == 0
    process = start("train", "--data", text, "--out", tmp_path / "pipe", *TRAIN, "--steps", 20)
    process.stderr.close()
    assert process.wait(timeout=120) == 0
    for name in ("full", "pipe"):
        assert log_of(tmp_path / name)[-1]["kind"] == "summary"


def test_a_terminal_that_goes_away_does_not_end_the_run(text, tmp_path):
    leader, follower = pty.openpty()
    out = tmp_path / "run"
    process = subprocess.Popen(command("train", "--data", text, "--out", out, *TRAIN, "--steps", 300),
                               stdout=subprocess.DEVNULL, stderr=follower)
    os.close(follower)
    wait_for_steps(out, 3, process)
    os.close(leader)
    assert process.wait(timeout=120) == 0
    assert last_checkpoint(out).name == "checkpoint-000300"


def test_nothing_meant_for_people_lands_in_a_file_where_descriptors_are_closed(text, tmp_path):
    def close():
        for descriptor in (0, 1, 2):
            os.close(descriptor)

    out = tmp_path / "run"
    subprocess.run(command("train", "--data", text, "--out", out, *TRAIN, "--steps", 20), preexec_fn=close, timeout=120)
    assert log_of(out)[-1]["kind"] == "summary"
    for file in out.rglob("*"):
        assert not file.is_file() or b"tokens/s" not in file.read_bytes(), file


def test_a_hangup_that_was_ignored_stays_so(text, tmp_path):
    out = tmp_path / "run"
    process = start("train", "--data", text, "--out", out, *TRAIN, "--steps", 60,
                    preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    wait_for_steps(out, 3, process)
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=120)
    assert process.returncode == 0
