"""What a step did to the weights of each group, for loggers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from . import _core
from .layouts import whole_of

STARVED = "starved_0.1"


class Watch:
    """Measures every so many steps."""

    def __init__(self, every: int) -> None:
        if not isinstance(every, int) or isinstance(every, bool) or every < 0:
            raise ValueError(f"[aurora_optim] watch: every must be a whole number >= 0, not {every!r}")
        self.every = every
        self.statistics: dict[str, float] = {}
        self._before: list[list[tuple[Tensor, Tensor]]] = []

    def is_due(self, step: int) -> bool:
        return step % self.every == 0

    @torch.no_grad()
    def begin(self, groups: Sequence[Mapping[str, Any]]) -> None:
        self._before = [
            [(p, p.detach().clone()) for p in group["params"] if p.grad is not None and p.numel() > 0]
            for group in groups
        ]

    @torch.no_grad()
    def end(self, groups: Sequence[Mapping[str, Any]], states: Mapping[Tensor, Any]) -> None:
        self.statistics = {}
        for g, (group, before) in enumerate(zip(groups, self._before)):
            if not before:
                continue
            name = group.get("name") or f"{g}.{group['rule']}"
            changed = sum(float(whole_of((p.double() - old.double()).square().sum())) for p, old in before)
            weight = sum(float(whole_of(old.double().square().sum())) for _, old in before)
            values = sum(p.numel() for p, _ in before)
            self.statistics[f"{name}/update_rms"] = (changed / values) ** 0.5
            self.statistics[f"{name}/update_to_weight"] = (changed / weight) ** 0.5 if weight > 0 else float("inf")
            if group["rule"] != "adamw":
                momenta = [whole_of(states[p]["momentum_buffer"]) for p, _ in before if "momentum_buffer" in states.get(p, {})]
                shares = [entry[STARVED] for m in momenta for entry in _core.diagnose(m, dict(group))]
                if shares:
                    self.statistics[f"{name}/starved"] = sum(shares) / len(shares)
        self._before = []
