"""From torch.optim.Muon to Aurora: the two lines that change are marked."""

import os

if "OMP_WAIT_POLICY" not in os.environ:  # threads that wait sleep soon, so a busy machine costs little
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

import torch
from torch import nn
from torch.nn import functional

from aurora_optim import Aurora  # instead of: from torch.optim import AdamW, Muon

torch.manual_seed(0)
model = nn.Sequential(nn.Embedding(32, 16), nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 16), nn.Linear(16, 32))

# Before, two optimizers: Muon(the matrices you picked, lr=0.02, weight_decay=0.0) and AdamW(the rest, lr=3e-3).
optimizer = Aurora(model, lr=0.02, weight_decay=0.0, adamw_lr=3e-3)
print(optimizer.routing)

tokens = torch.arange(32)
for step in range(100):
    loss = functional.cross_entropy(model(tokens), (tokens + 1) % 32)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(f"loss {loss.item():.4f}")
