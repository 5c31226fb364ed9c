"""State dicts: ours, and those of torch.optim.Muon and torch.optim.AdamW."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import _core

# What torch.optim.Muon reads in each step beside lr, momentum, nesterov and weight_decay: its own defaults.
MUON_KEYS: dict[str, Any] = {"ns_coefficients": (3.4445, -4.7750, 2.0315), "ns_steps": 5, "eps": 1e-7}
MUON_SCALES = {"aspect_ratio": "original", "match_rms_adamw": "match_rms_adamw"}
# Switches of torch's optimizers: where they are on, another rule is meant; else they say nothing to us.
REFUSED_SWITCHES = ("amsgrad", "maximize", "differentiable")
IGNORED_KEYS = ("foreach", "capturable", "fused", "decoupled_weight_decay", *REFUSED_SWITCHES)
# Which matrices a parameter is must be said where the optimizer is made.
DIMENSION_KEYS = ("dimensions", "blocks", "heads")


def with_muon_keys(group: dict[str, Any]) -> dict[str, Any]:
    """A saved group that torch.optim.Muon can go on with, at the nearest update scale that it has."""
    if group["rule"] == "adamw":
        return group
    scale = _core.scale_of(group)
    return {**group, **MUON_KEYS, "adjust_lr_fn": MUON_SCALES.get(scale, scale)}


def own_group(saved: dict[str, Any], own: dict[str, Any], index: int) -> dict[str, Any]:
    """The saved group as one of ours; what it does not say comes from our own."""
    where = f"of group {index}"
    group = {key: value for key, value in saved.items() if key not in IGNORED_KEYS}
    for switch in REFUSED_SWITCHES:
        if saved.get(switch):
            raise ValueError(f"[aurora_optim] The state dict has {switch}=True {where}, which no rule here knows")
    if "rule" in saved and saved["rule"] != own["rule"]:
        raise ValueError(
            f"[aurora_optim] The state dict has another rule {where}: {saved['rule']} vs {own['rule']}"
        )
    for key in DIMENSION_KEYS:
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
    for key, value in own.items():
        if key not in ("params", "param_names"):
            group.setdefault(key, value)
    _core.check_group({**group, "params": own["params"]}, index)
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


def own_state(saved: Any, group: dict[str, Any], group_index: int, index: int) -> dict[str, Any]:
    """A copy of the saved state, in the type in which a step keeps it: float64 for float64 parameters, else float32."""
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
    _core.complete_state(group, group_index, index, state)
    return state


def count(value: Any, place: str) -> float:
    number = value.item() if isinstance(value, Tensor) and value.numel() == 1 else value
    if not isinstance(number, (int, float)) or not 0 <= number < 2**53 or number != int(number):
        raise ValueError(f"[aurora_optim] The state step must be a whole number >= 0, not {value!r}: {place}")
    return float(number)
