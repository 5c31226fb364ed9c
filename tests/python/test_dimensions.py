"""Parameters that are several matrices: convolutions, experts, fused blocks, heads."""

import pytest
import torch
from torch import nn

from aurora_optim import Aurora, Muon, NorMuon, diagnose
from small_models import MATRIX_CLASSES, assert_same_bits, set_gradients


def stepped(cls, tensors, **options):
    parameters = [nn.Parameter(t.clone()) for t in tensors]
    optimizer = cls(parameters, **options)
    for step in range(3):
        generator = torch.Generator().manual_seed(step)
        everything = torch.randn(sum(p.numel() for p in parameters), generator=generator)
        for p, flat in zip(parameters, everything.split([p.numel() for p in parameters])):
            p.grad = flat.view(p.shape)
        optimizer.step()
    return [p.detach() for p in parameters]


@pytest.mark.parametrize("cls", MATRIX_CLASSES)
def test_fused_blocks_are_the_matrices_held_apart(cls):
    tensors = [torch.randn(16, 8), torch.randn(16, 8), torch.randn(16, 8)]
    apart = torch.cat(stepped(cls, tensors))
    for blocks in (3, [16, 16, 16]):
        assert_same_bits(stepped(cls, [torch.cat(tensors)], blocks=blocks), [apart])


def test_uneven_blocks_with_heads_are_the_heads_held_apart():
    query, key = torch.randn(24, 10), torch.randn(8, 10)
    heads = [*query.split(8), key]
    apart = torch.cat(stepped(Aurora, heads))
    assert_same_bits(stepped(Aurora, [torch.cat([query, key])], blocks=[24, 8], heads=[3, 1]), [apart])
    assert_same_bits(stepped(Aurora, [query], heads=3), [torch.cat(stepped(Aurora, heads[:3]))])


HEADS, SIZES = 3, (4, 2, 6)


def apart_by_head(w):
    """Query, key and value of all heads, where the rows are [heads, sizes]."""
    return [part.flatten(0, 1) for part in w.view(HEADS, sum(SIZES), -1).split(SIZES, dim=1)]


@pytest.mark.parametrize("cls", MATRIX_CLASSES)
def test_blocks_that_repeat_are_gathered_and_put_back(cls):
    whole = nn.Parameter(torch.randn(HEADS * sum(SIZES), 5))
    parts = [nn.Parameter(part.clone()) for part in apart_by_head(whole.detach())]
    fused, apart = cls([whole], blocks=list(SIZES), repeats=HEADS), cls(parts)
    for step in range(3):
        gradient = torch.randn(whole.shape, generator=torch.Generator().manual_seed(step))
        whole.grad = gradient.clone()
        for p, g in zip(parts, apart_by_head(gradient)):
            p.grad = g.clone()
        fused.step()
        apart.step()
        assert torch.equal(whole.grad, gradient)
    assert_same_bits(apart_by_head(whole.detach()), [p.detach() for p in parts])
    momentum = fused.state[whole]["momentum_buffer"]
    assert_same_bits(apart_by_head(momentum), [apart.state[p]["momentum_buffer"] for p in parts])


def test_interleaved_rows_are_every_second_row():
    gate, up = torch.randn(6, 4), torch.randn(6, 4)
    mixed = nn.Parameter(torch.stack([gate, up], dim=1).flatten(0, 1))
    both = [nn.Parameter(gate.clone()), nn.Parameter(up.clone())]
    for parameters, options in (([mixed], {"blocks": 2, "repeats": 6}), (both, {})):
        optimizer = Muon(parameters, **options)
        gradient = torch.randn(12, 4, generator=torch.Generator().manual_seed(1))
        for p, g in zip(parameters, [gradient] if options else [gradient[::2], gradient[1::2]]):
            p.grad = g.clone()
        optimizer.step()
    assert_same_bits([mixed.detach()[::2], mixed.detach()[1::2]], [p.detach() for p in both])


