"""Routing of a whole model."""

import copy

import pytest
import torch
from torch import nn

from aurora_optim import AdamW, Aurora, Muon, RowNormalized
from small_models import MATRIX_CLASSES, assert_same_bits, decoder, run, set_gradients, weights


def rules_of(optimizer):
    return {entry.name: entry.rule for entry in optimizer.routing}


def reasons_of(optimizer):
    return {entry.name: entry.reason for entry in optimizer.routing}


@pytest.mark.parametrize("cls", MATRIX_CLASSES)
def test_a_model_goes_to_the_rule_and_to_adamw_by_role(cls):
    optimizer = cls(decoder())
    assert rules_of(optimizer) == {
        "embed.weight": "adamw",
        "up.weight": cls.rule,
        "up.bias": "adamw",
        "down.weight": cls.rule,
        "down.bias": "adamw",
        "norm.weight": "adamw",
        "norm.bias": "adamw",
        "lm_head.weight": "adamw",
    }
    assert [group["rule"] for group in optimizer.param_groups] == [cls.rule, "adamw"]
    assert optimizer.param_groups[0]["param_names"] == ["up.weight", "down.weight"]


def test_the_routing_prints_a_table_with_reasons():
    lines = str(Aurora(decoder()).routing).splitlines()
    assert lines[0].split() == ["parameter", "shape", "optimizer", "matrices", "reason"]
    assert lines[2].split(None, 4) == ["up.weight", "48x12", "aurora", "48x12", "hidden matrix"]
    assert lines[-2].split(None, 4) == ["lm_head.weight", "16x12", "adamw", "-", "output head by name"]
    assert lines[-1] == "aurora of 2 parameters: exact polar factors"


def test_the_routing_says_how_each_matrix_is_computed_with_what_its_group_says_now():
    model = decoder()
    optimizer = Aurora(model, patterns={"up.*": {"polar": "polar-express-6"}})
    methods = {entry.name: entry.method for entry in optimizer.routing}
    assert methods["up.weight"] == "polar-express-6 in float32"
    assert methods["down.weight"] == "exact polar factors"
    assert methods["lm_head.weight"] == ""
    assert str(optimizer.routing).splitlines()[-2:] == [
        "aurora of 1 parameter: exact polar factors",
        "aurora of 1 parameter: polar-express-6 in float32",
    ]
    optimizer.param_groups[0]["polar"] = "keller-jordan-5"
    assert [entry.method for entry in optimizer.routing][1] == "keller-jordan-5 in float32"
    assert {entry.method for entry in RowNormalized(decoder()).routing} == {"", "row norms"}


def test_a_model_is_its_two_optimizers_in_one():
    whole, apart = decoder(), decoder()
    run(whole, Aurora(whole, lr=0.05, adamw_lr=0.01, adamw_betas=(0.8, 0.9), adamw_weight_decay=0.1), 3)
    hidden = [apart.up.weight, apart.down.weight]
    rest = [p for p in apart.parameters() if all(p is not h for h in hidden)]
    first = Aurora(hidden, lr=0.05)
    second = AdamW(rest, lr=0.01, betas=(0.8, 0.9), weight_decay=0.1)
    for step in range(3):
        set_gradients(apart.parameters(), step)
        first.step()
        second.step()
    assert_same_bits(weights(whole), weights(apart))


def test_named_parameters_are_routed_without_module_types_and_every_guess_is_marked():
    model = nn.Sequential(nn.Linear(8, 16), nn.Linear(16, 16), nn.Linear(16, 8))
    optimizer = Muon(model.named_parameters())
    assert rules_of(optimizer) == rules_of(Muon(model))
    assert reasons_of(optimizer)["2.weight"] == "output head: the last linear layer"
    assert [entry.name for entry in optimizer.routing.guesses] == ["0.weight", "1.weight", "2.weight"]
    assert [entry.name for entry in Muon(model).routing.guesses] == ["2.weight"]
    assert "guess: hidden matrix" in str(optimizer.routing)


