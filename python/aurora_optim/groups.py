"""Parameter groups: what a whole model becomes, and what a group may say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypedDict

import torch
from torch import Tensor, nn

from . import _core
from .messages import NEEDLESS, meant, suggestion
from .routing import Named, Routing, is_named, named_tensors, parameters_of_module, route

# How a parameter is cut into matrices: must be said where the optimizer is made.
CUT_KEYS = ("dimensions", "blocks", "repeats", "heads")


class Dimensions(TypedDict, total=False):
    """Which axes of a parameter are batch, rows and columns: stacked experts [e, out, in] are
    {"batch": [0], "rows": [1], "cols": [2]}."""

    batch: list[int]
    rows: list[int]
    cols: list[int]


class Options(TypedDict, total=False):
    """Keyword arguments of every class beside its hyperparameters; what they mean stands in OPTIONS."""

    patterns: Mapping[str, str | Mapping[str, Any]] | None
    exclude: Iterable[str]
    adamw_lr: float | Tensor
    adamw_betas: tuple[float, float]
    adamw_eps: float
    adamw_weight_decay: float
    dimensions: Any
    blocks: Any
    repeats: Any
    heads: Any
    process_group: Any
    overlap: bool
    process_timeout: float


OPTIONS = {
    "patterns": "of a whole model: {name pattern (*, ? and [a-z]): rule, or keys of a group such as {'lr': 0.01}}; "
    "overrides the routing and the hyperparameters",
    "exclude": "of a whole model: name patterns of parameters that this optimizer leaves alone",
    "adamw_lr": "learning rate of what goes to AdamW (default 0.003)",
    "adamw_betas": "its betas (default (0.9, 0.95))",
    "adamw_eps": "its eps (default 1e-08)",
    "adamw_weight_decay": "its weight decay (default 0.0)",
    "dimensions": "axes {'batch': [...], 'rows': [...], 'cols': [...]}; default: the first axis is rows, all others "
    "are columns. For a whole model {name pattern: axes}, as the next three",
    "blocks": "how many equal blocks of rows are fused in a matrix, or the list of their lengths",
    "repeats": "how many times the blocks follow each other: query, key and value by head are blocks=3, repeats=heads",
    "heads": "how many equal heads, each a matrix of its own, the rows of a matrix (of each of its blocks) are",
    "process_group": "of plain parameters that several processes have, as under DistributedDataParallel: each matrix is "
    "stepped by one of them, and the others get the weights (default: torch's default group, where it has more than one "
    "process and no parameter is a DTensor); None: each process steps everything. Also a key of a group",
    "overlap": "of DTensors: whether matrices are exchanged while others are computed (default True)",
    "process_timeout": "seconds that a step waits for another process at most (default: as long as the process group does)",
}
# Options that every class has.
FOR_ALL = ("patterns", "exclude", "process_group", "overlap", "process_timeout")


def defaults_of(rule: str) -> dict[str, Any]:
    """The keys of a group of this rule with the values of the one list; beta1 and beta2 of AdamW as torch's betas."""
    values = {name: value for name, value, *_ in _core.hyperparameters(rule)}
    if rule == "adamw":
        values["betas"] = (values.pop("beta1"), values.pop("beta2"))
        return {"rule": rule, **values}
    return {"rule": rule, **values, **dict.fromkeys(CUT_KEYS)}


def refuse_unknown_options(cls: str, rule: str, options: Mapping[str, Any], hyperparameters: Iterable[str]) -> None:
    known = list(FOR_ALL) if rule == "adamw" else list(OPTIONS)
    for name in options:
        if name not in known:
            everything = [*hyperparameters, *known]
            raise TypeError(
                f"[aurora_optim] {cls} has no argument '{name}'{suggestion(name, everything)} "
                f"There are: {', '.join(everything)}"
            )


