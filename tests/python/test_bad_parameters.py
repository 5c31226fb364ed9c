"""Bad input raises where the optimizer is made or called, with the parameter's name, shape and the rule."""

import pytest
import torch
from torch import nn

from aurora_optim import AdamW, Aurora, balanced_polar, diagnose, leverage_scores, polar
from small_models import CLASSES, MATRIX_CLASSES, decoder


def matrix(*shape, **options):
    return nn.Parameter(torch.ones(*shape or (6, 4), **options))


def refusal(make, *parts, kind=(ValueError, TypeError)):
    with pytest.raises(kind) as error:
        make()
    text = str(error.value)
    assert "\n" not in text
    for part in parts:
        assert part in text, text


def named(tensor, name="layer.weight"):
    return [{"params": [(name, tensor)]}]


@pytest.mark.parametrize("cls", MATRIX_CLASSES)
def test_vectors_belong_to_adamw(cls):
    for shape in [(7,), ()]:
        tensor = nn.Parameter(torch.ones(shape))
        refusal(lambda: cls(named(tensor)), "AdamW", "'layer.weight'", str(list(shape)), f"rule {cls.rule}")
    for shape in [(7, 1), (1, 7)]:
        refusal(lambda: cls(named(matrix(*shape))), "side of length 1", "AdamW", str(list(shape)), cls.rule)
    refusal(lambda: cls(decoder().parameters()), "routed", "AdamW")


@pytest.mark.parametrize("cls", CLASSES)
def test_parameters_of_other_types_are_refused(cls):
    for dtype in (torch.int64, torch.complex64, torch.bool):
        tensor = torch.ones(6, 4, dtype=dtype)
        refusal(lambda: cls(named(tensor)), "'layer.weight'", "[6, 4]", cls.rule, "float32, float64, bfloat16 or float16")


@pytest.mark.parametrize("cls", CLASSES)
def test_other_devices_are_refused_by_name(cls):
    refusal(lambda: cls(named(matrix(6, 4, device="meta"))), "meta", "'layer.weight'", "[6, 4]", cls.rule)
    refusal(lambda: cls(decoder().to("meta")), "meta")


@pytest.mark.parametrize("cls", CLASSES)
def test_a_parameter_given_twice_is_refused(cls):
    weight = matrix()
    refusal(lambda: cls([weight, weight]), "twice", "parameter 1", "[6, 4]", cls.rule)
    refusal(lambda: cls([{"params": [weight]}, {"params": [weight]}]), "twice", "group 1, parameter 0", cls.rule)


def test_what_is_no_leaf_is_refused():
    refusal(lambda: Aurora(named(matrix() * 2)), "leaf", "'layer.weight'", "[6, 4]", "aurora")


def test_what_is_no_tensor_is_refused():
    refusal(lambda: Aurora(matrix()), "list", kind=TypeError)
    refusal(lambda: Aurora(None), "list", "NoneType", kind=TypeError)
    refusal(lambda: Aurora([("a", matrix()), matrix()]), "(name, Tensor)", "number 1", kind=TypeError)
    refusal(lambda: Aurora([1.0]), "float", "parameter 0", kind=TypeError)
    refusal(lambda: Aurora([{"lr": 1.0}]), "'params'")
    refusal(lambda: Aurora([{"params": {matrix(), matrix()}}]), "sets", kind=TypeError)


@pytest.mark.parametrize("cls", CLASSES)
def test_nothing_to_optimize_is_refused(cls):
    refusal(lambda: cls([]), "empty")
    refusal(lambda: cls(nn.Sequential()), "no parameter")
    refusal(lambda: cls(nn.Linear(4, 4).requires_grad_(False)), "no parameter")
    refusal(lambda: cls(nn.Linear(4, 4).requires_grad_(False).named_parameters()), "no parameter")


@pytest.mark.parametrize(
    "options, parts",
    [
        ({"lr": -0.1}, ["lr", "-0.1", ">= 0"]),
        ({"lr": float("nan")}, ["lr", "nan"]),
        ({"lr": float("inf")}, ["lr", "inf"]),
        ({"lr": "fast"}, ["lr", "number", "'fast'"]),
        ({"lr": None}, ["lr", "None"]),
        ({"lr": True}, ["lr", "true"]),
        ({"momentum": 1}, ["momentum", "1", "< 1"]),
        ({"weight_decay": -1}, ["weight_decay", "-1"]),
        ({"nesterov": 0.5}, ["nesterov", "0.5"]),
        ({"polar": "newton"}, ["polar", "newton", "keller-jordan-5"]),
        ({"scale": "spectral"}, ["scale", "spectral", "aspect_ratio"]),
        ({"pp_iterations": 0}, ["pp_iterations", "0"]),
        ({"pp_iterations": 2.5}, ["pp_iterations", "2.5"]),
        ({"pp_beta": 0.3}, ["pp_beta", "balance=release"]),
        ({"adamw_betas": (0.9, 1.0)}, ["beta2", "1"]),
        ({"adamw_betas": 0.9}, ["betas", "0.9"]),
        ({"adamw_lr": -3.0}, ["lr", "-3"]),
    ],
)
def test_hyperparameters_out_of_bounds_are_refused_with_the_rule(options, parts):
    refusal(lambda: Aurora(decoder(), **options), *parts, kind=ValueError)


