"""Which parameter of a whole model is stepped by which rule, and how it is cut into matrices."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from . import _core
from .layouts import is_sharded, local_of


class RoutedParameter(NamedTuple):
    name: str
    shape: tuple[int, ...]
    rule: str  # "adamw", "aurora", ...
    reason: str  # "hidden matrix", "embedding", "pattern '*.bias'", ...
    role: str = ""  # "gate", "query", "output_head", ...; empty where none is known
    guessed: bool = False  # neither the class of its module nor a known name says so
    cut: Mapping[str, Any] = {}  # how it is cut: the keys dimensions, blocks, repeats and heads of its group
    method: str = ""  # how its rule computes it where it is, with what "auto" stands for; empty under AdamW

    @property
    def matrices(self) -> str:
        """Its matrices, rows x columns each: "2 of 32x8"; "" under AdamW."""
        return _core.matrices_text(self.shape, dict(self.cut)) if self.rule != "adamw" else ""


class Routing(tuple[RoutedParameter, ...]):
    """How the parameters of a model were routed, in their order; as text a table, and below it how the matrices are
    computed."""

    def __str__(self) -> str:
        matrix_rule = next((entry.rule for entry in self if entry.rule != "adamw"), "adamw")
        lines = [(p.name, p.shape, p.rule == matrix_rule, p.reason, p.guessed, dict(p.cut), p.method) for p in self]
        return _core.routing_table(lines, matrix_rule).rstrip("\n")

    __repr__ = __str__

    @property
    def guesses(self) -> Routing:
        """Those of which nobody said for certain what they are: look at them once."""
        return Routing(entry for entry in self if entry.guessed)


class Named(NamedTuple):
    """A parameter, and what is known of it."""

    name: str
    tensor: Tensor
    owner: Sequence[str] = ()
    around: Sequence[str] = ()
    embedding: bool = False
    output: bool = False
    number: Callable[[str], int | None] = lambda name: None
    backbone: bool = False  # of a model that is known to have no head


def refuse_sharded(tensor: Tensor, place: str) -> None:
    """A rule for matrices needs the whole matrix, U'U = I holds for no slice, and of these tensors nobody knows where the
    rest is. Of a DTensor one knows."""
    kind = type(tensor).__name__
    if is_sharded(tensor):
        return
    if kind in ("FlatParameter", "ShardedTensor", "DTensor") or (
        type(tensor).__torch_dispatch__ is not Tensor.__torch_dispatch__
        and type(tensor).__torch_dispatch__ is not nn.Parameter.__torch_dispatch__
    ):
        raise TypeError(
            f"[aurora_optim] A {kind} is not a whole matrix in one memory, and the direction of a slice is not the "
            f"slice of the direction: give plain tensors (DistributedDataParallel keeps them whole) or DTensors "
            f"(fully_shard makes them): {place}"
        )


def classes_of(module: nn.Module) -> list[str]:
    """The class, then those it derives from, without nn.Module."""
    mro = type(module).__mro__
    return [cls.__name__ for cls in mro[: mro.index(nn.Module)]] or ["Module"]


def number_in(modules: Sequence[nn.Module]) -> Callable[[str], int | None]:
    """A whole number of the innermost module that has it, as an attribute or in its configuration."""

    def number(name: str) -> int | None:
        for module in reversed(modules):
            for place in (module, getattr(module, "config", None)):
                value = getattr(place, name, None)
                if isinstance(value, int):  # also True and False
                    return int(value)
        return None

    return number


def output_weights(model: nn.Module) -> set[int]:
    """What transformers models themselves call their output."""
    found = set()
    for module in model.modules():
        try:
            head = module.get_output_embeddings()  # type: ignore[operator]
        except (AttributeError, NotImplementedError, TypeError):
            continue
        if isinstance(head, nn.Module):
            found |= {id(p) for p in head.parameters() if p.ndim > 1}
    return found


def is_backbone(model: nn.Module) -> bool:
    """Whether the model, or what a wrapper wraps, is one of transformers without a head."""
    for module in model.modules():
        if hasattr(type(module), "base_model_prefix") and hasattr(module, "config"):
            return module.base_model is module
    return False


def parameters_of_module(model: nn.Module) -> list[Named]:
    """All parameters of a floating type, frozen ones too, in module order; one with several names several times."""
    found = []
    outputs = output_weights(model)
    backbone = is_backbone(model)
    at_prefix = dict(model.named_modules(remove_duplicate=False))
    for prefix, module in at_prefix.items():
        if type(module).__name__ == "FullyShardedDataParallel":
            raise TypeError(
                "[aurora_optim] FullyShardedDataParallel cuts matrices in pieces, and a direction needs whole ones: "
                "use fully_shard, which makes DTensors, or DistributedDataParallel"
            )
        parts = prefix.split(".") if prefix else []
        above = [at_prefix[".".join(parts[:i])] for i in range(len(parts))]
        if "parametrizations" in parts:  # the weight is that of the parametrized layer
            above = above[: parts.index("parametrizations") + 1]
            owner = above.pop()
        else:
            owner = module
        for name, tensor in module.named_parameters(recurse=False, remove_duplicate=False):
            if isinstance(tensor, nn.parameter.UninitializedParameter):
                raise ValueError(
                    f"[aurora_optim] A parameter has no shape yet: run the model once before: '{prefix}.{name}'"
                )
            if not tensor.is_floating_point():
                if tensor.requires_grad:
                    raise ValueError(
                        f"[aurora_optim] A parameter must be float32, float64, bfloat16 or float16, not "
                        f"{tensor.dtype}: '{prefix}.{name}', shape {list(tensor.shape)}"
                    )
                continue  # quantized weights, which nothing trains
            found.append(
                Named(
                    f"{prefix}.{name}" if prefix else name,
                    tensor,
                    owner=classes_of(owner),
                    around=[type(m).__name__ for m in above],
                    embedding=isinstance(owner, (nn.Embedding, nn.EmbeddingBag)),
                    output=id(tensor) in outputs,
                    number=number_in([*above, owner]),
                    backbone=backbone,
                )
            )
    return found


def named_tensors(pairs: Iterable[Any]) -> list[Named]:
    """Of named parameters alone only the name and the shape tell what they are."""
    found = []
    for i, pair in enumerate(pairs):
        if not (isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str) and isinstance(pair[1], Tensor)):
            raise TypeError(f"[aurora_optim] Named parameters are pairs (name, Tensor), all of them; number {i} is not")
        if pair[1].is_floating_point() or pair[1].requires_grad:
            found.append(Named(*pair))
    return found


def memory_of(tensor: Tensor) -> Hashable:
    """Equal for tensors that begin at the same place."""
    tensor_here = local_of(tensor)
    at = tensor_here.data_ptr() if tensor_here.numel() > 0 else 0
    return (tensor.device, at) if at != 0 else id(tensor)


def each_once(parameters: Sequence[Named]) -> tuple[list[Named], list[list[str]]]:
    """Each parameter under its first name, with the other names that it or its memory has."""
    for parameter in parameters:
        refuse_sharded(parameter.tensor, f"'{parameter.name}', shape {list(parameter.tensor.shape)}")
    kept: list[Named] = []
    others: list[list[str]] = []
    at_memory: dict[Hashable, list[int]] = {}
    for parameter in parameters:
        twins = at_memory.setdefault(memory_of(parameter.tensor), [])
        embedding = parameter.embedding or any(kept[i].embedding for i in twins)
        for i in twins:
            others[i].append(parameter.name)
            kept[i] = kept[i]._replace(embedding=embedding)
        if not any(kept[i].tensor is parameter.tensor for i in twins):
            others.append([kept[i].name for i in twins])
            twins.append(len(kept))
            kept.append(parameter._replace(embedding=embedding))
    return kept, others


def route(
    parameters: Sequence[Named],
    rule: str,
    patterns: Mapping[str, str],
    described: Callable[[str], bool] = lambda name: False,
    is_ours: Callable[[Named], bool] = lambda parameter: True,
) -> tuple[list[Named], Routing]:
    """Each parameter once, under its first name, and where it goes. Of what is not ours nothing has to be known."""
    kept, others = each_once(parameters)
    for pattern, target in patterns.items():
        if target not in ("adamw", rule):
            raise ValueError(
                f"[aurora_optim] patterns: '{pattern}' must go to '{rule}' or to 'adamw', not to {target!r}"
            )
    infos = [
        {
            "name": p.name,
            "shape": list(p.tensor.shape),
            "owner": list(p.owner),
            "around": list(p.around),
            "other_names": names,
            "embedding": p.embedding,
            "output": p.output,
            "trainable": p.tensor.requires_grad and is_ours(p),
            "described": described(p.name),
            "number": p.number,
        }
        for p, names in zip(kept, others)
    ]
    backbone = any(p.backbone for p in kept)
    routed = _core.route(infos, [(pattern, target != "adamw") for pattern, target in patterns.items()], backbone)
    routing = Routing(
        RoutedParameter(p.name, tuple(p.tensor.shape), rule if matrix else "adamw", reason, role, guessed, cut)
        for p, (matrix, reason, role, guessed, cut) in zip(kept, routed)
    )
    return kept, routing


def is_named(params: Sequence[Any]) -> bool:
    return bool(params) and isinstance(params[0], tuple) and len(params[0]) == 2 and isinstance(params[0][0], str)


__all__ = ["RoutedParameter", "Routing"]
