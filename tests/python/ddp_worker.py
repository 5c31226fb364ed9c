"""One process of a distributed run: argv is rank, number of processes, file of the rendezvous, file of the result."""

import sys

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from aurora_optim import Aurora
from small_models import decoder


def train(model, optimizer, rank, world):
    """Four steps on this process's part of the same batches."""
    for step in range(4):
        tokens = torch.randint(16, (8,), generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        model(tokens.chunk(world)[rank]).square().mean().backward()
        optimizer.step()
    return [p.detach() for p in model.parameters()]


def main(rank, world, rendezvous, result):
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=world)
    model = DistributedDataParallel(decoder(dtype=torch.float64))
    optimizer = Aurora(model, lr=0.05)
    assert optimizer.routing[1].name == "module.up.weight" and optimizer.routing[1].rule == "aurora"
    torch.save(train(model, optimizer, rank, world), f"{result}.{rank}")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
