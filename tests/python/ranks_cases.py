"""What processes that share a step must do: each case runs in every process of a world, and compares with a process
alone to the bit. A case raises where it fails."""

import contextlib
import warnings

import torch
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Replicate, Shard, distribute_tensor

import aurora_optim
from aurora_optim import Aurora, Muon, NorMuon

VARIANTS = [
    (cls, {"balance": balance} if cls is Aurora else {})
    for cls in aurora_optim.rules.CLASSES
    for balance in (("odds", "release", "carried", "optimum") if cls is Aurora else ("",))
]
SMALL = 4096  # bytes of a chunk: several exchanges in a step


class Twin:
    """The same parameters twice: shared here, and whole on this process alone. Gradients are those of the seed."""

    def __init__(self, shapes, lay_out, dtype=torch.float32):
        values = [torch.randn(shape, generator=seeded(i)).to(dtype) for i, shape in enumerate(shapes)]
        self.alone = [torch.nn.Parameter(value.clone()) for value in values]
        self.shared = [torch.nn.Parameter(lay_out(value, i)) for i, value in enumerate(values)]
        self.lay_out = lay_out

    def set_gradients(self, step):
        for i, (alone, shared) in enumerate(zip(self.alone, self.shared)):
            gradient = torch.randn(alone.shape, generator=seeded(1000 * (step + 1) + i)).to(alone.dtype)
            alone.grad = gradient
            shared.grad = self.lay_out(gradient.clone(), i)

    def optimizers(self, make, **options):
        return make(self.alone, process_group=None), make(self.shared, **options)

    def require_same(self, what):
        for i, (alone, shared) in enumerate(zip(self.alone, self.shared)):
            whole = shared.full_tensor() if hasattr(shared, "full_tensor") else shared
            assert torch.equal(whole, alone), f"{what}: parameter {i}, shape {list(alone.shape)}"


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def plain(value, i):
    return value.clone()


def on(mesh, *placements):
    return lambda value, i: distribute_tensor(value, mesh, list(placements), src_data_rank=None)


def run(twin, make, what, steps=3, **options):
    alone, shared = twin.optimizers(make, **options)
    if "chunk" in what:
        shared._sharing.options = shared._sharing.options._replace(chunk_bytes=SMALL)
    for step in range(steps):
        twin.set_gradients(step)
        alone.step()
        shared.step()
    twin.require_same(what)
    return alone, shared


def with_adamw(cls, keywords):
    """All matrices by the rule, vectors by AdamW."""

    def make(parameters, **options):
        matrices = [p for p in parameters if p.ndim > 1]
        vectors = [p for p in parameters if p.ndim == 1]
        groups = [{"params": matrices}, {"params": vectors, "rule": "adamw"}]
        return cls([group for group in groups if group["params"]], **keywords, **options)

    return make


SHAPES = [(32, 16), (16, 32), (24, 24), (33, 7), (5, 9), (17,), (48, 8)]


def all_rules_under_owners(world):
    for cls, keywords in VARIANTS:
        twin = Twin(SHAPES, plain)
        alone, shared = run(twin, with_adamw(cls, keywords), f"{cls.__name__} {keywords}")
        kept = sum(
            state["momentum_buffer"].numel() for state in shared.state.values() if "momentum_buffer" in state
        )
        total = torch.tensor([float(kept)])
        distributed.all_reduce(total)
        assert total.item() == (0 if cls.rule == "adamw" else sum(a * b for a, b, *_ in
                                (s for s in SHAPES if len(s) > 1))), cls.__name__  # fmt: skip


def all_rules_in_pieces(world):
    mesh = init_device_mesh("cpu", (world,))
    for cls, keywords in VARIANTS:
        for placement in (Shard(0), Shard(1), Replicate()):
            shapes = [s for s in SHAPES if len(s) > 1 or placement != Shard(1)]
            run(Twin(shapes, on(mesh, placement)), with_adamw(cls, keywords), f"{cls.__name__} {keywords} {placement}")


def types_of_weights(world):
    mesh = init_device_mesh("cpu", (world,))
    for dtype in (torch.float64, torch.bfloat16, torch.float16):
        for lay_out in (plain, on(mesh, Shard(0)), on(mesh, Shard(1))):
            run(Twin([(31, 16), (16, 24)], lay_out, dtype), with_adamw(NorMuon, {}), f"{dtype} {lay_out}")
    kinds = [torch.float32, torch.bfloat16, torch.float64]  # odd sizes side by side

    def mixed(value, i):
        return value.to(kinds[i % 3])

    twin = Twin([(3, 5)] * 9, mixed)
    twin.alone = [torch.nn.Parameter(mixed(p.detach(), i)) for i, p in enumerate(twin.alone)]
    run(twin, Muon, "mixed types")


