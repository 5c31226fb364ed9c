"""Saved by four processes, loaded by two and by one: the run goes on as if it had never stopped."""

import os

import torch
from torch.distributed import checkpoint
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_optimizer_state_dict, set_optimizer_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from aurora_optim import Aurora, NorMuon
from ranks_cases import seeded
from small_models import decoder

SAVED = 3  # steps before the file


def model_of(seed=0):
    torch.manual_seed(seed)
    return torch.nn.ModuleDict({"first": decoder(), "second": decoder()})


def set_gradients(model, step):
    for i, p in enumerate(model.parameters()):
        gradient = torch.randn(p.shape, generator=seeded(100 * step + i))
        if hasattr(p, "full_tensor"):
            gradient = torch.distributed.tensor.distribute_tensor(gradient, p.device_mesh, p.placements, src_data_rank=None)
        p.grad = gradient


KINDS = {
    "normuon": lambda model, **o: NorMuon(model, **o),
    "carried": lambda model, **o: Aurora(model, balance="carried", **o),
}


def alone(kind, steps):
    model = model_of()
    optimizer = KINDS[kind](model, process_group=None)
    for step in range(steps):
        set_gradients(model, step)
        optimizer.step()
    return model


def shared_model(world, is_sharded):
    model = model_of()
    if is_sharded:
        mesh = init_device_mesh("cpu", (world,))
        for part in model.values():
            fully_shard(part, mesh=mesh)
    return model


def folder(name):
    return os.path.join(os.environ["AURORA_TEST_SHARED"], name)


def require_same(model, reference, what):
    for (name, p), q in zip(model.named_parameters(), reference.parameters()):
        whole = p.full_tensor() if hasattr(p, "full_tensor") else p
        assert torch.equal(whole, q), f"{what}: {name}"


def through_files(world, kind, is_sharded, flat, parts):
    """torchtitan's pattern: a list of model parts, an optimizer for each, and flattened states."""
    name = folder(f"{kind}-{is_sharded}-{flat}-{parts}")
    model = shared_model(world, is_sharded)
    pieces = list(model.values()) if parts else [model]
    optimizers = [KINDS[kind](piece) for piece in pieces]
    options = StateDictOptions(flatten_optimizer_state_dict=flat)
    for optimizer in optimizers:
        optimizer.gathers_states = True
    first = 0
    if world != 4:
        first = SAVED
        weights = {key: value for key, value in model.state_dict().items()}
        checkpoint.load(weights, checkpoint_id=name + "-weights")
        model.load_state_dict(weights)
        for i, (piece, optimizer) in enumerate(zip(pieces, optimizers)):
            state = get_optimizer_state_dict(piece, optimizer, options=options)
            checkpoint.load(state, checkpoint_id=f"{name}-{i}")
            set_optimizer_state_dict(piece, optimizer, state, options=options)
        require_same(model, alone(kind, SAVED), "loaded weights")
    for step in range(first, SAVED if world == 4 else SAVED + 2):
        set_gradients(model, step)
        for optimizer in optimizers:
            optimizer.step()
    if world == 4:
        checkpoint.save(dict(model.state_dict()), checkpoint_id=name + "-weights")
        for i, (piece, optimizer) in enumerate(zip(pieces, optimizers)):
            checkpoint.save(get_optimizer_state_dict(piece, optimizer, options=options), checkpoint_id=f"{name}-{i}")
    else:
        require_same(model, alone(kind, SAVED + 2), "went on")


def sharded(world):
    through_files(world, "normuon", is_sharded=True, flat=False, parts=False)


def sharded_and_flat_in_parts(world):
    through_files(world, "carried", is_sharded=True, flat=True, parts=True)


def owned(world):
    through_files(world, "normuon", is_sharded=False, flat=False, parts=False)


def owned_and_flat_in_parts(world):
    through_files(world, "carried", is_sharded=False, flat=True, parts=True)


def whole_state_dict(world):
    """A state dict of a process alone, for one that shards."""
    reference = model_of()
    before = KINDS["normuon"](reference, process_group=None)
    for step in range(2):
        set_gradients(reference, step)
        before.step()
    model = shared_model(world, True)
    after = KINDS["normuon"](model)
    for p, q in zip(model.parameters(), reference.parameters()):
        p.data.copy_(torch.distributed.tensor.distribute_tensor(q.data, p.device_mesh, p.placements, src_data_rank=None))
    after.load_state_dict(before.state_dict())
    for step in (2, 3):
        set_gradients(reference, step), set_gradients(model, step)
        before.step(), after.step()
    require_same(model, reference, "from one process")


CASES = [sharded, sharded_and_flat_in_parts, owned, owned_and_flat_in_parts, whole_state_dict]
