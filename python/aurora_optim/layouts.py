"""DTensors: which part of a tensor this process has, and state in the same layout."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, distributed

Group = Mapping[str, Any]

if distributed.is_available():
    from torch.distributed.tensor import DTensor, Partial, Replicate, Shard
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset


def is_sharded(tensor: Any) -> bool:
    return distributed.is_available() and isinstance(tensor, DTensor)


def local_of(tensor: Tensor) -> Tensor:
    """What this process has of it: a DTensor's own tensor, and any other as it is."""
    if not is_sharded(tensor):
        return tensor
    local = tensor._local_tensor  # type: ignore[attr-defined]
    return local.wait() if hasattr(local, "wait") else local  # type: ignore[no-any-return]


def whole_of(tensor: Tensor) -> Tensor:
    """All of it: of a DTensor by a call that all its processes make together."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor  # type: ignore[attr-defined]


def sharded_axes(tensor: Any) -> dict[int, int]:
    """In how many parts each axis is cut."""
    axes: dict[int, int] = {}
    for placement, parts in zip(tensor.placements, tensor.device_mesh.shape):
        if isinstance(placement, Partial):
            raise ValueError(f"[aurora_optim] A parameter cannot be a partial sum: {tensor.placements}")
        dim = getattr(placement, "dim", None)
        if dim is not None and parts > 1:
            axes[dim] = axes.get(dim, 1) * parts
    return axes


def lies_in_pieces(tensor: Any, group: Group) -> bool:
    """Whether a process may have less than whole matrices of it. Stacked matrices cut between each other are whole;
    where their rows have a state, each process must have as many."""
    if group["rule"] == "adamw":
        return False
    axes = sharded_axes(tensor)
    batch = list((group.get("dimensions") or {}).get("batch", []))
    if any(axis not in batch for axis in axes):
        return True
    if axes and has_row_state(group):
        return batch != [0] or tensor.shape[0] % axes[0] != 0
    # Replicas: every process has all of it, and one of them computes the direction.
    return not axes and tensor.device_mesh.size() > 1


def has_row_state(group: Group) -> bool:
    from . import _core

    return bool(_core.row_state_name(dict(group)))


def own_box(tensor: Any) -> tuple[list[int], list[int]]:
    """Offset and size of what this process has."""
    if not is_sharded(tensor):
        return [0] * tensor.ndim, list(tensor.shape)
    size, offset = compute_local_shape_and_global_offset(tensor.shape, tensor.device_mesh, tensor.placements)
    local = list(local_of(tensor).shape)
    if list(size) != local:
        raise ValueError(f"[aurora_optim] A DTensor of shape {list(tensor.shape)} has {local} here instead of {list(size)}")
    return list(offset), local


def mesh_group(mesh: Any) -> Any:
    """The process group of all processes of a mesh. Where a mesh of several axes is a part of all processes, torch
    makes one, which all of them have to ask for."""
    if mesh.ndim == 1:
        return mesh.get_group()
    if mesh.size() == distributed.get_world_size():
        return distributed.group.WORLD
    return mesh._flatten().get_group()


def whole_like(parameter: Any, local: Tensor) -> Tensor:
    """A state of the parameter's shape, laid out as it is."""
    return DTensor.from_local(
        local, parameter.device_mesh, parameter.placements, run_check=False, shape=parameter.shape,
        stride=parameter.stride(),
    )  # fmt: skip


def row_state_like(parameter: Any, local: Tensor, kind: str) -> Tensor:
    """A state of rows: whole on every process where the parameter lies in pieces, else with its matrices."""
    placements = [
        Shard(0) if kind == "alone" and getattr(placement, "dim", None) is not None else Replicate()
        for placement in parameter.placements
    ]
    return DTensor.from_local(local, parameter.device_mesh, placements, run_check=False)


def laid_out_as(value: Tensor, like: Tensor) -> Tensor:
    """A saved state as the DTensor that it was, or will be, here; plain tensors are cut without talking."""
    if is_sharded(value):
        if value.device_mesh == like.device_mesh and value.placements == like.placements:  # type: ignore[attr-defined]
            return value
        value = value.full_tensor()  # type: ignore[attr-defined]
    return torch.distributed.tensor.distribute_tensor(
        value, like.device_mesh, like.placements, src_data_rank=None  # type: ignore[attr-defined]
    )


def local_view(group: dict[str, Any]) -> dict[str, Any]:
    """A group with the tensors of this process, for _core; the group itself where none is a DTensor."""
    params = group["params"]
    if not any(is_sharded(p) for p in params):
        return group
    shapes = [list(p.shape) if is_sharded(p) and lies_in_pieces(p, group) else [] for p in params]
    return {**group, "params": [local_of(p) for p in params], "shapes": shapes}