def chunks_and_overlap(world):
    mesh = init_device_mesh("cpu", (world,))
    shapes = [(24 + i, 20) for i in range(12)]
    for lay_out in (plain, on(mesh, Shard(0))):
        for overlap in (True, False):
            run(Twin(shapes, lay_out), Aurora, f"chunk {overlap}", overlap=overlap)


def fused_blocks_across_a_border(world):
    mesh = init_device_mesh("cpu", (world,))
    cuts = [
        ({"blocks": 3}, (3 * 10, 12)),
        ({"blocks": [20, 7, 7]}, (34, 12)),
        ({"blocks": 2, "repeats": 9}, (36, 8)),
        ({"blocks": [4, 2, 2], "repeats": 5}, (40, 6)),
        ({"blocks": [12, 6, 6], "heads": [4, 2, 2]}, (24, 10)),
        ({"dimensions": {"rows": [1], "cols": [0]}, "blocks": [16, 8, 8]}, (10, 32)),
        ({"dimensions": {"rows": [0], "cols": [1, 2, 3]}}, (10, 3, 2, 2)),
    ]
    for cls, keywords in ((NorMuon, {}), (Aurora, {"balance": "carried"})):
        for cut, shape in cuts:
            for axis in (0, 1):
                twin = Twin([shape], on(mesh, Shard(axis)))
                run(twin, lambda parameters, **o: cls(parameters, **keywords, **cut, **o), f"{cls.__name__} {cut} {axis}")


def stacked_experts(world):
    mesh = init_device_mesh("cpu", (world,))
    cut = {"dimensions": {"batch": [0], "rows": [1], "cols": [2]}}
    for cls, keywords in ((Muon, {}), (NorMuon, {}), (Aurora, {"balance": "carried"})):
        for experts in (2 * world, 2 * world + 1, 1):
            for axis in (0, 1, 2):
                twin = Twin([(experts, 12, 8)], on(mesh, Shard(axis)))
                what = f"{cls.__name__} {experts} experts, axis {axis}"
                _, shared = run(twin, lambda parameters, **o: cls(parameters, **keywords, **cut, **o), what)
                if axis == 0 and (cls is Muon or experts % world == 0):
                    sent = shared._sharing.plan.ranks[0].bytes_of_step
                    assert sent == votes(world), f"{what}: {sent} bytes"  # nothing but the votes


def votes(world):
    return 2 * (world - 1) * 8 * 8 // world


def bytes_are_those_of_the_formulas(world):
    mesh = init_device_mesh("cpu", (world,))
    n, count = 4 * world, 3 * world  # divisible by everything
    for lay_out, factor in ((plain, None), (on(mesh, Shard(0)), 2), (on(mesh, Shard(1)), 2)):
        twin = Twin([(n, n)] * count, lay_out)
        _, shared = run(twin, Muon, "bytes")
        sent = shared._sharing.plan.ranks[0].bytes_of_step - votes(world)
        elements = count * n * n
        if factor is None:  # (R - 1) / R b of each element
            kept = sum(state["momentum_buffer"].numel() for state in shared.state.values() if state)
            assert kept == elements // world, kept  # of the momentum of one process
            assert sent == (world - 1) * elements * 4 // world, sent
        else:  # 2 (R - 1) / R^2 b
            assert sent == 2 * (world - 1) * elements * 4 // world**2, sent
        assert f"sent {sent + votes(world)} bytes" in shared.description, shared.description


def fewer_matrices_than_ranks(world):
    mesh = init_device_mesh("cpu", (world,))
    for lay_out in (plain, on(mesh, Shard(0)), on(mesh, Shard(1))):
        run(Twin([(12, 8)], lay_out), Aurora, "one matrix")
        run(Twin([(2, 8), (8, 2)], lay_out), Aurora, "smaller than the ranks")


def a_nan_on_one_rank(world):
    mesh = init_device_mesh("cpu", (world,))
    for lay_out in (plain, on(mesh, Shard(0))):
        twin = Twin(SHAPES, lay_out)
        _, shared = twin.optimizers(with_adamw(Aurora, {}))
        twin.set_gradients(0)
        shared.step()
        before = [p.detach().clone() for p in twin.shared]
        twin.set_gradients(1)
        if distributed.get_rank() == world - 1:
            bad = twin.shared[0].grad
            (bad.to_local() if hasattr(bad, "to_local") else bad).view(-1)[0] = float("nan")
        shared.step()
        assert shared.skipped_steps == shared.skipped_in_a_row == 1
        for p, old in zip(twin.shared, before):
            assert torch.equal(local(p), local(old))
        twin.set_gradients(2)
        shared.step()
        assert shared.skipped_steps == 1 and shared.skipped_in_a_row == 0


