"""The algorithms of other devices, on CPU tensors: what the package adds to tests/torch_device_test.cpp."""

import copy

import pytest
import torch
from aurora_optim import AdamW, Aurora, Muon, NorMuon, RiemannianAurora, UNorMuon, _core, leverage_scores, polar
from torch import Tensor, nn

CLASSES = [AdamW, Muon, NorMuon, UNorMuon, Aurora, RiemannianAurora]


def like_on_a_device(optimizer):
    optimizer._stepper = _core.Stepper(aten_on_cpu=True)
    return optimizer


def matrices() -> list[Tensor]:
    torch.manual_seed(3)
    return [nn.Parameter(torch.randn(48, 16)), nn.Parameter(torch.randn(12, 40)), nn.Parameter(torch.randn(48, 16))]


def set_gradients(parameters: list[Tensor], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for p in parameters:
        p.grad = torch.randn(p.shape, generator=generator)


@pytest.mark.parametrize("cls", CLASSES)
def test_steps_are_those_of_the_cpu_to_the_accuracy_of_polar_express(cls):
    own, other = matrices(), matrices()
    on_cpu, on_device = cls(own, lr=0.02), like_on_a_device(cls(other, lr=0.02))
    for seed in range(3):
        for parameters, optimizer in ((own, on_cpu), (other, on_device)):
            set_gradients(parameters, seed)
            optimizer.step()
    bound = 1e-6 if cls is AdamW else 0.02 if cls is RiemannianAurora else 2e-3
    for a, b in zip(own, other):
        assert (a - b).abs().max() < bound
    assert cls is AdamW or any(not torch.equal(a, b) for a, b in zip(own, other))
    assert on_device.state_dict()["state"][0].keys() == on_cpu.state_dict()["state"][0].keys()


@pytest.mark.parametrize("cls", CLASSES)
def test_a_gradient_that_is_not_finite_changes_nothing_and_is_counted(cls):
    parameters = matrices()
    optimizer = like_on_a_device(cls(parameters))
    set_gradients(parameters, 0)
    optimizer.step()
    before = copy.deepcopy((parameters, optimizer.state_dict()["state"]))
    parameters[1].grad[3, 4] = float("nan")
    optimizer.step()
    assert (optimizer.skipped_steps, optimizer.skipped_in_a_row) == (1, 1)
    assert all(torch.equal(a, b) for a, b in zip(parameters, before[0]))
    for index, state in optimizer.state_dict()["state"].items():
        assert all(torch.equal(value, before[1][index][key]) for key, value in state.items())
    set_gradients(parameters, 1)
    optimizer.step()
    assert (optimizer.skipped_steps, optimizer.skipped_in_a_row) == (1, 0)


@pytest.mark.parametrize("cls", [AdamW, Aurora])
def test_grad_scaler_scales_back_and_its_infs_are_skipped(cls):
    own, other = matrices(), matrices()
    on_cpu, on_device = cls(own), like_on_a_device(cls(other))
    for parameters, optimizer in ((own, on_cpu), (other, on_device)):
        optimizer._step_supports_amp_scaling = True  # the step divides and skips, without waiting for the device
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=1)
        for seed in range(4):
            optimizer.zero_grad()
            generator = torch.Generator().manual_seed(seed)
            loss = sum((p * torch.randn(p.shape, generator=generator)).sum() for p in parameters)
            scaler.scale(loss * (float("inf") if seed == 1 else 1.0)).backward()
            scaler.step(optimizer)
            scaler.update()
    assert on_device.skipped_steps == on_cpu.skipped_steps == 1
    for a, b in zip(own, other):
        assert (a - b).abs().max() < (1e-6 if cls is AdamW else 2e-3)


def test_functions_refuse_tensors_without_values():
    for function in (polar, leverage_scores):
        with pytest.raises(ValueError, match="meta"):
            function(torch.empty(4, 3, device="meta"))


def test_parameters_on_meta_are_refused():
    with pytest.raises(ValueError, match=r"meta.*\[4, 3\]"):
        Muon([nn.Parameter(torch.empty(4, 3, device="meta"))])
