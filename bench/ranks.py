#!/usr/bin/env python3
"""Optimizer time of a step on two processes of one thread each, against one.

    python bench/ranks.py [--rounds 7] [--models tiny small]

The matrices are those of the presets of `aurora train`, with momentum and gradients of random numbers. Three ways: replicas
with owners (DistributedDataParallel's case), and DTensors cut along their rows with and without overlap. Every result is
first compared with that of one process, to the bit. Printed are the least time of the rounds of the slower process, and
its processor time, which says what other programs took from it.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")
import torch
from torch import distributed

from aurora_optim import Aurora

# layers, width, hidden neurons of the MLP
MODELS = {"tiny": (4, 128, 512), "small": (8, 512, 2048)}
WAYS = ("owners", "pieces", "pieces, one after the other")


def values_of(model, seed):
    layers, width, hidden = MODELS[model]
    generator = torch.Generator().manual_seed(seed)
    shapes = [*[(width, width)] * 4, *[(hidden, width)] * 2, (width, hidden)] * layers
    return [torch.randn(shape, generator=generator) for shape in shapes]


def times_of(optimizer, rounds):
    times, of_processor = [], []
    for _ in range(rounds):
        if distributed.is_initialized():
            distributed.barrier()
        began, began_processor = time.perf_counter(), time.process_time()
        optimizer.step()
        times.append(time.perf_counter() - began)
        of_processor.append(time.process_time() - began_processor)
    return [min(times), min(of_processor)]


def parameters_of(model, lay_out):
    parameters = [torch.nn.Parameter(lay_out(value)) for value in values_of(model, 0)]
    for p, gradient in zip(parameters, values_of(model, 1)):
        p.grad = lay_out(gradient)
    return parameters


def worker(rank, world, rendezvous, model, rounds):
    torch.set_num_threads(1)
    reference = parameters_of(model, torch.clone)
    alone = Aurora(reference, process_group=None)
    alone.step()
    if world == 1:
        print("alone", *times_of(alone, rounds), sep="|")
        return
    distributed.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=world)
    mesh = distributed.device_mesh.init_device_mesh("cpu", (world,))

    def piece(value):
        placements = [distributed.tensor.Shard(0)]
        return distributed.tensor.distribute_tensor(value, mesh, placements, src_data_rank=None)

    for way in WAYS:
        parameters = parameters_of(model, torch.clone if way == "owners" else piece)
        optimizer = Aurora(parameters, overlap=way == "pieces")
        optimizer.step()
        for p, q in zip(parameters, reference):
            assert torch.equal(p.full_tensor() if way != "owners" else p, q)
        slowest = torch.tensor(times_of(optimizer, rounds))
        distributed.all_reduce(slowest, distributed.ReduceOp.MAX)
        if rank == 0:
            print(way, *slowest.tolist(), sep="|")
            print(optimizer.description, file=sys.stderr)
    distributed.destroy_process_group()


def run(world, model, rounds):
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--worker"]
        processes = [
            subprocess.Popen(
                [*command, str(rank), str(world), f"{folder}/rendezvous", model, str(rounds)],
                stdout=subprocess.PIPE, text=True,
            )
            for rank in range(world)
        ]  # fmt: skip
        outputs = [process.communicate()[0] for process in processes]
        assert all(process.returncode == 0 for process in processes)
    lines = [line.split("|") for line in outputs[0].splitlines()]
    return {way: (float(seconds), float(of_processor)) for way, seconds, of_processor in lines}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    arguments = parser.parse_args()
    for model in arguments.models:
        alone = run(1, model, arguments.rounds)["alone"]
        print(f"{model}: one process {1e3 * alone[0]:.1f} ms, {1e3 * alone[1]:.1f} ms of processor time")
        for way, shared in run(2, model, arguments.rounds).items():
            print(
                f"{model}: two processes, {way}: {1e3 * shared[0]:.1f} ms, {shared[0] / alone[0]:.2f} of one; "
                f"{1e3 * shared[1]:.1f} ms of processor time, {shared[1] / alone[1]:.2f} of one"
            )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        rank, world, rendezvous, model, rounds = sys.argv[2:]
        worker(int(rank), int(world), rendezvous, model, int(rounds))
    else:
        main()
