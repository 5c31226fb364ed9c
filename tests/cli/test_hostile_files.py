"""Files that ask for too much, or change while they are read: a sentence, soon, and nothing lost."""

import json
import os
import resource
import shutil
import struct

import pytest
from conftest import (SMALL, assert_one_line, aurora, checkpoints, last_checkpoint, log_of, of_kind, start, trained,
                      wait_for_steps)

SECONDS = 60  # for what takes far less, and took far more


def write(path, content):
    path.write_bytes(content)
    return path


def safetensors(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def refused(tmp_path, file, *parts, **options):
    result = aurora("direction", "--in", file, "--optimizer", "muon", "--out", tmp_path / "u", timeout=SECONDS, **options)
    assert_one_line(result, 1, *parts)


def test_metadata_without_end_is_refused(tmp_path):
    entries = ",".join(f'"{i}":""' for i in range(200_000)).encode()
    refused(tmp_path, write(tmp_path / "m.safetensors", safetensors(b'{"__metadata__":{' + entries + b"}}")), "100000")


def test_many_tensors_take_time_in_proportion(tmp_path):
    count = 300_000  # quadratic time is a minute and more of a core, the time in proportion some seconds
    header = {f"t{i}": {"dtype": "F32", "shape": [1, 2], "data_offsets": [8 * i, 8 * i + 8]} for i in range(count)}
    file = write(tmp_path / "many.safetensors", safetensors(header, struct.pack("<f", 1.0) * 2 * count))
    limit = lambda: resource.setrlimit(resource.RLIMIT_CPU, (30, 30))
    result = aurora("direction", "--in", file, "--optimizer", "muon", "--out", tmp_path / "u", "--threads", 1, "--json",
                    preexec_fn=limit)
    assert result.returncode == 0, (result.returncode, result.stderr)
    assert len(json.loads(result.stdout)["tensors"]) == count


def test_names_cannot_drive_a_terminal(tmp_path):
    names = ["esc\x1b[2J", "csi\x9b31m", "turned\u202etxt", "zero\u200bwidth"]
    header = {name: {"dtype": "F32", "shape": [2, 1], "data_offsets": [8 * i, 8 * i + 8]} for i, name in enumerate(names)}
    header["skip\x1b]0;x\x07"] = {"dtype": "I8", "shape": [0], "data_offsets": [8 * len(names), 8 * len(names)]}
    file = write(tmp_path / "names.safetensors", safetensors(header, struct.pack("<f", 1.0) * 2 * len(names)))
    for arguments in (["direction", "--in", file, "--out", tmp_path / "u", "--optimizer", "muon"], ["inspect", file]):
        result = aurora(*arguments)
        assert result.returncode == 0, result.stderr
        for character in "\x1b\x9b\u202e\u200b\x07":
            assert character not in result.stdout + result.stderr
        assert "\\u{202e}" in result.stdout and "\\x1b" in result.stdout


@pytest.mark.parametrize("text", ["x" + ".a" * 200_000 + " = 1\n", "k" * 900_000 + " = 1\n", "#" * 2_000_000],
                         ids=["parts", "key", "size"])
def test_a_configuration_that_asks_for_too_much(text, tmp_path):
    config = write(tmp_path / "run.toml", text.encode())
    result = aurora("train", "--config", config, "--out", tmp_path / "run", timeout=SECONDS)
    assert_one_line(result, 1, config)


def test_pipes_are_not_waited_for(text, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    result = aurora("train", "--config", tmp_path / "pipe", "--out", tmp_path / "run", timeout=SECONDS)
    assert_one_line(result, 1, tmp_path / "pipe", "regular file")
    out = trained(text, tmp_path / "run", "--steps", 2)
    (out / "log.jsonl").unlink()
    os.mkfifo(out / "log.jsonl")
    assert_one_line(aurora("train", "--resume", "--out", out, "--quiet", timeout=SECONDS), 1, "log.jsonl")


def test_a_deep_record_is_refused_by_its_line(text, tmp_path):
    out = trained(text, tmp_path / "run", "--steps", 2)
    deep = b"[" * 200_000 + b"]" * 200_000
    for line in (b'{"kind":"train","step":1,"x":' + deep + b"}", b'{"kind":"neurons","step":1,"layer":' + deep + b"}"):
        before = (out / "log.jsonl").read_bytes()
        with open(out / "log.jsonl", "ab") as log:
            log.write(line + b"\n")
        result = aurora("train", "--resume", "--out", out, "--steps", 4, "--quiet", timeout=SECONDS)
        assert_one_line(result, 1, f"log.jsonl: line {before.count(10) + 1} is nested deeper than 16")
        (out / "log.jsonl").write_bytes(before)


def test_a_deep_state_is_refused(text, tmp_path):
    out = trained(text, tmp_path / "run", "--steps", 2)
    state = last_checkpoint(out) / "trainer_state.json"
    state.write_text('{"step": 2, "optimizer_steps": ' + "[" * 200_000 + "]" * 200_000 + "}")
    assert_one_line(aurora("train", "--resume", "--out", out, "--steps", 4, "--quiet", timeout=SECONDS), 1, state)


@pytest.mark.parametrize("changes, words", [
    ({"hidden_size": 2**26, "intermediate_size": 2**28}, ["tensor model.embed_tokens.weight is 256x32", "256x67108864"]),
    ({"intermediate_size": 2**30}, ["mlp.gate_proj.weight is 128x32", "1073741824x32"]),
    ({"num_hidden_layers": 2**30}, ['config.json: "num_hidden_layers" is 1073741824', "21 tensors"]),
    ({"num_hidden_layers": 3}, ["tensor model.layers.2.input_layernorm.weight of the model is missing"]),
    ({"num_attention_heads": 2**20, "num_key_value_heads": 1}, ["config.json", "do not divide"]),
], ids=["width", "neurons", "layers", "one-layer", "heads"])  # fmt: skip
def test_a_model_larger_than_its_weights_is_not_allocated(changes, words, run, text, tmp_path):
    copy = of_another_shape(run, tmp_path, changes)
    for arguments in (["eval", copy, "--data", text], ["sample", copy, "--prompt", "a"]):
        assert_one_line(aurora(*arguments, timeout=SECONDS), 1, *words)


def test_positions_that_are_not_used_take_no_memory(run, text, tmp_path):
    # All angles of 2^30 positions are 128 GiB here.
    copy = of_another_shape(run, tmp_path, {"max_position_embeddings": 2**30})
    flags = ["--prompt", "the ", "--tokens", 4, "--temperature", 0]
    result = aurora("sample", copy, *flags, timeout=SECONDS)
    assert result.returncode == 0, result.stderr
    assert result.stdout == aurora("sample", last_checkpoint(run), *flags).stdout
    assert_one_line(aurora("eval", copy, "--data", text, timeout=SECONDS), 2, "needed are 1073741825")


def of_another_shape(run, tmp_path, changes):
    """A copy of the run's last checkpoint whose config.json says something else, and that has no checksums."""
    copy = shutil.copytree(last_checkpoint(run), tmp_path / "checkpoint")
    (copy / "trainer_state.json").unlink()
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | changes))
    return copy


