"""The parts of a step as functions on tensors, and a look at the neurons of a model. None is differentiable."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from . import _core
from .groups import defaults_of, plan
from .optimizer import SpectralOptimizer
from .layouts import whole_of
from .routing import parameters_of_module
from .rules import Balance, Polar, Sides


def polar(x: Tensor, schedule: Polar = "exact") -> Tensor:
    """U V' where x = U S V', for each matrix in the last two dimensions of a tensor of any floating type.

    polar(c x) = polar(x) for c > 0, polar(x') = polar(x)', polar(0) = 0. Computed in float64 for float64, else float32.
    A `schedule` other than "exact" takes each singular value through the steps of a published iteration.
    """
    return _core.direction("polar", _tensor("polar", x), {**defaults_of("muon"), "polar": schedule})


def balanced_polar(
    x: Tensor,
    *,
    polar: Polar = "exact",
    sides: Sides = "rows",
    pp_iterations: int = 2,
    pp_beta: float = 0.5,
    balance: Balance = "odds",
) -> Tensor:
    """The direction of Aurora: close to x with U'U = I and, for m x n with m > n, rows of nearly equal length sqrt(n/m).

    For each matrix in the last two dimensions; what is not balanced (`sides`) gets its polar factor. The options are
    Aurora's; `balance` "carried" needs steps and is refused.
    """
    options = {
        "polar": polar,
        "sides": sides,
        "pp_iterations": pp_iterations,
        "pp_beta": pp_beta,
        "balance": balance,
    }
    return _core.direction("balanced_polar", _tensor("balanced_polar", x), {**defaults_of("aurora"), **options})


def leverage_scores(x: Tensor, axis: Literal["rows", "columns"] = "rows") -> Tensor:
    """h_i = |u_i|^2 with U = polar(x), exact, for the rows or the columns of each matrix: shape [..., rows] or [..., columns].

    In [0, 1]; they sum to the rank. Along the longer side the balanced value is short side / long side.
    """
    return _core.leverage_scores(_tensor("leverage_scores", x), axis)


def diagnose(target: nn.Module | SpectralOptimizer) -> dict[str, dict[str, float]]:
    """How evenly the neurons of each hidden matrix live: of a model's weights, or of an optimizer's momentum.

    By name, then: `leverage_q0` ... `leverage_q1`, quantiles of the leverage scores along the longer side over their
    balanced value (1 is balanced); `starved_0.01`, `starved_0.1`, `starved_0.5`, the share of scores below that part of it;
    `row_norm_cv`, standard deviation over mean of the norms along that side. A parameter that is several matrices gives
    name[0], name[1], ... Processes that share DTensors call this together; of plain matrices that they share, each has
    the momentum of its own.
    """
    found: dict[str, dict[str, float]] = {}
    for name, matrices, group in _matrices_of(target):
        each = _core.diagnose(matrices, group)
        found.update({name if len(each) == 1 else f"{name}[{i}]": values for i, values in enumerate(each)})
    return found


def _matrices_of(target: nn.Module | SpectralOptimizer) -> list[tuple[str, Tensor, dict[str, Any]]]:
    if isinstance(target, SpectralOptimizer):
        return [
            (group.get("param_names", {i: f"group {g}, parameter {i}"})[i], whole_of(target.state[p]["momentum_buffer"]), group)
            for g, group in enumerate(target.param_groups)
            if group["rule"] != "adamw"
            for i, p in enumerate(group["params"])
            if "momentum_buffer" in target.state.get(p, {})
        ]
    if not isinstance(target, nn.Module):
        raise TypeError(f"[aurora_optim.diagnose] A model or an optimizer of this package, not {type(target).__name__}")
    named = parameters_of_module(target)
    groups, _ = plan(named, "muon", {})
    return [
        (name, _tensor("diagnose", whole_of(tensor.detach())), group)
        for group in groups
        if group["rule"] != "adamw"
        for name, tensor in group["params"]
        if tensor.numel() > 0
    ]


def _tensor(function: str, x: Any) -> Tensor:
    """A plain tensor; refuses what has no memory of its own to read."""
    if not isinstance(x, Tensor):
        hint = ": torch.from_numpy(x)" if type(x).__module__ == "numpy" else ""
        raise TypeError(f"[aurora_optim.{function}] x must be a torch.Tensor, not {type(x).__name__}{hint}")
    if torch._C._functorch.is_functorch_wrapped_tensor(x):
        raise TypeError(f"[aurora_optim.{function}] This is not differentiable and has no rule for torch.func and vmap")
    if type(x).__torch_dispatch__ not in (Tensor.__torch_dispatch__, nn.Parameter.__torch_dispatch__):
        raise TypeError(f"[aurora_optim.{function}] x must be a plain tensor, not a {type(x).__name__}")
    return x


__all__ = ["balanced_polar", "diagnose", "leverage_scores", "polar"]
