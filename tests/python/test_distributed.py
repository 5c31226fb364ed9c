"""Several processes."""

import os
import pathlib
import subprocess
import sys

import torch
from torch import distributed

from aurora_optim import Aurora
from ddp_worker import train
from small_models import assert_same_bits, decoder, weights

HERE = pathlib.Path(__file__).parent


def test_two_processes_take_the_steps_of_one(packages, tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(packages), str(HERE)])}
    arguments = [2, tmp_path / "rendezvous", tmp_path / "weights"]
    processes = [
        subprocess.Popen(
            [sys.executable, *map(str, [HERE / "ddp_worker.py", rank, *arguments])],
            env=environment, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    for process in processes:
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors
    first, second = (torch.load(tmp_path / f"weights.{rank}") for rank in range(2))
    assert_same_bits(first, second)
    model = decoder(dtype=torch.float64)
    alone = train(model, Aurora(model, lr=0.05), rank=0, world=1)
    for a, b, start in zip(alone, first, weights(decoder(dtype=torch.float64))):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-8)  # the sum over the batch is in another order
        assert not torch.allclose(a, start, rtol=1e-3)


def test_dtensors_of_one_process_are_stepped_as_plain_tensors(tmp_path):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/one", rank=0, world_size=1)
    try:
        mesh = init_device_mesh("cpu", (1,))
        value, gradient = torch.randn(8, 4), torch.randn(8, 4)
        plain = torch.nn.Parameter(value.clone())
        sharded = torch.nn.Parameter(distribute_tensor(value.clone(), mesh, [Shard(0)]))
        plain.grad, sharded.grad = gradient, distribute_tensor(gradient.clone(), mesh, [Shard(0)])
        optimizers = [Aurora([("up.weight", weight)], patterns={"up.weight": "aurora"}) for weight in (plain, sharded)]
        for optimizer in optimizers:
            optimizer.step()
        assert torch.equal(sharded.to_local(), plain) and not torch.equal(plain, value)
        momentum = optimizers[1].state[sharded]["momentum_buffer"]
        assert momentum.placements == sharded.placements and momentum.shape == (8, 4)
    finally:
        distributed.destroy_process_group()
