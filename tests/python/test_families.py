"""Every matrix of the models that people train is stepped as the matrix that it is: shown by what a step does."""

import warnings

import pytest
import torch

from aurora_optim import Aurora
import families_table
from families import FAMILIES

LR = 1e-3


def step_of(model, patterns):
    """What one step of Aurora changes: lr 1, nothing but the direction."""
    generator = torch.Generator().manual_seed(5)
    before, gradients = {}, {}
    for name, p in model.named_parameters():
        p.grad = torch.randn(p.shape, generator=generator, dtype=p.dtype)
        before[name], gradients[name] = p.detach().clone(), p.grad.clone()
    options = {"momentum": 0, "nesterov": False, "weight_decay": 0, "scale": "none", "pp_iterations": 20}
    optimizer = Aurora(model, lr=1, **options, adamw_lr=LR, adamw_weight_decay=0, patterns=patterns)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimizer.step()
    changes = {name: before[name] - p.detach() for name, p in model.named_parameters()}
    return changes, gradients, optimizer.routing


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_each_matrix_of_a_family_is_stepped_as_one_matrix(family):
    model = family.make().double()
    changes, gradients, routing = step_of(model, family.patterns)
    cut = {entry.name: entry for entry in routing}
    wrong = []
    for name, change in changes.items():
        said = f"{name} {list(change.shape)}: {cut[name].rule}, {cut[name].matrices or '-'}, {cut[name].reason}"
        if family.is_adamw(name, change):
            # The first step of AdamW: the bias corrections leave g / (|g| + eps).
            expected = LR * gradients[name] / (gradients[name].abs() + 1e-8)
            if not torch.allclose(change, expected, rtol=1e-9, atol=1e-12):
                wrong.append(f"AdamW does not step {said}")
            continue
        for matrix in family.matrices(name, change):
            # float64: rounding of the direction and of the subtraction, both far below.
            values = torch.linalg.svdvals(matrix)
            if not torch.allclose(values, torch.ones_like(values), rtol=0, atol=1e-8):
                wrong.append(f"singular values {values.min():.3f} to {values.max():.3f} of {list(matrix.shape)} in {said}")
                break
            rows, cols = matrix.shape
            # Rows are outputs: those of tall matrices are even, which holds for no columns of a random matrix.
            norms = matrix.norm(dim=1) * (rows / cols) ** 0.5
            if rows > cols and (norms - 1).abs().max() > 0.01:
                wrong.append(f"row norms {norms.min():.2f} to {norms.max():.2f} of {list(matrix.shape)} in {said}")
                break
    assert not wrong, "\n".join(wrong)


def test_the_table_in_the_documents_is_what_happens(root):
    assert (root / "docs/families.md").read_text() == families_table.table()
