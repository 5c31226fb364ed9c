"""Flags, files and presets lead to the run they name."""

import json
import pathlib
import re
import tomllib

import numpy
import pytest
from conftest import (SMALL, assert_same_run, aurora, checkpoints, log_of, of_kind, start, train, trained,
                      wait_for_steps)


def losses(run):
    return numpy.array([record["loss"] for record in of_kind(log_of(run), "train")])


@pytest.mark.parametrize(
    "flags",
    [
        ["--optimizer", "aurora:pp_iterations=3+balance=carried", "--seed", 3],
        ["--optimizer", "riemannian-aurora", "--kv-heads", 1],
        ["--optimizer", "muon:polar=keller-jordan-5", "--clip", 0.5, "--accumulate", 2],
        ["--optimizer", "u-normuon", "--dtype", "bf16"],
        ["--optimizer", "adamw", "--lr", 0.001, "--set", "adamw.weight_decay=0.1"],
    ],
)
def test_the_written_configuration_repeats_the_run_bit_for_bit(text, tmp_path, flags):
    first = trained(text, tmp_path / "first", "--steps", 6, "--eval-every", 3, *flags)
    result = aurora("train", "--config", first / "config.toml", "--out", tmp_path / "second")
    assert result.returncode == 0, result.stderr
    assert_same_run(first, tmp_path / "second")
    assert (first / "config.toml").read_text() == (tmp_path / "second/config.toml").read_text()


def test_flags_reach_the_configuration(text, tmp_path):
    run = trained(text, tmp_path / "run", "--optimizer", "aurora:pp_iterations=3", "--lr", 0.015, "--adamw-lr", 0.001,
                  "--steps", 2, "--warmup", 0.1, "--cooldown", 0.2, "--clip", 0.7, "--seed", 9, "--expansion", 2,
                  "--set", "optim.momentum=0.9")
    config = tomllib.loads((run / "config.toml").read_text())
    assert config["model"]["width"] == 32 and config["model"]["heads"] == config["model"]["kv_heads"] == 2
    assert config["model"]["expansion"] == 2
    assert config["optim"]["optimizer"] == "aurora" and config["optim"]["pp_iterations"] == 3
    assert config["optim"]["lr"] == 0.015 and config["optim"]["momentum"] == 0.9
    assert config["adamw"]["lr"] == 0.001
    assert (config["train"]["warmup"], config["train"]["cooldown"], config["train"]["clip"]) == (0.1, 0.2, 0.7)
    assert config["train"]["seed"] == 9
    assert config["data"]["paths"] == [str(text)]


def test_later_words_win_file_then_preset_then_flags_then_set(text, tmp_path):
    file = tmp_path / "run.toml"
    file.write_text("[model]\nwidth = 64\nlayers = 1\n[train]\nsteps = 7\nbatch = 2\n[optim]\nlr = 0.5\n")
    out = tmp_path / "run"
    result = aurora("train", "--config", file, "--data", text, "--out", out, "--width", 32, "--heads", 2, "--context", 32,
                    "--threads", 1, "--steps", 3, "--set", "train.steps=2")
    assert result.returncode == 0, result.stderr
    config = tomllib.loads((out / "config.toml").read_text())
    assert config["model"]["width"] == 32 and config["model"]["layers"] == 1
    assert config["train"]["steps"] == 2 and config["train"]["batch"] == 2
    assert config["optim"]["lr"] == 0.5


def test_the_tiny_preset_is_the_default(text):
    plain = aurora("train", "--data", text, "--dry-run", "--json")
    preset = aurora("train", "--data", text, "--dry-run", "--json", "--preset", "tiny")
    small = aurora("train", "--data", text, "--dry-run", "--json", "--preset", "small")
    assert plain.returncode == preset.returncode == small.returncode == 0, plain.stderr
    assert json.loads(plain.stdout) == json.loads(preset.stdout) != json.loads(small.stdout)


def test_a_dry_run_prints_the_plan_and_writes_nothing(text, tmp_path):
    result = train(text, tmp_path / "run", "--dry-run")
    assert result.returncode == 0, result.stderr
    for name in ("model.embed_tokens.weight", "lm_head.weight", "model.layers.1.mlp.down_proj.weight", "128x32"):
        assert name in result.stdout
    assert re.search(r"flop", result.stdout, re.IGNORECASE) and re.search(r"parameters", result.stdout)
    assert not (tmp_path / "run").exists()
    plan = json.loads(train(text, tmp_path / "run", "--dry-run", "--json").stdout)
    assert plan["parameters"] == 2 * 256 * 32 + 2 * (4 * 32 * 32 + 3 * 128 * 32 + 2 * 32) + 32


def test_seeds_differ_and_repeat(text, tmp_path):
    a = trained(text, tmp_path / "a", "--steps", 3, "--seed", 1)
    b = trained(text, tmp_path / "b", "--steps", 3, "--seed", 1)
    c = trained(text, tmp_path / "c", "--steps", 3, "--seed", 2)
    assert_same_run(a, b)
    assert (losses(a) != losses(c)).any()