def test_hyperparameters_are_looked_at_again_in_each_step():
    weight = matrix()
    optimizer = Aurora([weight])
    weight.grad = torch.randn(6, 4)
    optimizer.param_groups[0]["lr"] = float("nan")
    before = weight.detach().clone()
    refusal(optimizer.step, "lr", "nan", kind=ValueError)
    del optimizer.param_groups[0]["lr"]
    refusal(optimizer.step, "'lr'", kind=ValueError)
    assert torch.equal(before, weight)


def test_unknown_arguments_name_the_nearest():
    for wrong, meant in {
        "learning_rate": "lr", "weigth_decay": "weight_decay", "ns_steps": "polar", "betas": "adamw_betas",
        "adjust_lr_fn": "scale", "mu": "momentum", "num_heads": "heads",
    }.items():  # fmt: skip
        refusal(lambda: Aurora([matrix()], **{wrong: 0.1}), f"'{wrong}'; did you mean '{meant}'?", kind=TypeError)
    for needless in ("fused", "foreach", "capturable"):
        refusal(lambda: Aurora([matrix()], **{needless: True}), f"'{needless}': ", kind=TypeError)
    refusal(lambda: AdamW([matrix()], momentum=0.5), "'momentum'", kind=TypeError)
    refusal(lambda: AdamW(decoder(), adamw_lr=0.5), "'adamw_lr'", kind=TypeError)


def test_a_word_that_is_near_to_nothing_gets_no_suggestion():
    with pytest.raises(TypeError) as error:
        Aurora([matrix()], xyzzy=1)
    assert "did you mean" not in str(error.value) and "There are: lr, momentum" in str(error.value)


def test_mistyped_keys_of_groups_are_refused_and_notes_are_kept():
    for key, meant in {"learning_rate": "lr", "weight_deacy": "weight_decay", "adjust_lr_fn": "scale"}.items():
        refusal(lambda: Aurora([{"params": [matrix()], key: 1}]), f"'{key}'; did you mean '{meant}'?", kind=ValueError)
    refusal(lambda: Aurora([{"params": [matrix()], "fused": True}]), "'fused'", kind=ValueError)
    optimizer = Aurora([{"params": [matrix()], "name": "mlp", "lr_scale": 0.5, "initial_lr": 0.1}])
    assert optimizer.param_groups[0]["name"] == "mlp" and optimizer.param_groups[0]["lr_scale"] == 0.5


def test_numbers_as_text_are_refused():
    refusal(lambda: Aurora([matrix()], lr="0.1"), "lr must be a finite number", "'0.1'", kind=ValueError)
    refusal(lambda: Aurora([matrix()], pp_iterations="2"), "pp_iterations must be an integer", kind=ValueError)


def test_options_of_a_whole_model_are_refused_for_tensors():
    refusal(lambda: Aurora([matrix()], adamw_lr=0.1), "adamw_lr", "whole model", kind=TypeError)
    refusal(lambda: Aurora([matrix()], patterns={"*": "adamw"}), "patterns", "whole model", kind=TypeError)


def test_an_unknown_rule_of_a_group_names_the_nearest():
    refusal(lambda: Aurora([{"params": [matrix()], "rule": "normoun"}]), "did you mean 'normuon'", kind=ValueError)


@pytest.mark.parametrize("cls", CLASSES)
def test_gradients_that_are_sparse_or_of_other_types_are_refused(cls):
    table = nn.Embedding(6, 4, sparse=True)
    optimizer = cls([{"params": [("table", table.weight)]}])
    before = table.weight.detach().clone()
    table(torch.tensor([1, 2])).sum().backward()
    refusal(optimizer.step, "Sparse", "'table'", "[6, 4]", cls.rule, kind=ValueError)
    assert torch.equal(before, table.weight)


def test_sharded_parameters_are_refused_with_the_reason(monkeypatch):
    class DTensor(torch.Tensor):
        pass

    refusal(lambda: Aurora([torch.ones(6, 4).as_subclass(DTensor)]), "DTensor", "whole matrix", "[6, 4]", kind=TypeError)

    class FullyShardedDataParallel(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = decoder()

    refusal(lambda: Aurora(FullyShardedDataParallel()), "FullyShardedDataParallel", kind=TypeError)


@pytest.mark.parametrize("function", [polar, balanced_polar, leverage_scores])
def test_functions_refuse_what_is_no_matrix(function):
    for x in (torch.ones(3), torch.ones(3, 3).int(), torch.ones(3, 3, device="meta"), torch.ones(0, 3)):
        refusal(lambda: function(x), f"aurora_optim.{function.__name__}", kind=ValueError)
    refusal(lambda: function(torch.full((3, 3), float("nan"))), "Inf or NaN", "3x3", kind=ValueError)


def test_functions_refuse_options_that_do_not_exist():
    refusal(lambda: polar(torch.ones(3, 3), "svd"), "svd", "keller-jordan-5", kind=ValueError)
    refusal(lambda: balanced_polar(torch.ones(3, 3), balance="carried"), "row_scales", kind=ValueError)
    refusal(lambda: leverage_scores(torch.ones(3, 3), "cols"), "'cols'", kind=ValueError)
    refusal(lambda: diagnose([1]), "list", kind=TypeError)
