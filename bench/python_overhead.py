#!/usr/bin/env python3
"""How much of a step of aurora_optim is not arithmetic, at 12 matrices of 1024x384.

    python bench/python_overhead.py [--rounds 20] [--threads N]

A step on 12 matrices of 2x2 has next to no arithmetic: what it takes is Python, the bindings, the checks and the calls. Its
least time over the rounds is compared with that of a step on 12 matrices of 1024x384. Both are first seen to step.
"""

import argparse
import os
import time

if "OMP_WAIT_POLICY" not in os.environ:  # threads that wait sleep soon, so a busy machine costs little
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

import torch

from aurora_optim import Aurora, Muon

parser = argparse.ArgumentParser()
parser.add_argument("--rounds", type=int, default=20)
parser.add_argument("--threads", type=int, default=torch.get_num_threads())
arguments = parser.parse_args()
torch.set_num_threads(arguments.threads)


def optimizer_of(cls, shape):
    weights = [torch.nn.Parameter(torch.randn(shape)) for _ in range(12)]
    for weight in weights:
        weight.grad = torch.randn(shape)
    before = weights[0].detach().clone()
    optimizer = cls(weights)
    optimizer.step()
    assert not torch.equal(before, weights[0]) and optimizer.skipped_steps == 0
    return optimizer


def seconds(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


for cls in (Muon, Aurora):
    whole, empty = optimizer_of(cls, (1024, 384)), optimizer_of(cls, (2, 2))
    times = [(seconds(whole.step), min(seconds(empty.step) for _ in range(20))) for _ in range(arguments.rounds)]
    step, overhead = (min(column) for column in zip(*times))
    print(
        f"{cls.__name__:8} step {1e3 * step:8.2f} ms, of which not arithmetic {1e3 * overhead:6.3f} ms: "
        f"{100 * overhead / step:.2f} % ({arguments.threads} threads)"
    )