def test_eight_at_once_are_four_times_two_accumulated(text, tmp_path):
    whole = trained(text, tmp_path / "whole", "--steps", 8, "--batch", 8)
    parts = trained(text, tmp_path / "parts", "--steps", 8, "--batch", 2, "--accumulate", 4)
    assert log_of(whole)[0]["tokens_per_step"] == log_of(parts)[0]["tokens_per_step"] == 8 * 32
    numpy.testing.assert_allclose(losses(parts), losses(whole), rtol=2e-4)
    first = of_kind(log_of(whole), "train")[0], of_kind(log_of(parts), "train")[0]
    assert first[1]["loss"] == pytest.approx(first[0]["loss"], rel=1e-6)
    assert first[1]["grad_norm"] == pytest.approx(first[0]["grad_norm"], rel=1e-5)


def test_every_optimizer_learns_and_none_is_another(text, tmp_path):
    last = {}
    for name in ("adamw", "muon", "normuon", "u-normuon", "aurora", "riemannian-aurora"):
        run = trained(text, tmp_path / name, "--optimizer", name, "--steps", 20)
        last[name] = losses(run)[-1]
        assert last[name] < losses(run)[0] - 1, name
    assert len(set(last.values())) == len(last), last


def test_bf16_is_close_to_f32_but_not_the_same(text, tmp_path):
    exact = losses(trained(text, tmp_path / "f32", "--steps", 5))
    rounded = losses(trained(text, tmp_path / "bf16", "--steps", 5, "--dtype", "bf16"))
    assert (exact != rounded).any()
    numpy.testing.assert_allclose(rounded, exact, rtol=0.05)


def test_only_the_newest_checkpoints_are_kept(text, tmp_path):
    run = trained(text, tmp_path / "run", "--steps", 7, "--save-every", 2, "--keep", 2)
    assert checkpoints(run) == ["checkpoint-000006", "checkpoint-000007"]
    assert (run / "last").read_text().strip() == "checkpoint-000007"


def test_json_is_one_object_on_standard_output(text, tmp_path):
    result = train(text, tmp_path / "run", "--steps", 2, "--json")
    summary = log_of(tmp_path / "run")[-1]
    printed = json.loads(result.stdout)
    assert len(result.stdout.splitlines()) == 1
    assert printed["val_loss"] == pytest.approx(summary["val_loss"])
    assert pathlib.Path(printed["checkpoint"]) == tmp_path / "run/checkpoint-000002"


def test_quiet_says_nothing_on_standard_error(text, tmp_path):
    result = train(text, tmp_path / "run", "--steps", 2, "--quiet")
    assert (result.returncode, result.stderr) == (0, "")
    for word in ("validation loss", "bits per byte", "dead", "starved", "optimizer share", "checkpoint-000002"):
        assert word in result.stdout


def test_text_comes_from_folders_and_standard_input_alike(text, tmp_path):
    folder = tmp_path / "folder/deep"
    folder.mkdir(parents=True)
    content = text.read_bytes()
    (folder / "a.txt").write_bytes(content)
    (folder / "program").write_bytes(b"\x7fELF\xff\xfe\x00\x80" * 1000)
    from_file = trained(text, tmp_path / "file", "--steps", 3)
    from_folder = trained(tmp_path / "folder", tmp_path / "tree", "--steps", 3)
    piped = train("-", tmp_path / "pipe", "--steps", 3, input=content, text=False)
    assert piped.returncode == 0, piped.stderr
    assert (losses(from_file) == losses(from_folder)).all()
    assert (losses(from_file) == losses(tmp_path / "pipe")).all()


def test_a_relative_path_of_text_is_found_again_from_another_folder(text, tmp_path):
    out = tmp_path / "run"
    result = train(text.name, out, "--steps", 2, cwd=text.parent)
    assert result.returncode == 0, result.stderr
    result = aurora("train", "--resume", "--out", out, "--steps", 3, cwd=tmp_path)
    assert result.returncode == 0, result.stderr


def test_validation_text_is_never_trained_on(text, tmp_path):
    other = tmp_path / "validation.txt"
    other.write_text("0123456789 " * 2000)
    run = trained(text, tmp_path / "run", "--steps", 20, "--validation", other)
    own = trained(text, tmp_path / "own", "--steps", 20)
    foreign, native = (of_kind(log_of(folder), "eval")[-1]["loss"] for folder in (run, own))
    assert foreign > native + 0.5  # digits never occur in the training text


def test_a_second_writer_is_kept_out(text, tmp_path):
    out = tmp_path / "run"
    process = start("train", "--data", text, "--out", out, *SMALL, "--steps", 100000)
    wait_for_steps(out, 2, process)
    for mode in (["--resume"], ["--overwrite"], []):
        result = train(text, out, "--steps", 100000, *mode)
        assert result.returncode in (1, 2)
        assert len(result.stderr.splitlines()) == 1 and str(out) in result.stderr
    assert process.poll() is None
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 130
    steps = [record["step"] for record in of_kind(log_of(out), "train")]
    assert steps == list(range(1, len(steps) + 1))
