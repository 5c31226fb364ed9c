"""Every class against the core: the same numbers, the same names, the same defaults."""

import inspect
import os
import re
import subprocess
import sys
import tomllib
import typing

import pytest
import safetensors.torch
import torch

from aurora_optim import _core, rules
from small_models import CLASSES, MATRIX_CLASSES, assert_same_bits, decoder, run, set_gradients, weights


def arguments(cls):
    """Name and default of each hyperparameter, as the signature has them; betas as the core's two."""
    found = {}
    for name, parameter in inspect.signature(cls.__init__).parameters.items():
        if name == "betas":
            found |= {"beta1": parameter.default[0], "beta2": parameter.default[1]}
        elif name not in ("self", "params", "options"):
            found[name] = parameter.default
    return found


def listed(cls):
    return {name: default for name, default, *_ in _core.hyperparameters(cls.rule)}


def test_there_is_a_class_for_every_rule():
    assert tuple(cls.rule for cls in CLASSES) == _core.RULES


@pytest.mark.parametrize("cls", CLASSES)
def test_signatures_have_the_names_types_and_defaults_of_the_core(cls):
    found, expected = arguments(cls), listed(cls)
    assert found == expected
    assert {name: type(value) for name, value in found.items()} == {name: type(v) for name, v in expected.items()}


@pytest.mark.parametrize("cls", CLASSES)
def test_the_command_line_has_the_same_defaults(cls, binary, tmp_path):
    (tmp_path / "text.txt").write_text("the rose and the river over stone " * 300)
    small = "--width 32 --layers 1 --heads 2 --context 32 --batch 2 --steps 1 --threads 1 --quiet".split()
    out = tmp_path / "run"
    subprocess.run(
        [binary, "train", "--data", tmp_path / "text.txt", "--out", out, "--optimizer", cls.rule, *small],
        check=True,
        capture_output=True,
    )
    config = tomllib.loads((out / "config.toml").read_text())
    section = config["adamw" if cls.rule == "adamw" else "optim"]
    assert {key: value for key, value in section.items() if key != "optimizer"} == listed(cls)


@pytest.mark.parametrize("cls", CLASSES)
def test_the_documentation_has_the_same_defaults(cls, root):
    text = (root / "docs/python.md").read_text()
    row = next(line for line in text.splitlines() if line.startswith(f"| `{cls.__name__}` |"))
    documented = dict(re.findall(r"`(\w+)=([^`]*)`", row))
    shown = {name: repr(value) for name, value in listed(cls).items()}
    if cls.rule == "adamw":
        shown["betas"] = f"({shown.pop('beta1')}, {shown.pop('beta2')})"
    assert documented == shown


@pytest.mark.parametrize("cls", CLASSES)
def test_docstrings_end_with_every_hyperparameter(cls):
    for name, default, rule, meaning in _core.hyperparameters(cls.rule):
        assert f"{name} (default {default}): {meaning}; {rule}" in cls.__doc__


@pytest.mark.parametrize("name, literal", [("scale", rules.Scale), ("polar", rules.Polar)])
@pytest.mark.parametrize("cls", MATRIX_CLASSES)
def test_type_hints_list_the_values_that_the_core_takes(cls, name, literal):
    if name in listed(cls):
        assert values_of(cls, name) == typing.get_args(literal)


def test_the_stub_for_checkers_is_what_the_table_of_rules_makes(root, packages):
    made = subprocess.run(
        [sys.executable, root / "scripts/make_stub"],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(packages)},
    )
    assert made.stdout == (root / "python/aurora_optim/rules.pyi").read_text(), "run scripts/make_stub"


@pytest.mark.parametrize("name, literal", [("sides", rules.Sides), ("balance", rules.Balance)])
def test_type_hints_of_aurora_list_the_values_that_the_core_takes(name, literal):
    assert values_of(rules.Aurora, name) == typing.get_args(literal)


def values_of(cls, name):
    rule = next(rule for entry, _, rule, _ in _core.hyperparameters(cls.rule) if entry == name)
    return tuple(rule.removeprefix("one of ").split(", "))


