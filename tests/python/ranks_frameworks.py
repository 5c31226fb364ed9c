"""Real models under torch's own ways to spread them: as on one process."""

import torch
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.nn.parallel import DistributedDataParallel
from transformers import LlamaConfig, LlamaForCausalLM, MixtralConfig, MixtralForCausalLM

from aurora_optim import Aurora, NorMuon
from ranks_cases import seeded

STEPS = 20
SIZE = {
    "hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2,
    "num_hidden_layers": 2, "vocab_size": 64,
}  # fmt: skip


def llama():
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**SIZE)).double()


def mixtral():
    torch.manual_seed(0)
    config = MixtralConfig(**SIZE, num_local_experts=4, num_experts_per_tok=2)
    config._experts_implementation = "eager"  # the others have no float64
    return MixtralForCausalLM(config).double()


def batch(step, rank, world):
    tokens = torch.randint(64, (4, 12), generator=seeded(step))
    return tokens.chunk(world)[rank]


def loss_of(model, tokens):
    logits = model(input_ids=tokens).logits[:, :-1]  # the models' own loss is in float32
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())


def whole(tensor):
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def train(make_model, shard, cls, world, **keywords):
    """One process with the same reduced gradients has the same weights to the bit; one that trains on all batches by itself
    has the same losses to rounding."""
    rank = distributed.get_rank()
    alone, by_itself, shared = make_model(), make_model(), shard(make_model())
    of_alone, of_itself = cls(alone, process_group=None, **keywords), cls(by_itself, process_group=None, **keywords)
    optimizer = cls(shared, **keywords)
    routed = [entry.rule for entry in optimizer.routing]
    assert routed == [entry.rule for entry in of_alone.routing], list(zip(routed, optimizer.routing))
    for step in range(STEPS):
        optimizer.zero_grad(), of_itself.zero_grad()
        loss = loss_of(shared, batch(step, rank, world))
        loss.backward()
        for p, q in zip(alone.parameters(), shared.parameters()):
            p.grad = None if q.grad is None else whole(q.grad).clone()
        optimizer.step(), of_alone.step()
        for (name, p), q in zip(alone.named_parameters(), shared.parameters()):
            assert torch.equal(p, whole(q)), f"{name} in step {step}"
        expected = loss_of(by_itself, batch(step, 0, 1))
        expected.backward()
        of_itself.step()
        distributed.all_reduce(loss := loss.detach())
        # float64: sums in another order are off by 1e-15, and twenty steps amplify that.
        # Norms and routers of these models compute in float32: where a sum of float64 in another order makes one of them
        # round the other way, its relative change of 6e-8 may grow tenfold in a step's direction and add up over the steps.
        torch.testing.assert_close(loss / world, expected.detach(), rtol=6e-8 * 10 * STEPS, atol=0)
    return optimizer


def by_fully_shard(world, *shape):
    def shard(model):
        names = ("replicas", "shards") if shape else ("shards",)
        mesh = init_device_mesh("cpu", shape or (world,), mesh_dim_names=names)
        for layer in model.model.layers:
            fully_shard(layer, mesh=mesh)
        return fully_shard(model, mesh=mesh)

    return shard


def llama_under_fully_shard(world):
    optimizer = train(llama, by_fully_shard(world), Aurora, world)
    assert "owns" in optimizer.description and f"of {world}" in optimizer.description


def mixtral_under_fully_shard(world):
    train(mixtral, by_fully_shard(world), NorMuon, world)


def llama_under_replicas_of_shards(world):
    if world == 4:
        train(llama, by_fully_shard(world, 2, 2), Aurora, world, balance="carried")


def llama_under_ddp(world):
    train(llama, DistributedDataParallel, Aurora, world)


def tensor_parallel(world):
    """Rows and columns sharded, and on four processes fully_shard around it."""
    torch.manual_seed(0)

    def make():
        torch.manual_seed(0)
        return torch.nn.ModuleDict(
            {"up": torch.nn.Linear(16, 24), "gate": torch.nn.Linear(16, 24, bias=False), "down": torch.nn.Linear(24, 16)}
        )

    class Mlp(torch.nn.Module):
        def __init__(self):
            super().__init__()
            for name, layer in make().items():
                setattr(self, name, layer)

        def forward(self, x):
            return self.down(torch.nn.functional.silu(self.gate(x)) * self.up(x))

    model, alone = Mlp(), Mlp()
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "tp")) if world == 4 else init_device_mesh("cpu", (world,))
    tp = mesh["tp"] if world == 4 else mesh
    parallelize_module(model, tp, {"up": ColwiseParallel(), "gate": ColwiseParallel(), "down": RowwiseParallel()})
    if world == 4:
        fully_shard(model, mesh=mesh["dp"])
    optimizer = Aurora([p for p in model.named_parameters()], balance="carried", patterns={"*.weight": "aurora"})
    of_alone = Aurora([p for p in alone.named_parameters()], balance="carried", patterns={"*.weight": "aurora"}, process_group=None)
    for step in range(5):
        optimizer.zero_grad()
        model(torch.randn(6, 16, generator=seeded(step))).square().sum().backward()
        for p, q in zip(alone.parameters(), model.parameters()):
            p.grad = whole(q.grad).clone()
        optimizer.step(), of_alone.step()
        for (name, p), q in zip(alone.named_parameters(), model.parameters()):
            assert torch.equal(p, whole(q)), f"{name} in step {step}"


CASES = [llama_under_fully_shard, mixtral_under_fully_shard, llama_under_replicas_of_shards, llama_under_ddp, tensor_parallel]
