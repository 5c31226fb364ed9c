"""Which parameter of a whole model is stepped by which rule."""

from __future__ import annotations

import fnmatch
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from . import _core


class RoutedParameter(NamedTuple):
    name: str
    shape: tuple[int, ...]
    rule: str  # "adamw", "aurora", ...
    reason: str  # "hidden matrix", "embedding", "pattern '*.bias'", ...


class Routing(tuple[RoutedParameter, ...]):
    """How the parameters of a model were routed, in their order; as text a table."""

    def __str__(self) -> str:
        matrix_rule = next((entry.rule for entry in self if entry.rule != "adamw"), "adamw")
        rows = [(name, shape, rule == matrix_rule, reason) for name, shape, rule, reason in self]
        return _core.routing_table(rows, matrix_rule).rstrip("\n")

    __repr__ = __str__


class Named(NamedTuple):
    """A parameter, and what is known of it."""

    name: str
    tensor: Tensor
    embedding: bool = False
    linear: bool = False


def refuse_sharded(tensor: Tensor, place: str) -> None:
    """A rule for matrices needs the whole matrix: U'U = I holds for no slice."""
    kind = type(tensor).__name__
    if kind in ("FlatParameter", "ShardedTensor", "DTensor") or (
        type(tensor).__torch_dispatch__ is not Tensor.__torch_dispatch__
        and type(tensor).__torch_dispatch__ is not nn.Parameter.__torch_dispatch__
    ):
        raise TypeError(
            f"[aurora_optim] A {kind} is not a whole matrix in one memory, and the direction of a slice is not the "
            f"slice of the direction: give plain tensors (DistributedDataParallel keeps them whole): {place}"
        )


def parameters_of_module(model: nn.Module) -> list[Named]:
    """All parameters that require a gradient, in module order; one with several names several times."""
    found = []
    for prefix, module in model.named_modules(remove_duplicate=False):
        if type(module).__name__ == "FullyShardedDataParallel":
            raise TypeError(
                "[aurora_optim] FullyShardedDataParallel cuts matrices in pieces, and a direction needs whole ones: "
                "use DistributedDataParallel"
            )
        for name, tensor in module.named_parameters(recurse=False, remove_duplicate=False):
            if tensor.requires_grad:
                embedding = isinstance(module, (nn.Embedding, nn.EmbeddingBag))
                linear = isinstance(module, nn.Linear) and name == "weight"
                found.append(Named(f"{prefix}.{name}" if prefix else name, tensor, embedding, linear))
    return found


def named_tensors(pairs: Iterable[Any]) -> list[Named]:
    """Of named parameters alone only the shape tells what may be a linear layer."""
    found = []
    for i, pair in enumerate(pairs):
        if not (isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str) and isinstance(pair[1], Tensor)):
            raise TypeError(f"[aurora_optim] Named parameters are pairs (name, Tensor), all of them; number {i} is not")
        if pair[1].requires_grad:
            found.append(Named(*pair, linear=pair[1].ndim == 2))
    return found


def memory_of(tensor: Tensor) -> Hashable:
    """Equal for tensors that begin at the same place."""
    at = tensor.data_ptr() if tensor.numel() > 0 else 0
    return (tensor.device, at) if at != 0 else id(tensor)


def route(
    parameters: Sequence[Named], rule: str, patterns: Mapping[str, str]
) -> tuple[list[tuple[str, Tensor]], Routing]:
    """Each parameter once, under its first name, and where it goes."""
    for name, tensor, *_ in parameters:
        refuse_sharded(tensor, f"'{name}', shape {list(tensor.shape)}")
    kept: list[Named] = []
    tied: list[str] = []
    at_memory: dict[Hashable, list[int]] = {}
    for parameter in parameters:
        twins = at_memory.setdefault(memory_of(parameter.tensor), [])
        for i in twins:
            tied[i] = tied[i] or parameter.name
            if kept[i].tensor is parameter.tensor:
                kept[i] = kept[i]._replace(embedding=kept[i].embedding or parameter.embedding)
        if not any(kept[i].tensor is parameter.tensor for i in twins):
            tied.append(kept[twins[0]].name if twins else "")
            twins.append(len(kept))
            kept.append(parameter)
    for pattern, target in patterns.items():
        if target not in ("adamw", rule):
            raise ValueError(
                f"[aurora_optim] patterns: '{pattern}' must go to '{rule}' or to 'adamw', not to {target!r}"
            )
    infos = [(p.name, list(p.tensor.shape), p.embedding, p.linear, tie) for p, tie in zip(kept, tied)]
    routed = _core.route(infos, [(pattern, target != "adamw") for pattern, target in patterns.items()])
    routing = Routing(
        RoutedParameter(name, tuple(shape), rule if matrix else "adamw", reason)
        for name, shape, matrix, reason in routed
    )
    return [(parameter.name, parameter.tensor) for parameter in kept], routing


def matches(pattern: str, name: str) -> bool:
    """Shell wildcards * and ?, as in route."""
    return fnmatch.fnmatchcase(name, pattern.replace("[", "[[]"))


def by_pattern(option: str, values: Mapping[str, Any] | None, routing: Routing) -> dict[str, Any]:
    """The value that each hidden matrix gets from {pattern: value}."""
    if values is None:
        return {}
    if not isinstance(values, Mapping):
        raise TypeError(
            f"[aurora_optim] {option} of a whole model is a dict from name patterns to values, not {values!r}"
        )
    chosen: dict[str, Any] = {}
    for pattern, value in values.items():
        names = [p.name for p in routing if p.rule != "adamw" and matches(pattern, p.name)]
        if not names:
            raise ValueError(f"[aurora_optim] {option}: no hidden matrix matches the pattern '{pattern}'")
        for name in names:
            if chosen.setdefault(name, value) != value:
                raise ValueError(
                    f"[aurora_optim] {option}: patterns contradict each other: {name} by '{pattern}' and another"
                )
    return chosen


def is_named(params: Sequence[Any]) -> bool:
    return bool(params) and isinstance(params[0], tuple) and len(params[0]) == 2 and isinstance(params[0][0], str)


__all__ = ["RoutedParameter", "Routing"]
