"""Bad input: one clear line on standard error, exit code 1 or 2, nothing half-written."""

import json
import os
import pathlib
import resource
import shutil
import signal
import struct
import subprocess
import tempfile

import pytest
from conftest import (assert_one_line, aurora, checkpoints, command, last_checkpoint, log_of, of_kind, small, train,
                      trained)


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        (["--optimizer", "auroa"], ["auroa", "aurora"]),
        (["--optimizer", "aurora:pp_iteration=3"], ["pp_iteration", "pp_iterations"]),
        (["--optimizer", "aurora:pp_iterations=x"], ["pp_iterations", "x"]),
        (["--optimizer", "muon:polar=exactly"], ["exactly", "exact"]),
        (["--optimizer", ""], ["--optimizer"]),
        (["--stepz", 5], ["--stepz", "--steps"]),
        (["--set", "optim.momentm=0.9"], ["optim.momentm", "'momentum'"]),
        (["--set", "steps"], ["--set", "steps"]),
        (["--set", "train.stepz=3"], ["train.stepz", "train.steps"]),
        (["--preset", "tinny"], ["tinny", "tiny"]),
        (["--steps", 0], ["--steps", "0"]),
        (["--steps", -3], ["--steps", "-3"]),
        (["--steps", 1.5], ["--steps", "1.5"]),
        (["--steps", "many"], ["--steps", "many"]),
        (["--steps", "99999999999999999999"], ["--steps", "99999999999999999999"]),
        (["--width", 0], ["--width", "0"]),
        (["--width", -32], ["--width", "-32"]),
        (["--width", 33], ["33", "2"]),
        (["--width", 10**12], ["width", "1000000000000"]),
        (["--width", 2 * 10**9, "--heads", 2], ["2000000000"]),
        (["--layers", 10**10], ["10000000000"]),
        (["--layers", 0], ["--layers"]),
        (["--heads", 0], ["--heads"]),
        (["--heads", 3], ["heads", "3", "32"]),
        (["--heads", 4, "--kv-heads", 3], ["kv_heads", "3"]),
        (["--kv-heads", -1], ["--kv-heads"]),
        (["--context", 0], ["--context"]),
        (["--context", 10**15], ["context", "1000000000000000"]),
        (["--batch", 0], ["--batch"]),
        (["--batch", 10**15], ["batch", "1000000000000000"]),
        (["--accumulate", 0], ["--accumulate"]),
        (["--expansion", 0], ["--expansion"]),
        (["--expansion", "nan"], ["--expansion", "nan"]),
        (["--lr", 0], ["optim.lr", "> 0"]),
        (["--lr", -1], ["--lr", "-1"]),
        (["--lr", "nan"], ["--lr", "nan"]),
        (["--lr", "inf"], ["--lr", "inf"]),
        (["--lr", "0.02x"], ["--lr", "0.02x"]),
        (["--adamw-lr", "nan"], ["--adamw-lr", "nan"]),
        (["--set", "optim.momentum=1.5"], ["momentum", "1.5"]),
        (["--set", "optim.pp_beta=0"], ["pp_beta"]),
        (["--warmup", 1.5], ["--warmup", "1.5"]),
        (["--warmup", 0.7, "--cooldown", 0.7], ["warmup", "cooldown"]),
        (["--clip", -1], ["--clip"]),
        (["--threads", -1], ["--threads"]),
        (["--threads", 10**9], ["threads"]),
        (["--dtype", "f8"], ["--dtype", "f8"]),
        (["--device", "abacus"], ["abacus", "only cpu"]),
        (["--device", "cuda:63"], ["cuda:63", "only cpu"]),
        (["--device", "cuda:"], ["--device", "cuda:"]),
        (["--seed", -1], ["--seed", "-1"]),
        (["--eval-every", 0], ["--eval-every"]),
        (["--keep", -1], ["--keep"]),
        (["--resume", "--overwrite"], ["--resume", "--overwrite"]),
        (["surplus", "--steps", 3], ["surplus"]),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else None,
)
def test_a_wrong_flag_or_value_is_usage(text, tmp_path, flags, parts):
    out = tmp_path / "run"
    head = flags[:1] if flags[0] == "surplus" else []
    result = aurora("train", *head, "--data", text, "--out", out, *small(*flags[len(head):]))
    assert_one_line(result, 2, *parts)
    assert not out.exists()