def test_named_parameters_of_three_axes_need_a_word():
    conv = nn.Sequential(nn.Conv1d(4, 8, 3), nn.Linear(8, 4))
    Muon(conv)
    with pytest.raises(ValueError, match=r'Say how.*dimensions=\{"0.weight"'):
        Muon(conv.named_parameters())
    Muon(conv.named_parameters(), dimensions={"0.weight": {"rows": [0], "cols": [1, 2]}})
    Muon(conv.named_parameters(), patterns={"0.weight": "adamw"})


def test_embeddings_are_known_by_their_module_whatever_their_name():
    model = nn.Sequential(nn.Embedding(8, 16), nn.Linear(16, 16), nn.Linear(16, 8))
    assert reasons_of(Aurora(model))["0.weight"] == "embedding"


def test_a_tied_head_is_one_parameter_and_goes_to_adamw():
    model = decoder()
    model.lm_head.weight = model.embed.weight
    optimizer = Aurora(model)
    assert reasons_of(optimizer)["embed.weight"] == "embedding, tied to lm_head.weight"
    assert "lm_head.weight" not in rules_of(optimizer)
    run(model, optimizer, 1)


def test_patterns_override_the_routing():
    optimizer = Aurora(decoder(), patterns={"lm_head.*": "aurora", "down.*": "adamw"})
    assert rules_of(optimizer)["lm_head.weight"] == "aurora"
    assert reasons_of(optimizer)["down.weight"] == "pattern 'down.*'"


@pytest.mark.parametrize(
    "patterns, parts",
    [
        ({"nothing.*": "adamw"}, ["nothing.*"]),
        ({"up.*": "aurora"}, ["up.bias", "up.*"]),
        ({"up.weight": "adamw", "up.w*": "aurora"}, ["contradict", "up.weight"]),
        ({"up.weight": "muon"}, ["'muon'", "'aurora'", "'adamw'"]),
    ],
)
def test_wrong_patterns_are_refused_with_their_text(patterns, parts):
    with pytest.raises(ValueError) as error:
        Aurora(decoder(), patterns=patterns)
    assert all(part in str(error.value) for part in parts), error.value


def test_frozen_parameters_wait_in_their_group_until_they_are_unfrozen():
    model = decoder()
    model.up.weight.requires_grad_(False)
    before = model.up.weight.detach().clone()
    optimizer = Aurora(model)
    assert rules_of(optimizer)["up.weight"] == "aurora"

    def step(seed):
        set_gradients([p for p in model.parameters() if p.requires_grad], seed)
        optimizer.step()

    step(0)
    assert torch.equal(before, model.up.weight) and model.up.weight not in optimizer.state
    model.up.weight.requires_grad_(True)
    step(1)
    assert not torch.equal(before, model.up.weight)


def test_a_parameter_without_a_gradient_is_skipped():
    model = decoder()
    optimizer = Aurora(model)
    before = weights(model)
    set_gradients(model.parameters(), 0)
    model.up.weight.grad = None
    model.norm.bias.grad = None
    optimizer.step()
    after = dict(zip((name for name, _ in model.named_parameters()), zip(before, weights(model))))
    assert torch.equal(*after["up.weight"]) and torch.equal(*after["norm.bias"])
    assert not torch.equal(*after["down.weight"])
    assert model.up.weight not in optimizer.state and model.norm.bias not in optimizer.state


def test_a_model_without_hidden_matrices_is_said_to_have_none():
    with pytest.warns(UserWarning, match="no hidden matrix"):
        Aurora(nn.Linear(4, 4))


def test_a_wrapped_model_is_routed_as_the_model():
    model = decoder()
    wrapped = torch.compile(model, backend="eager")
    assert [entry.rule for entry in Aurora(wrapped).routing] == [entry.rule for entry in Aurora(model).routing]


def test_the_routing_survives_copies():
    optimizer = Aurora(decoder())
    assert copy.deepcopy(optimizer).routing == optimizer.routing