@pytest.mark.parametrize("shape", [(48, 16), (16, 48), (24, 24)])
@pytest.mark.parametrize("cls", [cls for cls in MATRIX_CLASSES if cls.rule != "normuon"])
def test_the_direction_is_that_of_the_command_bit_for_bit(cls, shape, binary, tmp_path):
    """A step of lr = 1 from zero weights, negated, without momentum and scale; NorMuon's begins with state."""
    gradient = torch.randn(shape)
    weight = torch.nn.Parameter(torch.zeros(shape))
    weight.grad = gradient.clone()
    cls([weight], lr=1, momentum=0, nesterov=False, weight_decay=0, scale="none").step()
    safetensors.torch.save_file({"w": gradient}, tmp_path / "in.safetensors")
    threads = str(torch.get_num_threads())
    subprocess.run(
        [binary, "direction", "--in", tmp_path / "in.safetensors", "--out", tmp_path / "out.safetensors",
         "--optimizer", cls.rule, "--threads", threads],
        check=True,
        capture_output=True,
    )  # fmt: skip
    direction = safetensors.torch.load_file(tmp_path / "out.safetensors")["w"]
    assert direction.norm() > 1
    assert_same_bits([-weight.detach()], [direction])


def test_normuons_row_state_is_the_second_moment_of_the_polar_factor():
    from aurora_optim import NorMuon, polar

    gradient = torch.randn(20, 8, dtype=torch.float64)
    weight = torch.nn.Parameter(torch.zeros(20, 8, dtype=torch.float64))
    optimizer = NorMuon([weight], lr=1, momentum=0, nesterov=False, weight_decay=0, scale="none", beta2=0.75)
    weight.grad = gradient
    optimizer.step()
    o = polar(gradient)
    v = 0.25 * o.square().mean(dim=1, keepdim=True)
    torch.testing.assert_close(optimizer.state[weight]["second_momentum_buffer"], v, rtol=1e-12, atol=1e-14)
    expected = o / v.sqrt()
    torch.testing.assert_close(-weight.detach(), expected * o.norm() / expected.norm(), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("cls", CLASSES)
def test_the_loss_falls(cls):
    model = decoder()
    optimizer = cls(model)
    tokens = torch.arange(16).repeat(4)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(tokens), (tokens + 1) % 16)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]


@pytest.mark.parametrize("cls", CLASSES)
def test_gradients_are_read_only(cls):
    model = decoder()
    optimizer = cls(model)
    set_gradients(model.parameters(), 0)
    before = [p.grad.clone() for p in model.parameters()]
    optimizer.step()
    assert_same_bits([p.grad for p in model.parameters()], before)


@pytest.mark.parametrize("cls", CLASSES)
def test_two_runs_have_the_same_bits(cls):
    results = []
    for _ in range(2):
        model = decoder()
        run(model, cls(model), 3)
        results.append(weights(model))
    assert_same_bits(*results)


@pytest.mark.parametrize("cls", CLASSES)
def test_every_hyperparameter_moves_the_result(cls):
    others = {"polar": "keller-jordan-5", "scale": "match_rms_adamw", "sides": "longer", "balance": "optimum"}

    def after(**changed):
        torch.manual_seed(1)
        parameters = [torch.nn.Parameter(torch.randn(shape)) for shape in [(24, 8), (8, 24)]]
        optimizer = cls(parameters, **changed)
        for step in range(3):
            set_gradients(parameters, step)
            optimizer.step()
        return torch.cat([p.detach().flatten() for p in parameters])

    base = after()
    signature = inspect.signature(cls.__init__).parameters
    for name in [name for name in signature if name not in ("self", "params", "options")]:
        default = signature[name].default
        changed = {name: others.get(name)}
        if name == "precision":  # the CPU has products in one type alone, and says so
            with pytest.raises(ValueError, match="float16"):
                after(precision="float16", polar="polar-express-5")
            continue
        if name == "betas":
            changed = {"betas": (0.5, 0.6)}
        elif name == "pp_beta":
            base_release = after(balance="release")
            assert (after(balance="release", pp_beta=0.2) - base_release).abs().max() > 1e-4, name
            continue
        elif isinstance(default, bool):
            changed = {name: not default}
        elif isinstance(default, int):
            changed = {name: default + 1}
        elif isinstance(default, float):
            changed = {name: default * 0.5 if default else 0.5}
        if name == "eps":
            changed = {name: 0.1}
        assert (after(**changed) - base).abs().max() > 1e-5, name


def test_steps_take_the_threads_of_torch_at_each_step():
    model = decoder()
    optimizer = rules.Aurora(model)
    for threads in (1, 2):
        torch.set_num_threads(threads)
        run(model, optimizer, 1)
        assert f"{threads} thread" in optimizer._stepper.description


def test_contributing_shows_the_whole_of_a_rule(root):
    assert (root / "src/rules/row_normalized.cpp").read_text() in (root / "CONTRIBUTING.md").read_text()