def local(tensor):
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor.detach()


@contextlib.contextmanager
def raises(kind, *texts):
    try:
        yield
    except kind as error:
        for text in texts:
            assert text in str(error), f"{text!r} is not in {error}"
    else:
        raise AssertionError(f"No {kind.__name__} was raised")


def a_gradient_that_one_rank_lacks(world):
    mesh = init_device_mesh("cpu", (world,))
    for lay_out in (plain, on(mesh, Shard(0))):
        twin = Twin(SHAPES, lay_out)
        names = [(f"layer.{i}", p) for i, p in enumerate(twin.shared) if p.ndim > 1]
        shared = Muon([{"params": names}])
        twin.set_gradients(0)
        if distributed.get_rank() == 1:
            twin.shared[2].grad = None
        with raises(ValueError, "'layer.2' has a gradient on rank 0 and none on rank 1", "in step 0"):
            shared.step()
        twin.set_gradients(0)
        shared.step()  # nothing is broken


def hyperparameters_that_differ(world):
    mesh = init_device_mesh("cpu", (world,))
    for lay_out in (plain, on(mesh, Shard(0))):
        twin = Twin([(8, 6)], lay_out)
        shared = Muon(twin.shared, lr=0.02)
        twin.set_gradients(0)
        shared.step()
        shared.param_groups[0]["lr"] = 0.02 if distributed.get_rank() == 0 else 0.03
        with raises(ValueError, "Hyperparameters differ. Rank 0: muon of group 0, lr=0.02", "rank 1: muon of group 0, lr=0.03"):
            shared.step()


def shapes_and_rules_that_differ(world):
    rank = distributed.get_rank()
    odd = torch.nn.Parameter(torch.ones(8, 6 if rank == 0 else 7))
    odd.grad = torch.ones_like(odd)
    with raises(ValueError, "Processes disagree", "[8, 6]", "[8, 7]", "'up.weight'"):
        Muon([("up.weight", odd)]).step()
    same = torch.nn.Parameter(torch.ones(8, 6))
    same.grad = torch.ones_like(same)
    with raises(ValueError, "Processes disagree", "rule=muon", "rule=normuon"):
        (Muon if rank == 0 else NorMuon)([same]).step()
    with raises(ValueError, "has 'group 0, parameter 1', rank"):
        Muon([same] if rank == 0 else [same, torch.nn.Parameter(torch.ones(8, 6))]).step()


def an_error_on_one_rank(world):
    p = torch.nn.Parameter(torch.ones(8, 6))
    optimizer = Muon([("up.weight", p)])
    p.grad = torch.ones_like(p)
    optimizer.step()
    if distributed.get_rank() == 1:
        p.grad = torch.ones_like(p).to_sparse()
    with raises(ValueError, "Rank 1: [aurora::optim] Gradients must", "'up.weight'"):
        optimizer.step()


def a_momentum_with_nan_on_its_owner(world):
    twin = Twin([(8, 6)] * world, plain)
    optimizer = Muon(twin.shared)
    twin.set_gradients(0)
    optimizer.step()
    for state in optimizer.state.values():
        if "momentum_buffer" in state and distributed.get_rank() == 1:
            state["momentum_buffer"].fill_(float("nan"))
    with raises(ValueError, "Rank 1: ", "The momentum has an Inf or NaN"):
        optimizer.step()


def gradients_that_nobody_reduced(world):
    p = torch.nn.Parameter(torch.ones(8, 6))
    p.grad = torch.full_like(p, 1.0 + distributed.get_rank())
    with raises(ValueError, "other values", "'up.weight'" if False else "up.weight", "process_group=None"):
        Muon([("up.weight", p)]).step()
    Muon([{"params": [("up.weight", p)], "process_group": None}]).step()  # by itself
    assert not torch.equal(p, torch.ones(8, 6))


def experts_of_one_rank(world):
    """A group of its own parameters beside one that all share."""
    twin = Twin([(8, 6), (6, 8)], plain)
    own = torch.nn.Parameter(torch.full((6, 4), 1.0 + distributed.get_rank()))
    own.grad = torch.randn(6, 4, generator=seeded(distributed.get_rank()))
    alone, beside = torch.nn.Parameter(own.detach().clone()), own
    alone.grad = own.grad
    Muon([alone], process_group=None).step()
    shared = Muon([{"params": twin.shared}, {"params": [beside], "process_group": None}])
    reference = Muon(twin.alone, process_group=None)
    twin.set_gradients(0)
    shared.step(), reference.step()
    twin.require_same("beside experts")
    assert torch.equal(beside, alone)


