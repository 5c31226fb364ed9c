"""What a checkpoint is for others: `eval`, `sample`, Hugging Face transformers."""

import json
import math
import subprocess

import numpy
import pytest
from conftest import BINARY, aurora, last_checkpoint, log_of, of_kind, trained, words

CONTEXT = 32


def test_eval_is_the_last_evaluation_of_the_run(text, tmp_path):
    other = tmp_path / "validation.txt"
    other.write_text(words(600, seed=4))
    run = trained(text, tmp_path / "run", "--steps", 4, "--validation", other)
    logged = of_kind(log_of(run), "eval")[-1]
    result = aurora("eval", run, "--data", other, "--json", "--threads", 1)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["loss"] == pytest.approx(logged["loss"], rel=1e-6)
    assert found["bits_per_byte"] == pytest.approx(found["loss"] / math.log(2))
    assert found["tokens"] == logged["tokens"]


def test_a_run_folder_is_its_newest_checkpoint(run, text):
    by_run = aurora("eval", run, "--data", text)
    by_checkpoint = aurora("eval", last_checkpoint(run), "--data", text)
    older = aurora("eval", run / "checkpoint-000010", "--data", text)
    assert by_run.returncode == 0, by_run.stderr
    assert by_run.stdout == by_checkpoint.stdout != older.stdout


def sample(*arguments):
    result = aurora("sample", *arguments, text=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def assert_bytes(found, count):
    """So many bytes, and a newline where the last of them is none."""
    assert found.endswith(b"\n") and len(found) in (count, count + 1)
    assert len(found) == count or not found[:-1].endswith(b"\n")


def test_a_sample_is_the_prompt_and_its_continuation(run):
    found = sample(run, "--prompt", "the river ", "--tokens", 50)
    assert found.startswith(b"the river ")
    assert_bytes(found, len(b"the river ") + 50)


def test_a_sample_is_the_same_for_the_same_seed(run):
    arguments = [run, "--prompt", "the ", "--tokens", 60]
    assert sample(*arguments, "--seed", 1) == sample(*arguments, "--seed", 1)
    assert sample(*arguments, "--seed", 1) != sample(*arguments, "--seed", 2)


def test_temperature_zero_is_greedy_whatever_the_seed(run):
    arguments = [run, "--prompt", "the ", "--tokens", 40, "--temperature", 0]
    assert sample(*arguments, "--seed", 1) == sample(*arguments, "--seed", 2)


def test_a_sample_may_be_longer_than_the_context_and_its_prompt_too(run):
    prompt = "the rose sings over the river and keeps the light "
    assert len(prompt) > CONTEXT
    assert_bytes(sample(run, "--prompt", prompt, "--tokens", 3 * CONTEXT), len(prompt) + 3 * CONTEXT)


def test_an_empty_prompt_is_answered_or_refused_in_one_line(run):
    result = aurora("sample", run, "--prompt", "", "--tokens", 3, text=False)
    if result.returncode == 0:
        assert_bytes(result.stdout, 3)
    else:
        assert result.returncode == 2 and len(result.stderr.splitlines()) == 1 and b"prompt" in result.stderr


def test_the_tensor_files_hold_no_times_and_open_with_safetensors(run):
    from safetensors import safe_open

    for name in ("model.safetensors", "optimizer.safetensors"):
        with safe_open(last_checkpoint(run) / name, "numpy") as file:
            assert file.metadata() == {"format": "pt"}
            names = set(file.keys())
        if name == "optimizer.safetensors":
            assert "model.layers.0.mlp.up_proj.weight.momentum_buffer" in names
            assert "model.embed_tokens.weight.exp_avg_sq" in names


# Hugging Face. The runs differ in what their export could get wrong: shared key heads, another shape.

VARIANTS = {"plain": [], "grouped": ["--heads", 4, "--kv-heads", 2, "--expansion", 2.5]}


@pytest.fixture(scope="module", params=VARIANTS.values(), ids=VARIANTS.keys())
def exported(request, text, tmp_path_factory):
    out = tmp_path_factory.mktemp("exported") / "run"
    return trained(text, out, "--steps", 25, *request.param)


@pytest.fixture(scope="module")
def llama(exported):
    transformers = pytest.importorskip("transformers")
    model, report = transformers.AutoModelForCausalLM.from_pretrained(
        last_checkpoint(exported), output_loading_info=True
    )
    assert type(model).__name__ == "LlamaForCausalLM"
    assert not report["missing_keys"] and not report["unexpected_keys"] and not report["mismatched_keys"]
    return model.eval()


def logits(llama, tokens):
    import torch

    with torch.no_grad():
        return llama(torch.tensor([list(tokens)])).logits[0].double().numpy()


def test_transformers_computes_the_same_logits(exported, llama):
    tool = BINARY.parent / "tests/checkpoint_logits"
    for seed in range(3):
        tokens = words(40, seed).encode()[:CONTEXT]
        result = subprocess.run([tool, last_checkpoint(exported)], input=tokens, capture_output=True, check=True)
        ours = numpy.frombuffer(result.stdout, numpy.float32).reshape(CONTEXT, 256)
        numpy.testing.assert_allclose(ours, logits(llama, tokens), atol=1e-4)
        assert numpy.ptp(ours) > 1


def test_transformers_computes_the_same_loss(exported, llama, tmp_path):
    for seed in range(4):
        sequence = words(40, seed).encode()[: CONTEXT + 1]
        file = tmp_path / "text.txt"
        file.write_bytes(sequence)
        result = aurora("eval", exported, "--data", file, "--json", "--threads", 1)
        assert result.returncode == 0, result.stderr
        rows = logits(llama, sequence[:-1])
        log_sums = numpy.log(numpy.exp(rows).sum(axis=1))
        expected = numpy.mean(log_sums - rows[numpy.arange(CONTEXT), list(sequence[1:])])
        found = json.loads(result.stdout)
        assert found["tokens"] == CONTEXT
        assert found["loss"] == pytest.approx(expected, abs=1e-5)


def test_transformers_continues_a_text_the_same_way(exported, llama):
    for prompt in ("the ", "rose", "while they k"):
        tokens = list(prompt.encode())
        count = CONTEXT - len(tokens)
        for _ in range(count):
            tokens.append(int(logits(llama, tokens)[-1].argmax()))
        found = sample(exported, "--prompt", prompt, "--tokens", count, "--temperature", 0)
        assert found.startswith(bytes(tokens))
        assert_bytes(found, len(tokens))
