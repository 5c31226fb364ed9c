"""The parts of a step as functions on tensors."""

import pytest
import torch
from torch import nn

from aurora_optim import Aurora, Muon, balanced_polar, diagnose, leverage_scores, polar
from small_models import assert_same_bits, decoder, run


@pytest.mark.parametrize("shape", [(20, 8), (8, 20), (2, 3, 12, 12)])
def test_polar_is_the_polar_factor(shape):
    x = torch.randn(shape, dtype=torch.float64)
    u, _, v = torch.linalg.svd(x, full_matrices=False)
    torch.testing.assert_close(polar(x), u @ v, rtol=1e-11, atol=1e-12)


def test_polar_takes_transposed_views_and_keeps_the_type():
    x = torch.randn(20, 8)
    torch.testing.assert_close(polar(x.t()), polar(x).t(), rtol=1e-4, atol=1e-5)
    for dtype in (torch.bfloat16, torch.float16):
        assert polar(x.to(dtype)).dtype == dtype
    assert_same_bits([polar(x.bfloat16())], [polar(x.bfloat16().float()).bfloat16()])


def test_polar_of_a_schedule_has_singular_values_near_one():
    s = torch.linalg.svdvals(polar(torch.randn(24, 12), "keller-jordan-5"))
    assert 0.6 < s.min() < s.max() < 1.2 and s.std() > 1e-3


def test_functions_leave_their_argument_and_have_no_gradient():
    x = torch.randn(12, 4, requires_grad=True)
    before = x.detach().clone()
    results = [polar(x), balanced_polar(x), leverage_scores(x)]
    assert torch.equal(before, x) and not any(result.requires_grad for result in results)


def test_a_balanced_polar_factor_has_even_rows():
    x = torch.randn(64, 16, dtype=torch.float64) * torch.logspace(-1, 1, 64, dtype=torch.float64)[:, None]
    u = balanced_polar(x, pp_iterations=12)
    torch.testing.assert_close(u.t() @ u, torch.eye(16, dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(u.norm(dim=1), torch.full((64,), 0.5, dtype=torch.float64), rtol=1e-4, atol=0)
    assert polar(x).norm(dim=1).std() > 0.05
    assert_same_bits([balanced_polar(x.t())], [polar(x.t())])
    torch.testing.assert_close(balanced_polar(x.t(), sides="longer", pp_iterations=12), u.t(), rtol=1e-9, atol=1e-10)


def test_a_balanced_polar_factor_is_the_direction_of_aurora_bit_for_bit():
    gradient = torch.randn(48, 16)
    weight = nn.Parameter(torch.zeros(48, 16))
    weight.grad = gradient.clone()
    Aurora([weight], lr=1, momentum=0, nesterov=False, weight_decay=0, scale="none", balance="release", pp_beta=0.25).step()
    assert_same_bits([-weight.detach()], [balanced_polar(gradient, balance="release", pp_beta=0.25)])


def test_leverage_scores_are_the_squared_row_norms_of_the_polar_factor():
    x = torch.randn(3, 20, 8, dtype=torch.float64)
    torch.testing.assert_close(leverage_scores(x), polar(x).square().sum(dim=-1), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(leverage_scores(x.mT, "columns"), leverage_scores(x), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(leverage_scores(x).sum(dim=-1), torch.full((3,), 8.0, dtype=torch.float64))


def test_a_diagnosis_of_a_model_sees_its_dead_neurons():
    model = decoder()
    healthy = diagnose(model)
    assert list(healthy) == ["up.weight", "down.weight"]
    assert all(isinstance(value, float) for values in healthy.values() for value in values.values())
    assert healthy["up.weight"]["starved_0.01"] == 0
    with torch.no_grad():
        model.up.weight[:12] *= 1e-3  # a quarter of 48 rows
        model.down.weight[:, :24] *= 1e-3  # half of the columns: the neurons of a wide matrix
    sick = diagnose(model)
    assert sick["up.weight"]["starved_0.01"] == 0.25 and sick["down.weight"]["starved_0.01"] == 0.5
    assert sick["up.weight"]["leverage_q0.1"] < 1e-4 < 0.5 < sick["up.weight"]["leverage_q0.5"]
    assert sick["up.weight"]["row_norm_cv"] > 3 * healthy["up.weight"]["row_norm_cv"]


def test_a_diagnosis_of_an_optimizer_looks_at_its_momentum():
    model = decoder()
    optimizer = Muon(model)
    assert diagnose(optimizer) == {}
    run(model, optimizer, 2)
    found = diagnose(optimizer)
    assert list(found) == ["up.weight", "down.weight"]
    momentum = optimizer.state[model.up.weight]["momentum_buffer"]
    scores = leverage_scores(momentum.double()) * 48 / 12
    assert found["up.weight"]["leverage_q0.5"] == pytest.approx(scores.quantile(0.5).item(), rel=1e-5)
    unnamed = Muon([model.up.weight])
    run(model, unnamed, 1)
    assert list(diagnose(unnamed)) == ["group 0, parameter 0"]


def test_bfloat16_weights_can_be_diagnosed():
    assert diagnose(decoder(dtype=torch.bfloat16))["up.weight"]["leverage_q1"] > 1
