"""Version, doctor, help, and what a terminal shows."""

import fcntl
import json
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import termios

from conftest import SMALL, aurora, command, last_checkpoint, log_of, start, wait_for_steps

OPTIMIZERS = ("adamw", "muon", "normuon", "u-normuon", "aurora", "riemannian-aurora", "row-normalized")


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
    assert facts["cpu"].endswith("; polar=auto: exact polar factors")


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


def on_a_terminal(arguments, environment, columns=None, output=subprocess.PIPE):
    """What a terminal shows of standard error, and with output=None of standard output too."""
    leader, follower = pty.openpty()
    if columns:
        fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    process = subprocess.Popen(command(*arguments), stdout=output or follower, stderr=follower,
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


COMMANDS = "train compare report eval sample inspect direction bench doctor help completion".split()


def lines_of(shown):
    """Lines as a terminal shows them one after the other, without colours."""
    plain = re.sub(r"\x1b\[\d*[a-zA-Z]", "\n", shown)
    return [line for line in re.split(r"[\r\n]+", plain) if line]


def test_the_time_left_of_a_comparison_is_never_cut(text, tmp_path):
    name = "aurora:balance=release+pp_iterations=3+momentum=0.9+weight_decay=0.0125"
    shown = on_a_terminal(["compare", "--data", text, "--out", tmp_path / "out", "--optimizers", f"{name},muon",
                           "--seeds", 2, *SMALL, "--steps", 40], {"TERM": "xterm"}, columns=80)
    status = [line for line in lines_of(shown) if re.match(r"run \d/\d ", line)]
    assert any("aurora:" in line and "..." in line for line in status)
    assert all(len(line) <= 79 and re.search(r"left (-|[\d.]+ \w+)", line) for line in status), status


def test_prose_is_wrapped_between_words(text, tmp_path):
    shown = on_a_terminal(["compare", "--data", text, "--out", tmp_path / "out", "--optimizers", "muon,aurora",
                           "--seeds", 1, *SMALL, "--steps", 2, "--quiet"], {"TERM": "xterm"}, columns=80, output=None)
    lines = lines_of(shown)
    answer = json.loads((tmp_path / "out/summary.json").read_text())["answer"]
    assert len(answer) > 80
    begin = next(i for i, line in enumerate(lines) if answer.startswith(line))
    told = " ".join(lines[begin:begin + 3])
    assert told.startswith(answer), told
    assert all(len(line) <= 80 for line in lines if "report:" not in line and "warning" not in line), lines


def test_inspect_stays_within_the_width_and_shows_all_on_request(run):
    shown = lines_of(on_a_terminal(["inspect", run, "--quiet"], {"TERM": "xterm"}, columns=80, output=None))
    assert all(len(line) <= 80 for line in shown), shown
    assert any("more columns with --wide" in line for line in shown)
    wide = lines_of(on_a_terminal(["inspect", run, "--quiet", "--wide"], {"TERM": "xterm"}, columns=80, output=None))
    assert any("col. CV" in line for line in wide) and not any("col. CV" in line for line in shown)


def test_help_of_a_command_is_that_of_its_flag():
    for name in COMMANDS:
        told = aurora("help", name)
        assert told.returncode == 0 and told.stdout == aurora(name, "--help").stdout, name
    assert aurora("help").stdout == aurora("--help").stdout
    result = aurora("help", "comparr")
    assert result.returncode == 2 and "did you mean 'compare'?" in result.stderr


def test_the_flags_of_train_are_in_groups():
    told = aurora("help", "train").stdout
    groups = ("Text:", "Model:", "Training:", "Optimizer:", "Records and checkpoints:", "Machine:", "Configuration:")
    places = [told.index("\n" + group) for group in groups]
    assert len(set(places)) == len(groups)
    model = told[told.index("\nModel:"):].split("\n\n")[0]
    assert "--width" in model and "--steps" not in model


def flags_of(name):
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", "\n".join(
        line[:32] for line in aurora(name, "--help").stdout.splitlines())))


def completed(*words):
    script = ('source <("$1" completion bash); shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _aurora; '
              'printf "%s\\n" "${COMPREPLY[@]}"')
    result = subprocess.run(["bash", "-c", script, "bash", *command(), *words], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0 and not result.stderr, result.stderr
    return set(result.stdout.split())


def test_bash_completes_commands_flags_and_values():
    assert completed("aurora", "") >= set(COMMANDS)
    assert completed("aurora", "comp") == {"compare", "completion"}
    for name in ("train", "compare", "inspect"):
        assert completed("aurora", name, "--") == flags_of(name), name
    assert completed("aurora", "compare", "--sweep") == {"--sweep", "--sweep-lr", "--sweep-seeds", "--sweep-jointly"}
    assert completed("aurora", "train", "--optimizer", "") == set(OPTIMIZERS)
    assert completed("aurora", "train", "--preset", "s") == {"small"}
    assert completed("aurora", "help", "d") == {"direction", "doctor"}


def test_zsh_gets_every_flag_with_its_meaning():
    script = aurora("completion", "zsh").stdout
    assert script.startswith("#compdef aurora\n")
    for name in COMMANDS:
        block = script.split(f"    {name})\n")[1].split(";;")[0]
        for flag in flags_of(name):
            assert f"'{flag}[" in block, (name, flag)
    if shutil.which("zsh"):
        assert subprocess.run(["zsh", "-n"], input=script, text=True, timeout=60).returncode == 0
    result = aurora("completion", "fish")
    assert result.returncode == 2 and "bash or zsh" in result.stderr


def test_the_manual_page_has_every_command_and_flag():
    page = aurora("help", "--man").stdout
    assert page.startswith(".TH AURORA 1 ")
    for name in COMMANDS:
        section = page.split(f"\n.SS aurora {name}")[1].split("\n.SS ")[0]
        for flag in flags_of(name) - {"--help"}:
            assert flag.replace("-", "\\-") in section, (name, flag)
    for tool in (["groff", "-man", "-Tutf8", "-ww", "-z"], ["mandoc", "-Tlint", "-Wwarning"]):
        if shutil.which(tool[0]):
            checked = subprocess.run(tool, input=page, text=True, capture_output=True, timeout=60)
            assert checked.stdout + checked.stderr == "", checked


def test_a_sample_ends_its_line(run):
    for tokens in (0, 7):
        told = aurora("sample", run, "--prompt", "the", "--tokens", tokens, text=False).stdout
        assert told.startswith(b"the") and told.endswith(b"\n")
    assert aurora("sample", run, "--prompt", "a\n", "--tokens", 0).stdout == "a\n"
