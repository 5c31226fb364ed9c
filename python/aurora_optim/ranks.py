"""What processes of torch.distributed share of one optimizer: who owns which matrix, and what lies where."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, distributed

from . import _core
from .layouts import Group, is_sharded, lies_in_pieces, local_of, mesh_group, own_box, row_state_like, whole_like

# Of process_group: the default group, where torch.distributed has more than one process and no parameter is a DTensor.
DEFAULT = "default"


class Options(NamedTuple):
    """How the processes talk."""

    process_group: Any = DEFAULT
    overlap: bool = True
    timeout: float = 0.0  # seconds; 0: that of the group
    chunk_bytes: int = 32 << 20


def copied(options: Options) -> Options:
    """For copies of an optimizer and files: a process group stays where it is."""
    return options if options.process_group in (None, DEFAULT) else options._replace(process_group=DEFAULT)


class Entry:
    """A parameter, and what it is to this process."""

    def __init__(self, group: int, index: int, name: str, tensor: Tensor, kind: str, process_group: Any) -> None:
        self.group, self.index, self.name, self.tensor = group, index, name, tensor
        self.kind = kind  # alone, owned, pieces: see aurora/torch/ranks.hpp
        self.process_group = process_group
        self.replicated = process_group is not None and not is_sharded(tensor)
        self.shape = list(tensor.shape) if kind == "pieces" else []
        self.share: Any = None
        self.ranks: Any = None
        self.cost = 0.0
        self.local_state: dict[str, Any] = {}

    @property
    def is_elsewhere(self) -> bool:
        """Whether another process alone has its state."""
        return self.kind == "owned" and self.share.owner != self.ranks.rank

    def gradient(self) -> Tensor | None:
        gradient = self.tensor.grad
        if gradient is None or not is_sharded(self.tensor):
            return gradient
        if not is_sharded(gradient):
            raise ValueError(f"[aurora_optim] The gradient of a DTensor must be one: '{self.name}'")
        if gradient.placements != self.tensor.placements:  # type: ignore[attr-defined]
            gradient = gradient.redistribute(placements=self.tensor.placements)  # type: ignore[attr-defined]
        return local_of(gradient)

    def read_state(self, state: Mapping[str, Any] | None) -> dict[str, Any]:
        """The tensors of this process, in a dict that the step writes to."""
        local = {key: local_of(value) if isinstance(value, Tensor) else value for key, value in (state or {}).items()}
        self.local_state = local
        return local

    def keep_state(self, state: MutableMapping[str, Any]) -> None:
        """What the step made, in the layout of the parameter."""
        for key, value in self.local_state.items():
            kept = state.get(key)
            if isinstance(kept, Tensor) and local_of(kept) is value:
                continue
            state[key] = self.laid_out(key, value)

    def laid_out(self, key: str, local: Any) -> Any:
        if not is_sharded(self.tensor) or key == "step" or not isinstance(local, Tensor):
            return local
        if key in ("momentum_buffer", "exp_avg", "exp_avg_sq"):
            return whole_like(self.tensor, local)
        return row_state_like(self.tensor, local, self.kind)


class Plan:
    """Everything that is decided once for a list of parameters. Made by all processes at the same step."""

    def __init__(self, groups: Sequence[Group], options: Options) -> None:
        self.key = key_of(groups)
        self.entries = entries_of(groups, options)
        self.ranks: list[Any] = []
        self.members: list[list[Entry]] = []  # of each of `ranks`
        shared = [entry for entry in self.flat() if entry.process_group is not None]
        for process_group in dict.fromkeys(entry.process_group for entry in shared):
            members = [entry for entry in shared if entry.process_group is process_group]
            device = local_of(members[0].tensor).device
            ranks = _core.Ranks(
                process_group.group_name, device, options.timeout, options.overlap, options.chunk_bytes
            )
            share_out(groups, members, ranks)
            self.ranks.append(ranks)
            self.members.append(members)
        self.is_plain = not self.ranks and not any(is_sharded(entry.tensor) for entry in self.flat())

    def flat(self) -> list[Entry]:
        return [entry for group in self.entries for entry in group]

    def matrices(self, i: int) -> list[Entry]:
        return [entry for entry in self.members[i] if entry.kind != "alone"]


def key_of(groups: Sequence[Group]) -> tuple[Any, ...]:
    """Equal as long as a plan holds."""
    return tuple(id(p) for group in groups for p in group["params"])


def name_of(group: Group, g: int, i: int) -> str:
    return str(group["param_names"][i]) if "param_names" in group else f"group {g}, parameter {i}"


def default_group(groups: Sequence[Group], options: Options) -> Any:
    """The process group of plain parameters."""
    if options.process_group != DEFAULT:
        return options.process_group
    if not (distributed.is_available() and distributed.is_initialized()):
        return None
    if any(is_sharded(p) for group in groups for p in group["params"]):
        return None  # who shards what counts says who shares what
    return distributed.group.WORLD


def entries_of(groups: Sequence[Group], options: Options) -> list[list[Entry]]:
    plain = default_group(groups, options)
    entries = []
    for g, group in enumerate(groups):
        of_group = group.get("process_group", DEFAULT)
        plain_here = plain if of_group == DEFAULT else of_group
        line = []
        for i, p in enumerate(group["params"]):
            if is_sharded(p):
                kind = "pieces" if lies_in_pieces(p, group) else "alone"
                process_group = mesh_group(p.device_mesh)
            else:
                process_group = plain_here
                kind = "owned" if group["rule"] != "adamw" and process_group is not None else "alone"
            if process_group is not None and distributed.get_world_size(process_group) == 1:
                process_group = None
                kind = "alone" if kind == "owned" else kind
            line.append(Entry(g, i, name_of(group, g, i), p, kind, process_group))
        entries.append(line)
    return entries


def record_of(groups: Sequence[Group], entry: Entry) -> tuple[Any, ...]:
    """What all processes must say alike of a parameter, then its box."""
    group = groups[entry.group]
    keys = [key for key in group if key not in ("params", "param_names", "process_group", "initial_lr")]
    options = ", ".join(f"{key}={group[key]}" for key in sorted(keys))
    said = f"{list(entry.tensor.shape)} {str(entry.tensor.dtype).removeprefix('torch.')}, {entry.kind}, {options}"
    return entry.name, said, own_box(entry.tensor) if entry.kind == "pieces" else None


def share_out(groups: Sequence[Group], members: Sequence[Entry], ranks: Any) -> None:
    """Gives each of the matrices an owner. Raises ValueError on all processes where they have not the same."""
    records: list[Any] = [None] * ranks.size
    distributed.all_gather_object(
        records, [record_of(groups, entry) for entry in members], group=members[0].process_group
    )
    refuse_differences(records)
    for entry in members:
        entry.cost = _core.cost_of(dict(groups[entry.group]), list(entry.tensor.shape)) if entry.kind != "alone" else 0.0
    owners: dict[int, int] = {}
    matrices = sorted((entry for entry in members if entry.kind != "alone"), key=lambda entry: entry.name)
    for trained in (True, False):  # frozen ones are shared out for themselves: they may be trained later
        part = [entry for entry in matrices if entry.tensor.requires_grad == trained]
        chosen = _core.assign_owners([entry.cost for entry in part], ranks.size)
        owners |= {id(entry): owner for entry, owner in zip(part, chosen)}
    for i, entry in enumerate(members):
        boxes = [record[i][2] for record in records] if entry.kind == "pieces" else []
        entry.ranks = ranks
        entry.share = _core.Share(entry.kind, entry.replicated, owners.get(id(entry), 0), entry.shape, boxes)
        if entry.kind == "pieces":
            here = {"params": [local_of(entry.tensor)], "shapes": [entry.shape], "param_names": [entry.name]}
            place = {**groups[entry.group], **here}
            _core.choose_senders(place, entry.group, entry.share)


def refuse_differences(records: Sequence[Sequence[tuple[Any, ...]]]) -> None:
    first = records[0]
    for rank, other in enumerate(records[1:], start=1):
        for a, b in zip(first, other):
            if a[:2] != b[:2]:
                raise ValueError(
                    f"[aurora_optim] Processes disagree. Rank 0: '{a[0]}' {a[1]}; rank {rank}: '{b[0]}' {b[1]}. What "
                    "differs by design, such as experts of one process alone, goes into a group with "
                    "process_group=None"
                )
        if len(first) != len(other):
            longer, shorter = (0, rank) if len(first) > len(other) else (rank, 0)
            name = records[longer][min(len(first), len(other))][0]
            raise ValueError(f"[aurora_optim] Processes disagree: rank {longer} has '{name}', rank {shorter} has not")


class Sharing:
    """The sharing of one optimizer, planned at its first step and again when its parameters are others."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.plan: Plan | None = None

    def prepare(self, groups: Sequence[Group], states: MutableMapping[Tensor, Any]) -> Plan | None:
        """The plan of this step; None where nothing is shared. A new plan is made by all processes together."""
        if self.plan is None or self.plan.key != key_of(groups):
            if self.plan is not None:
                self.plan = plan_with_states(self.plan, groups, self.options, states)
            else:
                self.plan = Plan(groups, self.options)
            for entry in self.plan.flat():
                if entry.is_elsewhere:
                    states[entry.tensor] = {}
        return None if self.plan.is_plain else self.plan

    def views(self, plan: Plan, groups: Sequence[Group], states: Mapping[Tensor, Any]) -> list[dict[str, Any]]:
        """The groups with the tensors of this process: what _core.Stepper takes."""
        views = []
        for group, entries in zip(groups, plan.entries):
            view = dict(group)
            view["params"] = [local_of(entry.tensor) for entry in entries]
            view["gradients"] = [entry.gradient() for entry in entries]
            view["states"] = [entry.read_state(states.get(entry.tensor)) for entry in entries]
            view["shapes"] = [entry.shape for entry in entries]
            view["shares"] = [entry.share for entry in entries]
            view["ranks"] = [entry.ranks for entry in entries]
            views.append(view)
        return views

    def keep(self, plan: Plan, states: MutableMapping[Tensor, Any]) -> None:
        for entry in plan.flat():
            if entry.local_state:
                entry.keep_state(states[entry.tensor])
            entry.local_state = {}

    def has_states_elsewhere(self) -> bool:
        return self.plan is not None and any(entry.is_elsewhere for entry in self.plan.flat())

    def description(self) -> list[str]:
        """A line for each group of processes."""
        lines = []
        for i, ranks in enumerate(self.plan.ranks if self.plan is not None else []):
            matrices = self.plan.matrices(i)  # type: ignore[union-attr]
            costs, owners = [entry.cost for entry in matrices], [entry.share.owner for entry in matrices]
            own = sum(cost for cost, owner in zip(costs, owners) if owner == ranks.rank)
            share = own / sum(costs) if sum(costs) > 0 else 0.0
            lines.append(
                f"{ranks.description}: owns {owners.count(ranks.rank)} of {len(owners)} matrices, {share:.1%} of the "
                f"work; the rank with most has {_core.unevenness(costs, owners, ranks.size):.3f} of an even share; sent "
                f"{ranks.bytes_of_step} bytes in the last step"
            )
        return lines