def refuse_mistyped_keys(group: Mapping[str, Any]) -> None:
    """Keys of the owner's own are kept, such as "name" or what schedulers add; a mistyped hyperparameter is not."""
    known = [*defaults_of(group["rule"]), "params", "param_names", "process_group"]
    notes = {"initial_lr", "max_lr", "min_lr", "max_momentum", "base_momentum", "swa_lr", "name"}
    for key in group:
        if key in known or key in notes:
            continue
        if key in NEEDLESS or meant(str(key), known, likeness=0.85):
            raise ValueError(
                f"[aurora_optim] A group of rule {group['rule']} has no key '{key}'{suggestion(str(key), known)} "
                f"There are: {', '.join(known[1:])}"
            )


def by_pattern(option: str, values: Mapping[str, Any] | None, names: Sequence[str], what: str) -> dict[str, Any]:
    """The value that each name gets from {pattern: value}."""
    if values is None:
        return {}
    if not isinstance(values, Mapping):
        raise TypeError(
            f"[aurora_optim] {option} of a whole model is a dict from name patterns to values, not {values!r}"
        )
    chosen: dict[str, Any] = {}
    for pattern, value in values.items():
        fitting = [name for name in names if _core.matches(pattern, name)]
        if not fitting:
            raise ValueError(f"[aurora_optim] {option}: no {what} matches the pattern '{pattern}'")
        for name in fitting:
            if chosen.setdefault(name, value) != value:
                raise ValueError(
                    f"[aurora_optim] {option}: patterns contradict each other: {name} by '{pattern}' and another"
                )
    return chosen


def without_excluded(named: list[Named], exclude: Iterable[str]) -> list[Named]:
    patterns = [exclude] if isinstance(exclude, str) else list(exclude)
    for pattern in patterns:
        if not any(_core.matches(pattern, p.name) for p in named):
            raise ValueError(f"[aurora_optim] exclude: no parameter matches the pattern '{pattern}'")
    return [p for p in named if not any(_core.matches(pattern, p.name) for pattern in patterns)]


def split_patterns(patterns: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, dict[str, Any]]]:
    """Where the patterns send parameters, and the keys that they give their groups."""
    if not isinstance(patterns, Mapping):
        raise TypeError(f"[aurora_optim] patterns is a dict from name patterns to rules or keys, not {patterns!r}")
    rules: dict[str, str] = {}
    keys: dict[str, dict[str, Any]] = {}
    for pattern, value in patterns.items():
        if isinstance(value, Mapping):
            keys[pattern] = {key: entry for key, entry in value.items() if key != "rule"}
            if "rule" in value:
                rules[pattern] = value["rule"]
        else:
            rules[pattern] = value
    return rules, keys


def same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return a is b
    return bool(a == b)