def test_experts_are_the_matrices_held_apart():
    tensors = [torch.randn(12, 6) for _ in range(3)]
    experts = {"batch": [0], "rows": [1], "cols": [2]}
    together = stepped(NorMuon, [torch.stack(tensors)], dimensions=experts)
    assert_same_bits(list(together[0]), stepped(NorMuon, tensors))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_a_convolution_is_its_matrix_of_filters(memory_format):
    kernel, gradient = torch.randn(8, 3, 2, 2), torch.randn(8, 3, 2, 2)
    whole = nn.Parameter(kernel.clone(memory_format=memory_format))
    flat = nn.Parameter(kernel.flatten(1))
    for p, g in ((whole, gradient), (flat, gradient.flatten(1))):
        optimizer = Muon([p])
        p.grad = g.clone()
        optimizer.step()
    torch.testing.assert_close(whole.detach().flatten(1), flat.detach(), rtol=1e-5, atol=1e-6)
    assert optimizer.state[flat]["momentum_buffer"].shape == (8, 12)


def test_transposed_weights_name_their_axes():
    weight = torch.randn(8, 20)
    ours = stepped(Aurora, [weight], dimensions={"rows": [1], "cols": [0]}, momentum=0)
    parameter = nn.Parameter(weight.t().clone())
    optimizer = Aurora([parameter], momentum=0)
    for step in range(3):
        parameter.grad = torch.randn(160, generator=torch.Generator().manual_seed(step)).view(8, 20).t().contiguous()
        optimizer.step()
    torch.testing.assert_close(ours[0].t(), parameter.detach(), rtol=1e-5, atol=1e-6)


def test_a_model_says_by_pattern_what_is_fused():
    attention = nn.MultiheadAttention(12, 3, bias=False)
    model = nn.Sequential(attention, nn.Linear(12, 48), nn.Linear(48, 12))
    optimizer = Aurora(model, blocks={"*.in_proj_weight": 3}, heads={"*.in_proj_weight": 3})
    groups = {tuple(g["param_names"]): (g["blocks"], g["heads"]) for g in optimizer.param_groups if "blocks" in g}
    assert groups == {("0.in_proj_weight",): (3, 3), ("0.out_proj.weight", "1.weight"): (None, None)}
    set_gradients(model.parameters(), 0)
    optimizer.step()
    assert [name for name in diagnose(optimizer) if "in_proj" in name] == [f"0.in_proj_weight[{i}]" for i in range(9)]


@pytest.mark.parametrize(
    "options, parts",
    [
        ({"blocks": 5}, ["blocks", "5", "[16, 8]"]),
        ({"blocks": [8, 4]}, ["[8, 4]", "16", "[16, 8]"]),
        ({"blocks": "three"}, ["blocks", "'three'"]),
        ({"blocks": 0}, ["blocks", "0"]),
        ({"heads": 3}, ["heads", "3", "[16, 8]"]),
        ({"blocks": 2, "repeats": 3}, ["repeats", "3", "[16, 8]"]),
        ({"blocks": 2, "repeats": 2, "heads": 2}, ["heads", "repeat", "[16, 8]"]),
        ({"blocks": 2, "heads": [2, 2, 2]}, ["heads", "3 blocks", "[16, 8]"]),
        ({"heads": True}, ["heads", "True"]),
        ({"dimensions": {"rows": [0], "cols": [2]}}, ["[16, 8]"]),
        ({"dimensions": {"rows": [0]}}, ["[16, 8]"]),
        ({"dimensions": {"rows": [0], "columns": [1]}}, ["'columns'"]),
        ({"dimensions": [0, 1]}, ["dimensions", "[0, 1]"]),
        ({"dimensions": {"rows": [7], "cols": [1]}, "blocks": 2}, ["axis 7", "[16, 8]"]),
        ({"blocks": 16}, ["side of length 1", "[16, 8]"]),
    ],
)
def test_wrong_dimensions_are_refused_with_the_shape(options, parts):
    with pytest.raises(ValueError) as error:
        Aurora([nn.Parameter(torch.randn(16, 8))], **options)
    assert all(part in str(error.value) for part in parts), error.value


@pytest.mark.parametrize(
    "options, parts",
    [
        ({"blocks": 3}, ["blocks", "patterns"]),
        ({"blocks": {"nothing": 3}}, ["'nothing'"]),
        ({"heads": {"*": 2, "1.*": 4}}, ["contradict", "1.weight"]),
    ],
)
def test_wrong_patterns_of_dimensions_are_refused(options, parts):
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 16), nn.Linear(16, 8))
    with pytest.raises((TypeError, ValueError)) as error:
        Aurora(model, **options)
    assert all(part in str(error.value) for part in parts), error.value