def plan_with_states(
    before: Plan, groups: Sequence[Group], options: Options, states: MutableMapping[Tensor, Any]
) -> Plan:
    """A plan after another, in which states may have other owners: every process gets all of them for a moment."""
    for entry, state in gathered_states(before, states):
        if entry.is_elsewhere and any(entry.tensor is p for group in groups for p in group["params"]):
            states[entry.tensor] = state
    return Plan(groups, options)


def gathered_states(
    plan: Plan, states: Mapping[Tensor, Any], to: Callable[[Tensor], Tensor] = lambda tensor: tensor
) -> list[tuple[Entry, dict[str, Any]]]:
    """The states of all owned parameters, on every process: all of them call this together."""
    gathered = []
    for ranks, members in zip(plan.ranks, plan.members):
        owned = [entry for entry in members if entry.kind == "owned"]
        group = members[0].process_group
        said: list[Any] = [None] * ranks.size
        own = [
            {key: (list(value.shape), value.dtype) for key, value in states.get(entry.tensor, {}).items()}
            for entry in owned
        ]
        distributed.all_gather_object(said, own, group=group)
        for i, entry in enumerate(owned):
            state = {}
            for key, (shape, dtype) in said[entry.share.owner][i].items():
                value = torch.empty(shape, dtype=dtype, device=entry.tensor.device)
                if entry.share.owner == ranks.rank:
                    value.copy_(states[entry.tensor][key])
                distributed.broadcast(value, group=group, group_src=entry.share.owner)
                state[key] = to(value)
            gathered.append((entry, state))
    return gathered