def plan(
    named: list[Named], rule: str, options: Mapping[str, Any], model: list[Named] | None = None
) -> tuple[list[dict[str, Any]], Routing]:
    """The groups of a whole model: hidden matrices, one group for each way to cut them and each set of keys that
    patterns give, then everything else. They say what differs from the defaults of their rules. Where `named` is a part
    of a model, `model` is all of it: what a layer is does not depend on who steps the others."""
    ours = {id(p.tensor) for p in without_excluded(named, options.get("exclude", ()))}
    rules, keys_by_pattern = split_patterns(options.get("patterns") or {})
    cuts = {key: options[key] for key in CUT_KEYS if options.get(key) is not None}

    def described(name: str) -> bool:
        return any(
            isinstance(values, Mapping) and any(_core.matches(pattern, name) for pattern in values)
            for values in cuts.values()
        )

    everything = zip(*route(model or named, rule, rules, described, lambda p: id(p.tensor) in ours))
    kept = [(parameter, entry) for parameter, entry in everything if id(parameter.tensor) in ours]
    parameters, routing = [parameter for parameter, _ in kept], Routing(entry for _, entry in kept)
    if rule == "adamw":
        cuts = {}
    hidden = [entry.name for entry in routing if entry.rule != "adamw"]
    said = {key: by_pattern(key, values, hidden, "hidden matrix") for key, values in cuts.items()}
    given: dict[str, dict[str, Any]] = {}
    for pattern, keys in keys_by_pattern.items():
        found = by_pattern("patterns", {pattern: keys}, [entry.name for entry in routing], "parameter")
        for name in found:
            for key, value in keys.items():
                if not same(given.setdefault(name, {}).setdefault(key, value), value):
                    raise ValueError(
                        f"[aurora_optim] patterns contradict each other: {key} of {name} by '{pattern}' and another"
                    )
    entries = []
    groups: list[dict[str, Any]] = []
    for parameter, entry in zip(parameters, routing):
        cut = dict(entry.cut) if entry.rule != "adamw" else {}
        own = {key: values[entry.name] for key, values in said.items() if entry.name in values}
        if "dimensions" in own:
            cut = {}  # the blocks of the table are of other axes
        elif "blocks" in own:
            cut.pop("repeats", None)
        cut |= own
        entry = entry._replace(cut=cut, guessed=entry.guessed and not own)
        entries.append(entry)
        keys = {"rule": entry.rule, **given.get(entry.name, {}), **cut}
        group = next(
            (
                g
                for g in groups
                if g.keys() - {"params"} == keys.keys() and all(same(g[key], keys[key]) for key in keys)
            ),
            None,
        )
        if group is None:
            group = {"params": [], **keys}
            groups.append(group)
        group["params"].append((parameter.name, parameter.tensor))
    groups.sort(key=lambda group: group["rule"] == "adamw")
    return groups, Routing(entries)


def named_of(params: Any) -> list[Named] | None:
    """The parameters of a model, or named parameters; None for plain tensors and for groups."""
    if isinstance(params, nn.Module):
        return parameters_of_module(params)
    return named_tensors(params) if is_named(params) else None


def param_groups(
    params: nn.Module | Iterable[tuple[str, Tensor]], rule: str = "aurora", **options: Any
) -> list[dict[str, Any]]:
    """The groups that Aurora(model, **options) makes, to look at and to edit before they are given to a class:

        groups = param_groups(model, lr=0.02, adamw_lr=3e-3)
        groups[-1]["weight_decay"] = 0.1
        optimizer = Aurora(groups)

    Each has all keys of its rule, and its parameters as pairs (name, tensor). `rule` is the name of a rule, as "aurora" and
    "muon" are; the options are the keywords of its class.
    """
    entries = params if isinstance(params, nn.Module) else list(params)
    named = named_of(entries)
    if named is None:
        raise TypeError("[aurora_optim.param_groups] A model, or pairs (name, parameter)")
    if rule not in _core.RULES:
        raise ValueError(f"[aurora_optim] There is no rule {rule!r}{suggestion(rule, _core.RULES)}")
    own = defaults_of(rule)
    hyperparameters = [key for key in own if key != "rule" and key not in CUT_KEYS]
    further = {key: value for key, value in options.items() if key not in hyperparameters}
    refuse_unknown_options("param_groups", rule, further, hyperparameters)
    own |= {key: value for key, value in options.items() if key in hyperparameters}
    adamw = defaults_of("adamw") | adamw_options(options) if rule != "adamw" else own
    groups, _ = plan(named, rule, options)
    return [{**(adamw if group["rule"] == "adamw" else own), **group} for group in groups]


def adamw_options(options: Mapping[str, Any]) -> dict[str, Any]:
    return {key.removeprefix("adamw_"): value for key, value in options.items() if key.startswith("adamw_")}


def rate_of(group: Mapping[str, Any]) -> float | None:
    """The learning rate where it is a number of the host."""
    lr = group.get("lr")
    return None if isinstance(lr, torch.Tensor) and not lr.is_cpu else float(lr) if lr is not None else None


__all__ = ["Dimensions", "Options", "param_groups"]
