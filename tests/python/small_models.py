"""Models and loops that the tests of the package share."""

import torch
from torch import nn

from aurora_optim import rules

CLASSES = list(rules.CLASSES)
MATRIX_CLASSES = CLASSES[1:]


class Decoder(nn.Module):
    """Next-character model with an MLP: an embedding, two hidden matrices, norms, biases and a head."""

    def __init__(self, tokens=16, width=12):
        super().__init__()
        self.embed = nn.Embedding(tokens, width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)
        self.norm = nn.LayerNorm(width)
        self.lm_head = nn.Linear(width, tokens, bias=False)

    def forward(self, tokens):
        x = self.embed(tokens)
        return self.lm_head(self.norm(x + self.down(torch.relu(self.up(x)))))


def decoder(seed=0, dtype=torch.float32):
    torch.manual_seed(seed)
    return Decoder().to(dtype)


def set_gradients(parameters, step, dtype=None):
    """The same gradients for the same step, whatever the optimizer."""
    generator = torch.Generator().manual_seed(1000 + step)
    for p in parameters:
        p.grad = torch.randn(p.shape, generator=generator).to(dtype or p.dtype)


def run(model, optimizer, steps, start=0):
    for step in range(start, start + steps):
        set_gradients(model.parameters(), step)
        optimizer.step()


def weights(model):
    return [p.detach().clone() for p in model.parameters()]


def assert_same_bits(a, b):
    assert len(a) == len(b)
    for i, (x, y) in enumerate(zip(a, b)):
        assert x.dtype == y.dtype and torch.equal(x, y), f"tensor {i}: {(x.float() - y.float()).abs().max()}"


def states(optimizer):
    return [
        (i, key, value)
        for i, p in enumerate(p for group in optimizer.param_groups for p in group["params"])
        for key, value in sorted(optimizer.state.get(p, {}).items())
    ]


def assert_same_states(a, b):
    a, b = states(a), states(b)
    assert [entry[:2] for entry in a] == [entry[:2] for entry in b]
    assert_same_bits([value for *_, value in a], [value for *_, value in b])
