"""Every recipe of docs/python.md runs as it stands."""

import importlib.util
import pathlib
import re

import pytest
import torch

TEXT = (pathlib.Path(__file__).resolve().parents[2] / "docs/python.md").read_text()
RECIPES = re.findall(r"^## (.+?)\n(.*?)(?=^## |^# |\Z)", TEXT, flags=re.M | re.S)
PROGRAMS = {title: program for title, body in RECIPES for program in re.findall(r"```python\n(.*?)```", body, flags=re.S)}


class Tokenizer:
    """Rows of numbers are tokens already."""


def llama():
    from transformers import LlamaConfig, LlamaForCausalLM

    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 64}
    return LlamaForCausalLM(LlamaConfig(num_key_value_heads=2, max_position_embeddings=32, **size))


def tokenizer():
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(64)}, unk_token="w0"))
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="w1", eos_token="w2")


def names():
    batches = [(torch.arange(16).repeat(2, 1) + i) % 64 for i in range(4)]
    rows = [{"input_ids": row.tolist(), "labels": row.tolist()} for batch in batches for row in batch]
    return {
        "torch": torch,
        "model": llama(),
        "batches": batches,
        "loss_of": lambda model, batch: model(input_ids=batch, labels=batch).loss,
        "dataset": [{key: torch.tensor(value) for key, value in row.items()} for row in rows],
    }


def test_there_is_a_recipe_for_each_way_to_train():
    assert len(PROGRAMS) >= 14 and all("aurora_optim" in program for program in PROGRAMS.values())


@pytest.mark.parametrize("title", PROGRAMS)
@pytest.mark.filterwarnings("ignore")
def test_the_recipe(title, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for package in re.findall(r"^(?:import|from) (\w+)", PROGRAMS[title], flags=re.M):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs {package}: requirements-test.txt")
    given = names()
    before = [p.detach().clone() for p in given["model"].parameters()]
    if title == "TRL":
        from datasets import Dataset

        given |= {"rows": Dataset.from_list([{"input_ids": row["input_ids"].tolist()} for row in given["dataset"]])}
        given["tokenizer"] = tokenizer()
    exec(compile(PROGRAMS[title], f"docs/python.md: {title}", "exec"), given)
    if "step()" in PROGRAMS[title] or ".train()" in PROGRAMS[title] or ".fit(" in PROGRAMS[title]:
        changed = [not torch.equal(a, b) for a, b in zip(before, given["model"].parameters())]
        assert all(changed), f"{changed.count(False)} parameters did not change"