def frozen_parameters(world):
    mesh = init_device_mesh("cpu", (world,))
    for lay_out in (plain, on(mesh, Shard(0))):
        twin = Twin([(12, 8)] * 4, lay_out)
        for p in (twin.alone[1], twin.shared[1]):
            p.requires_grad_(False)
        alone, shared = twin.optimizers(Aurora)
        for step in range(4):
            twin.set_gradients(step)
            for p in (twin.alone[1], twin.shared[1]):
                if step < 2:
                    p.grad = None
                else:
                    p.requires_grad_(True)
            alone.step(), shared.step()
        twin.require_same("frozen, then trained")


def groups_that_come_later(world):
    twin = Twin([(12 + 2 * i, 8) for i in range(5)], plain)
    alone, shared = (Aurora(ps[:3], **o) for ps, o in ((twin.alone, {"process_group": None}), (twin.shared, {})))
    for step in range(2):
        twin.set_gradients(step)
        alone.step(), shared.step()
    for optimizer, ps in ((alone, twin.alone), (shared, twin.shared)):
        optimizer.add_param_group({"params": ps[3:]})
    for step in range(2):
        twin.set_gradients(step)
        alone.step(), shared.step()
    twin.require_same("after add_param_group")  # owners are others, and nobody has lost a momentum


def parameters_that_become_dtensors(world):
    """accelerate makes the optimizer first and exchanges its parameters then."""
    mesh = init_device_mesh("cpu", (world,))
    twin = Twin([(12, 8), (8, 12)], on(mesh, Shard(0)))
    alone, shared = Aurora(twin.alone, process_group=None), Aurora([torch.nn.Parameter(torch.ones(12, 8)), torch.nn.Parameter(torch.ones(8, 12))])
    shared.param_groups[0]["params"] = list(twin.shared)
    for step in range(3):
        twin.set_gradients(step)
        alone.step(), shared.step()
    twin.require_same("exchanged parameters")


def states_of_owners(world):
    twin = Twin(SHAPES, plain)
    make = with_adamw(NorMuon, {})
    alone, shared = run(twin, make, "before saving")
    with raises(RuntimeError, "gathers_states"):
        shared.state_dict()
    shared.gathers_states = True
    saved, reference = shared.state_dict(), alone.state_dict()
    for key, state in reference["state"].items():
        for name, value in state.items():
            assert torch.equal(saved["state"][key][name], value), (key, name)
    again = make(twin.shared)
    again.load_state_dict(saved)
    for step in range(3, 5):
        twin.set_gradients(step)
        alone.step(), again.step()
    twin.require_same("loaded")
    kept = [p for p, state in again.state.items() if "momentum_buffer" in state]
    assert len(kept) < sum(p.ndim > 1 for p in twin.shared)


def two_mesh_axes(world):
    if world != 4:
        return
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "tp"))
    layouts = [(Replicate(), Shard(0)), (Shard(0), Shard(1)), (Shard(0), Shard(0)), (Replicate(), Shard(1)), (Replicate(), Replicate())]
    for cls, keywords in ((Aurora, {"balance": "carried"}), (NorMuon, {}), (Muon, {})):
        for placements in layouts:
            shapes = [(33, 16), (16, 32), (3, 8)] + ([(17,)] if Shard(1) not in placements else [])
            run(Twin(shapes, on(mesh, *placements)), with_adamw(cls, keywords), f"{cls.__name__} {placements}")


def a_rank_that_does_not_come(world):
    import time

    group = distributed.new_group(list(range(world)))
    p = torch.nn.Parameter(torch.ones(8, 6))
    optimizer = Muon([("up.weight", p)], process_group=group, process_timeout=2.0)
    p.grad = torch.ones_like(p)
    optimizer.step()
    if distributed.get_rank() == world - 1:
        time.sleep(5)
        return
    began = time.monotonic()
    with raises(RuntimeError, "all_reduce", "2 s", f"rank {distributed.get_rank()} of {world}", "in step 1"):
        optimizer.step()
    assert time.monotonic() - began < 4.5


CASES = [
    all_rules_under_owners, all_rules_in_pieces, types_of_weights, chunks_and_overlap, fused_blocks_across_a_border,
    stacked_experts, bytes_are_those_of_the_formulas, fewer_matrices_than_ranks, a_nan_on_one_rank,
    a_gradient_that_one_rank_lacks, hyperparameters_that_differ, shapes_and_rules_that_differ, an_error_on_one_rank,
    a_momentum_with_nan_on_its_owner, gradients_that_nobody_reduced, experts_of_one_rank, frozen_parameters,
    groups_that_come_later, parameters_that_become_dtensors, states_of_owners, two_mesh_axes,
    a_rank_that_does_not_come,
]  # fmt: skip
warnings.simplefilter("ignore")