def test_a_little_stack_is_said(text, tmp_path):
    _, most = resource.getrlimit(resource.RLIMIT_STACK)
    little = lambda: resource.setrlimit(resource.RLIMIT_STACK, (65536, most))
    result = aurora("train", "--data", text, "--out", tmp_path / "run", *SMALL, "--steps", 1, preexec_fn=little)
    assert_one_line(result, 1, "stack limit is 64 KiB", "ulimit -s")


@pytest.fixture
def long_text(text, tmp_path):
    """Long enough to be read where it lies."""
    return write(tmp_path / "long.txt", text.read_bytes() * 3)


def stopped_by(change, long_text, out, *flags):
    """A run in which `change` is made after its third step."""
    process = start("train", "--data", long_text, "--out", out, *SMALL, "--steps", 4000, "--save-every", 4000,
                    "--diagnose-every", 4000, "--quiet", *flags)
    wait_for_steps(out, 3, process)
    change()
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1, errors
    return errors


def test_text_that_becomes_shorter_leaves_a_checkpoint(long_text, tmp_path):
    out = tmp_path / "run"
    errors = stopped_by(lambda: os.truncate(long_text, 10), long_text, out, "--eval-every", 4000)
    assert "long.txt: became shorter" in errors and "saved in" in errors
    assert last_checkpoint(out).name == checkpoints(out)[-1]


def test_text_that_is_changed_ends_the_run(long_text, tmp_path):
    out = tmp_path / "run"

    def change():
        with open(long_text, "r+b") as file:
            file.write(b"other words")

    errors = stopped_by(change, long_text, out, "--eval-every", 5)
    assert "long.txt: the text was changed" in errors and "are lost" in errors
    assert checkpoints(out) == []
    steps = of_kind(log_of(out), "train")[-1]["step"]
    assert steps % 5 == 0, "noticed at an evaluation"


def test_a_comparison_on_other_text_is_refused(text, tmp_path):
    data = write(tmp_path / "text.txt", text.read_bytes())
    flags = ["--data", data, "--seeds", 1, "--steps", 3, "--out", tmp_path / "out", *SMALL, "--quiet"]
    assert aurora("compare", *flags, "--optimizers", "muon").returncode == 0
    data.write_bytes(text.read_bytes().replace(b"rose", b"ROSE"))
    result = aurora("compare", *flags, "--optimizers", "muon,aurora")
    assert_one_line(result, 2, data, "runs/muon/seed-0", "different text")
    assert not (tmp_path / "out/runs/aurora").exists()


def test_a_last_seed_beyond_all_seeds_is_refused_at_the_start(text, tmp_path):
    result = aurora("compare", "--data", text, "--optimizers", "muon", "--seeds", 3, "--seed", 9223372036854775806,
                    "--steps", 1, "--out", tmp_path / "out", *SMALL)
    assert_one_line(result, 2, "9223372036854775806")
    assert not (tmp_path / "out").exists()


def test_a_path_that_is_no_text_is_printed_as_json(run):
    import shutil

    folder = os.fsencode(run.parent / "copy") + b"\xff"
    shutil.copytree(os.fsencode(run), folder)
    result = aurora("train", "--resume", "--out", os.fsdecode(folder), "--json")
    assert result.returncode == 0, result.stderr
    assert "\ufffd" in json.loads(result.stdout)["out"]
