"""State dicts: ours, and those of torch.optim.Muon and torch.optim.AdamW."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import StateDict

from . import _core
from .groups import CUT_KEYS
from .layouts import (
    is_sharded,
    laid_out_as,
    lies_in_pieces,
    local_of,
    local_view,
    row_state_like,
    whole_like,
)

# What torch.optim.Muon reads in each step beside lr, momentum, nesterov and weight_decay: its own defaults.
MUON_KEYS: dict[str, Any] = {"ns_coefficients": (3.4445, -4.7750, 2.0315), "ns_steps": 5, "eps": 1e-7}
MUON_SCALES = {"aspect_ratio": "original", "match_rms_adamw": "match_rms_adamw"}
# Switches of torch's optimizers: where they are on, another rule is meant; else they say nothing to us.
REFUSED_SWITCHES = ("amsgrad", "maximize", "differentiable")
IGNORED_KEYS = ("foreach", "capturable", "fused", "decoupled_weight_decay", *REFUSED_SWITCHES)


def with_muon_keys(group: dict[str, Any]) -> dict[str, Any]:
    """A saved group that torch.optim.Muon can go on with, at the nearest update scale that it has."""
    if group["rule"] == "adamw":
        return group
    scale = _core.scale_of(group)
    return {**group, **MUON_KEYS, "adjust_lr_fn": MUON_SCALES.get(scale, scale)}


def own_group(saved: dict[str, Any], own: dict[str, Any], index: int) -> dict[str, Any]:
    """The saved group as one of ours; what it does not say comes from our own."""
    where = f"of group {index}"
    if "dampening" in saved:
        raise ValueError(
            f"[aurora_optim] The state dict is of torch.optim.SGD {where}: its momentum is a sum of gradients, not their "
            "mean, and its learning rate means another thing. Begin without it"
        )
    if own["rule"] == "adamw" and saved.get("decoupled_weight_decay") is False and saved.get("weight_decay"):
        raise ValueError(
            f"[aurora_optim] The state dict is of torch.optim.Adam {where}, whose weight decay goes through the moments: "
            "set it to 0 in the saved groups, or use torch.optim.AdamW"
        )
    group = {key: value for key, value in saved.items() if key not in IGNORED_KEYS}
    for switch in REFUSED_SWITCHES:
        if saved.get(switch):
            raise ValueError(f"[aurora_optim] The state dict has {switch}=True {where}, which no rule here knows")
    if "rule" in saved and saved["rule"] != own["rule"]:
        raise ValueError(
            f"[aurora_optim] The state dict has another rule {where}: {saved['rule']} vs {own['rule']}"
        )
    for key in CUT_KEYS:
        if key in saved and plain(saved[key]) != plain(own.get(key)):
            raise ValueError(
                f"[aurora_optim] The state dict has other {key} {where}: {saved[key]!r} vs {own.get(key)!r}"
            )
    if own["rule"] != "adamw":
        scale = group.pop("adjust_lr_fn", None)
        if "rule" not in saved:  # the learning rate means what it means with torch's scale
            group["scale"] = {theirs: ours for ours, theirs in MUON_SCALES.items()}.get(scale or "original", scale)
        for key in MUON_KEYS:
            group.pop(key, None)
    group.pop("process_group", None)
    for key, value in own.items():
        if key not in ("params", "param_names"):
            group.setdefault(key, value)
    _core.check_group(local_view({**group, "params": own["params"]}), index)
    return group


def plain(value: Any) -> Any:
    """Lists and tuples compare as the same."""
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    return [plain(entry) for entry in value] if isinstance(value, (list, tuple)) else value


def state_names(group: dict[str, Any]) -> list[str]:
    if group["rule"] == "adamw":
        return ["step", "exp_avg", "exp_avg_sq"]
    return [name for name in ("momentum_buffer", _core.row_state_name(group)) if name]


def own_state(saved: Any, group: dict[str, Any], group_index: int, index: int, fresh: set[str]) -> dict[str, Any]:
    """A copy of the saved state, in the type in which a step keeps it: float64 for float64 parameters, else float32.
    A state of rows that is missing beside a momentum is left to the step, and its name goes into `fresh`."""
    parameter = group["params"][index]
    name = f" '{group['param_names'][index]}'" if "param_names" in group else ""
    place = (
        f"group {group_index}, parameter {index}{name}, shape {list(parameter.shape)}, rule {group['rule']}"
    )
    if not isinstance(saved, dict):
        raise ValueError(f"[aurora_optim] A state must be a dict, not {type(saved).__name__}: {place}")
    needed = state_names(group)
    if not saved:
        return {}
    rows = needed[1:] if group["rule"] != "adamw" else []
    if "momentum_buffer" in saved and rows and rows[0] not in saved:
        needed = needed[:1]
        fresh |= set(rows)
    missing = [key for key in needed if key not in saved]
    unknown = [key for key in saved if key not in needed]
    if missing or unknown:
        problem = f"lacks {', '.join(missing)}" if missing else f"has the unknown {', '.join(map(str, unknown))}"
        raise ValueError(
            f"[aurora_optim] The state dict {problem}; this rule keeps {', '.join(needed)}: {place}"
        )
    kept = torch.float64 if parameter.dtype == torch.float64 else torch.float32
    state: dict[str, Any] = {}
    for key in needed:
        value = saved[key]
        if key == "step":
            state[key] = count(value, place)
        elif isinstance(value, Tensor) and value.is_floating_point():
            state[key] = value.detach().to(parameter.device, kept, copy=True)
        else:
            raise ValueError(f"[aurora_optim] The state {key} must be a tensor of floats, not {value!r}: {place}")
    if not is_sharded(parameter):
        _core.complete_state(group, group_index, index, state)
        return state
    kind = "pieces" if lies_in_pieces(parameter, group) else "alone"
    empty = local_of(parameter).new_empty(0)
    laid_out = {
        key: value
        if key == "step"
        else laid_out_as(value, row_state_like(parameter, empty, kind) if key in rows else parameter)
        for key, value in state.items()
    }
    local = {key: local_of(value) if isinstance(value, Tensor) else value for key, value in laid_out.items()}
    _core.complete_state(local_view(group), group_index, index, local)
    return {
        key: value
        if key == "step"
        else row_state_like(parameter, value, kind)
        if key in rows
        else whole_like(parameter, value)
        for key, value in local.items()
    }


def names_of(groups: Sequence[Mapping[str, Any]]) -> list[str] | None:
    """The names of all parameters, or None where some have none."""
    if not all(len(group.get("param_names", ())) == len(group["params"]) for group in groups):
        return None
    return [name for group in groups for name in group["param_names"]]


def by_names(state_dict: StateDict, own_groups: Sequence[Mapping[str, Any]]) -> StateDict:
    """The state dict with its parameters in the groups and the order of our own, where both have names."""
    saved_groups = state_dict["param_groups"]
    saved_names, own_names = names_of(saved_groups), names_of(own_groups)
    if not saved_names or not own_names or len(set(saved_names)) < len(saved_names):
        return state_dict
    places = {name: (g, key) for g in saved_groups for name, key in zip(g["param_names"], g["params"])}
    frozen = {
        name for g in own_groups for name, p in zip(g["param_names"], g["params"]) if not p.requires_grad
    }
    missing = [name for name in own_names if name not in places and name not in frozen]
    unknown = [name for name in saved_names if name not in set(own_names)]
    if missing or unknown:
        names = ", ".join((missing or unknown)[:5])
        raise ValueError(
            f"[aurora_optim] The state dict {'lacks' if missing else 'has the unknown'} parameters, by name: {names}"
        )
    groups = []
    for g, own in enumerate(own_groups):
        sources = [places[name][0] for name in own["param_names"] if name in places]
        if not sources:
            groups.append({**own, "params": [f"new {g} {i}" for i in range(len(own["params"]))]})
            continue
        for name, source in zip((n for n in own["param_names"] if n in places), sources):
            if source.get("rule", own["rule"]) != own["rule"]:
                raise ValueError(
                    f"[aurora_optim] The state dict has another rule for {name}: {source['rule']} vs {own['rule']}"
                )
        cut = {key: own[key] for key in CUT_KEYS if key in own} if len(saved_groups) != len(own_groups) else {}
        keys = [places[name][1] if name in places else f"new {name}" for name in own["param_names"]]
        groups.append({**sources[0], **cut, "params": keys, "param_names": list(own["param_names"])})
    return {**state_dict, "param_groups": groups}


def joined(
    muon: StateDict, adamw: StateDict, own_groups: Sequence[Mapping[str, Any]], order: Mapping[str, int]
) -> StateDict:
    """One state dict with our groups from torch.optim.Muon's and torch.optim.AdamW's."""
    groups: list[dict[str, Any]] = [{} for _ in own_groups]
    state: dict[Any, Any] = {}
    for what, saved, is_ours in (("muon", muon, False), ("adamw", adamw, True)):
        ours = [
            (g, i, group["param_names"][i] if "param_names" in group else "", p)
            for g, group in enumerate(own_groups)
            if (group["rule"] == "adamw") == is_ours
            for i, p in enumerate(group["params"])
        ]
        saved_groups = saved["param_groups"]
        theirs = [(group, key) for group in saved_groups for key in group["params"]]
        names = names_of(saved_groups)
        if names and all(name for _, _, name, _ in ours):
            if sorted(names) != sorted(name for _, _, name, _ in ours):
                raise ValueError(f"[aurora_optim] The state dict of {what} has other names than its parameters here")
            ours.sort(key=lambda entry: names.index(entry[2]))
        else:
            ours = [entry for entry in ours if entry[3].requires_grad]
            ours.sort(key=lambda entry: order.get(entry[2], 0))
        if len(theirs) != len(ours):
            raise ValueError(
                f"[aurora_optim] The state dict of {what} has {len(theirs)} parameters, and here are {len(ours)}"
            )
        for (g, i, name, p), (group, key) in zip(ours, theirs):
            groups[g] = groups[g] or {k: v for k, v in group.items() if k not in ("params", "param_names")}
            kept = saved["state"].get(key)
            if kept:
                state[(g, i)] = kept
    for g, own in enumerate(own_groups):
        rest = {k: v for k, v in own.items() if k not in ("params",)} if not groups[g] else {}
        groups[g] = {**rest, **groups[g], "params": [(g, i) for i in range(len(own["params"]))]}
    return {"state": state, "param_groups": groups}


def count(value: Any, place: str) -> float:
    number = value.item() if isinstance(value, Tensor) and value.numel() == 1 else value
    if not isinstance(number, (int, float)) or not 0 <= number < 2**53 or number != int(number):
        raise ValueError(f"[aurora_optim] The state step must be a whole number >= 0, not {value!r}: {place}")
    return float(number)