def assert_error(result, *parts):
    assert result.returncode in (1, 2), (result.returncode, result.stderr)
    assert_one_line(result, result.returncode, *parts)


def test_what_is_missing_is_named(text, tmp_path):
    assert_one_line(aurora(), 2, "train", "eval", "sample", "direction", "doctor")
    assert_one_line(aurora("trian"), 2, "trian", "train")
    assert_one_line(aurora("train", "--out", tmp_path / "run"), 2, "--data")
    assert_one_line(aurora("train", "--data", text), 2, "--out")
    assert_one_line(aurora("train", "--steps"), 2, "--steps", "value")
    assert_one_line(aurora("train", "--steps", 1, "--steps", 2), 2, "--steps", "more than once")
    assert_one_line(aurora("eval"), 2, "checkpoint")
    assert_one_line(aurora("sample"), 2, "checkpoint")
    assert_one_line(aurora("direction", "--out", "x"), 2, "--in")
    assert not list(tmp_path.iterdir())


def write(path, content):
    path.write_bytes(content)
    return path


BAD_DATA = {
    "a path that is not there": lambda folder: folder / "missing.txt",
    "an empty file": lambda folder: write(folder / "empty.txt", b""),
    "an empty folder": lambda folder: (folder / "empty").mkdir() or folder / "empty",
    "only binaries": lambda folder: write(folder / "program.bin", b"\x7fELF\xff\xfe\x80\x81" * 20000),
}


@pytest.mark.parametrize("make", BAD_DATA.values(), ids=BAD_DATA.keys())
def test_data_that_cannot_be_trained_on(tmp_path, make):
    path = make(tmp_path)
    assert_error(train(path, tmp_path / "run"), path)
    assert not (tmp_path / "run").exists()


def test_less_than_one_batch(tmp_path):
    assert_error(train(write(tmp_path / "short.txt", b"hello"), tmp_path / "run"), "bytes", "33")
    assert not (tmp_path / "run").exists()


def test_a_folder_with_only_binaries_says_how_many_were_skipped(tmp_path):
    folder = tmp_path / "bin"
    folder.mkdir()
    for i in range(3):
        write(folder / f"{i}.bin", b"\xff\xfe\x80" * 20000)
    assert_error(train(folder, tmp_path / "run"), folder, "3")


def test_a_file_nobody_may_read(text):
    # Root may read everything, so there the command runs as another user, in a folder that user can reach.
    user = {"user": 65534} if os.geteuid() == 0 else {}
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        folder.chmod(0o777)
        secret = pathlib.Path(shutil.copy(text, folder / "secret.txt"))
        secret.chmod(0)
        try:
            usable = aurora("--version", **user).returncode == 0
        except PermissionError:
            usable = False
        if not usable:
            pytest.skip("another user cannot run the command where it lies")
        assert_error(train(secret, folder / "run", **user), secret)
        assert not (folder / "run").exists()


def test_an_output_folder_that_cannot_be_made(text, tmp_path):
    file = write(tmp_path / "file", b"x")
    assert_error(train(text, file / "run"), file)
    assert_error(train(text, file), file)
    assert file.read_bytes() == b"x"


def test_an_output_folder_with_something_else_in_it_keeps_it(text, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    write(folder / "photo.jpg", b"precious")
    result = train(text, folder, "--steps", 1, "--overwrite")
    assert result.returncode in (0, 1, 2)
    assert (folder / "photo.jpg").read_bytes() == b"precious"


def test_a_configuration_file_that_is_not_one(text, tmp_path):
    missing = tmp_path / "missing.toml"
    assert_error(aurora("train", "--config", missing, "--data", text, "--out", tmp_path / "run"), missing)
    for content in (b"not [ toml", b"[train]\nstepz = 3\n", b"[train]\nsteps = 'x'\n", b"\xff\xfe\x00"):
        file = write(tmp_path / "run.toml", content)
        assert_error(aurora("train", "--config", file, "--data", text, "--out", tmp_path / "run"), file.name)
    assert not (tmp_path / "run").exists()


def test_a_loss_gone_nan_exits_3_and_names_the_last_good_checkpoint(text, tmp_path):
    out = tmp_path / "run"
    result = train(text, out, "--steps", 50, "--warmup", 0.5, "--save-every", 1, "--lr", 1e18, "--adamw-lr", 1e18, "--quiet")
    assert_one_line(result, 3, "loss", out / "checkpoint-")
    assert str(last_checkpoint(out)) in result.stderr
    evaluated = aurora("eval", out, "--data", text)
    assert evaluated.returncode == 0, evaluated.stderr
    steps = [record["step"] for record in of_kind(log_of(out), "train")]
    assert steps == list(range(1, len(steps) + 1))


@pytest.fixture
def half_run(text, tmp_path):
    return trained(text, tmp_path / "run", "--steps", 4, "--keep", 1)


def limited(megabytes):
    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write beyond the limit fails instead
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(megabytes * 2**20), int(megabytes * 2**20)))
    return limit


@pytest.mark.parametrize("megabytes", [0.05, 0.25])
def test_a_save_that_fails_leaves_the_previous_checkpoint_good(half_run, megabytes):
    before = {path.name: path.read_bytes() for path in (half_run / "checkpoint-000004").iterdir()}
    assert max(map(len, before.values())) > megabytes * 2**20
    result = aurora("train", "--resume", "--out", half_run, "--steps", 8, "--quiet", preexec_fn=limited(megabytes))
    assert_one_line(result, 1, half_run, "File too large")
    assert checkpoints(half_run) == ["checkpoint-000004"]
    assert last_checkpoint(half_run).name == "checkpoint-000004"
    assert {path.name: path.read_bytes() for path in (half_run / "checkpoint-000004").iterdir()} == before
    result = aurora("train", "--resume", "--out", half_run, "--steps", 8)
    assert result.returncode == 0, result.stderr
    assert checkpoints(half_run) == ["checkpoint-000008"]


def test_a_full_disk_leaves_the_previous_checkpoint_good(text, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() != 0 or os.system(f"mount -t tmpfs -o size=1200k tmpfs {disk} 2>/dev/null") != 0:
        pytest.skip("a small file system needs root and the right to mount")
    try:
        result = train(text, disk / "run", "--steps", 50, "--save-every", 1, "--quiet")
        assert_one_line(result, 1, disk / "run", "No space left")
        good = last_checkpoint(disk / "run")
        assert good.is_dir()
        evaluated = aurora("eval", disk / "run", "--data", text)
        assert evaluated.returncode == 0, evaluated.stderr
    finally:
        os.system(f"umount {disk}")


def test_a_full_standard_output_is_an_error(run, text):
    if not pathlib.Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    with open("/dev/full", "w") as full:
        result = subprocess.run(command("eval", run, "--data", text), stdout=full, stderr=subprocess.PIPE, text=True)
    assert_one_line(result, 1, "No space left")


def safetensors(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(shape, begin, end, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


HOSTILE = {
    "empty": b"",
    "seven bytes": b"1234567",
    "header longer than the file": safetensors({"w": entry([2, 2], 0, 16)}, b"\0" * 16, length=10**6),
    "header length near 2^64": safetensors({}, length=2**64 - 1),
    "header is no JSON": safetensors(b"{nonsense"),
    "header is a list": safetensors(b"[1, 2]"),
    "deep JSON": safetensors(b'{"w":' + b"[" * 100000 + b"]" * 100000 + b"}"),
    "truncated data": safetensors({"w": entry([4, 4], 0, 64)}, b"\0" * 40),
    "data left over": safetensors({"w": entry([2, 2], 0, 16)}, b"\0" * 20),
    "overlapping ranges": safetensors({"a": entry([2, 2], 0, 16), "b": entry([2, 2], 8, 24)}, b"\0" * 24),
    "a hole": safetensors({"a": entry([2, 2], 0, 16), "b": entry([2, 2], 24, 40)}, b"\0" * 40),
    "overflow in the shape": safetensors({"w": entry([2**32, 2**32], 0, 16)}, b"\0" * 16),
    "overflow to the right size": safetensors({"w": entry([2**62 + 1, 4], 0, 16)}, b"\0" * 16),
    "a negative shape": safetensors({"w": entry([-2, -2], 0, 16)}, b"\0" * 16),
    "range backwards": safetensors({"w": entry([2, 2], 16, 0)}, b"\0" * 16),
    "range too long for the shape": safetensors({"w": entry([2, 2], 0, 24)}, b"\0" * 24),
    "unknown dtype": safetensors({"w": entry([2, 2], 0, 16, "F33")}, b"\0" * 16),
    "a missing key": safetensors({"w": {"dtype": "F32", "shape": [2, 2]}}, b"\0" * 16),
    "a duplicate key": safetensors(
        b'{"w":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},"w":{"dtype":"F32","shape":[2,2],'
        b'"data_offsets":[0,16]}}', b"\0" * 16),
    "a name of bad UTF-8": safetensors(b'{"\xff":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}}', b"\0" * 16),
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_safetensors_file_is_refused(tmp_path, content):
    file = write(tmp_path / "hostile.safetensors", content)
    result = aurora("direction", "--in", file, "--optimizer", "muon", "--out", tmp_path / "u.safetensors")
    assert_one_line(result, 1, file.name)
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


@pytest.mark.parametrize("name", ["header longer than the file", "truncated data", "overlapping ranges", "empty"])
def test_a_hostile_model_is_refused(run, text, tmp_path, name):
    copy = tmp_path / "checkpoint"
    shutil.copytree(last_checkpoint(run), copy)
    write(copy / "model.safetensors", HOSTILE[name])
    for arguments in (["eval", copy, "--data", text], ["sample", copy, "--prompt", "a", "--tokens", 3]):
        assert_one_line(aurora(*arguments), 1, "model.safetensors")


def test_a_truncated_model_is_refused(run, text, tmp_path):
    copy = tmp_path / "checkpoint"
    shutil.copytree(last_checkpoint(run), copy)
    os.truncate(copy / "model.safetensors", 3000)
    assert_one_line(aurora("eval", copy, "--data", text), 1, "model.safetensors")


def test_a_truncated_optimizer_state_is_refused_on_resume(half_run):
    os.truncate(half_run / "checkpoint-000004/optimizer.safetensors", 3000)
    log = (half_run / "log.jsonl").read_bytes()
    result = aurora("train", "--resume", "--out", half_run, "--steps", 8, "--quiet")
    assert_error(result, "optimizer.safetensors")
    assert (half_run / "log.jsonl").read_bytes() == log
    assert checkpoints(half_run) == ["checkpoint-000004"]


def test_a_checkpoint_of_another_model_is_refused(run, text, tmp_path):
    from safetensors.numpy import load_file, save_file

    original = load_file(last_checkpoint(run) / "model.safetensors")

    def copy_with(change):
        folder = tmp_path / "checkpoint"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(last_checkpoint(run), folder)
        tensors = dict(original)
        change(tensors)
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return aurora("eval", folder, "--data", text)

    name = "model.layers.0.mlp.up_proj.weight"
    assert_one_line(copy_with(lambda t: t.update({name: t[name][:-1]})), 1, name)
    assert_one_line(copy_with(lambda t: t.update({name: t[name].astype("float64")})), 1, name)
    assert_one_line(copy_with(lambda t: t.pop(name)), 1, name)
    assert_one_line(copy_with(lambda t: t.update({"surplus.weight": t[name]})), 1, "surplus.weight")


def test_a_bad_checkpoint_argument_is_one_line(run, text, tmp_path):
    for arguments in (["eval", tmp_path / "none", "--data", text], ["sample", tmp_path / "none", "--prompt", "a"],
                      ["eval", tmp_path, "--data", text]):
        assert_error(aurora(*arguments), tmp_path)
    for content in (b"", b"not json", b"[]", b'{"model_type":"gpt2"}', b'{"hidden_size": -4}'):
        copy = tmp_path / "checkpoint"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(last_checkpoint(run), copy)
        write(copy / "config.json", content)
        assert_error(aurora("eval", copy, "--data", text), "config.json")


def test_a_bad_value_of_sample_and_eval_is_one_line(run, text, tmp_path):
    assert_one_line(aurora("sample", run, "--prompt", "a", "--tokens", -1), 2, "--tokens", "-1")
    assert_one_line(aurora("sample", run, "--prompt", "a", "--tokens", "x"), 2, "--tokens", "x")
    assert_one_line(aurora("sample", run, "--prompt", "a", "--temperature", "nan"), 2, "--temperature", "nan")
    assert_one_line(aurora("sample", run, "--prompt", "a", "--temperature", -1), 2, "--temperature", "-1")
    assert_one_line(aurora("sample", run, "--promt", "a"), 2, "--promt", "--prompt")
    assert_one_line(aurora("eval", run), 2, "--data")
    assert_error(aurora("eval", run, "--data", tmp_path / "missing"), tmp_path / "missing")
    assert_error(aurora("eval", run, "--data", write(tmp_path / "one", b"x")), "1 bytes", "33")
