from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

import torch
from torch import Tensor

RULES: tuple[str, ...]

class Stepper:
    """Steps the groups of a torch optimizer. Owns scratch memory, threads and the counts of skipped steps."""

    def __init__(self) -> None: ...
    def step(
        self,
        param_groups: list[dict[str, Any]],
        state: MutableMapping[Tensor, Any],
        grad_scale: Tensor | None,
        found_inf: Tensor | None,
        ranks: Sequence[Ranks] = (),
        number: int = 0,
    ) -> None:
        """One step with every gradient divided by grad_scale, if all of them are finite and found_inf is zero; with ranks, on
        all of them or on none."""
    @property
    def description(self) -> str:
        """Of what steps CPU tensors."""
    @property
    def skipped_steps(self) -> int: ...
    @property
    def skipped_in_a_row(self) -> int: ...
    def set_skipped(self, ever: int, in_a_row: int) -> None: ...

class Ranks:
    """The processes of one process group, by its name, as a step needs them."""

    def __init__(self, group: str, device: torch.device, limit: float, overlap: bool, chunk_bytes: int) -> None: ...
    @property
    def rank(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def description(self) -> str: ...
    @property
    def bytes_of_step(self) -> int:
        """Sent by this process in the last step."""

class Share:
    """How the processes of a group share a parameter: kind is alone, owned or pieces; a box (offset, size) of each."""

    def __init__(
        self,
        kind: str,
        replicated: bool,
        owner: int,
        shape: Sequence[int],
        boxes: Sequence[tuple[Sequence[int], Sequence[int]]],
    ) -> None: ...
    @property
    def owner(self) -> int: ...

def assign_owners(costs: Sequence[float], ranks: int) -> list[int]: ...
def unevenness(costs: Sequence[float], owners: Sequence[int], ranks: int) -> float:
    """The largest cost of a rank over the mean of all."""

def cost_of(group: dict[str, Any], shape: Sequence[int]) -> float:
    """About the floating point operations of a step of a parameter of this shape."""

def choose_senders(group: dict[str, Any], index: int, share: Share) -> None:
    """Of the first parameter of the group. Raises where the boxes do not make it up."""

SCHEDULES: tuple[str, ...]

def rule_texts(rule: str) -> tuple[str, str, str]:
    """Name of the class, what it does with its source, formula."""

def hyperparameters(rule: str) -> list[tuple[str, Any, str, str]]:
    """Name, default, what it must be, meaning."""

def row_state_name(group: dict[str, Any]) -> str:
    """Name of the state beside the momentum, or ''."""

def scale_of(group: dict[str, Any]) -> str:
    """The update scale of a matrix rule, `published` resolved."""

def nearest(text: str, candidates: Sequence[str]) -> str: ...
def matches(pattern: str, name: str) -> bool:
    """Shell wildcards *, ? and [a-z]."""

def route(
    parameters: Sequence[dict[str, Any]], patterns: Sequence[tuple[str, bool]], backbone: bool
) -> list[tuple[bool, str, str, bool, dict[str, Any]]]:
    """(whether to the matrix rule, reason, role, whether it is a guess, how it is cut) of each parameter. A backbone has no head."""

def matrices_text(shape: Sequence[int], keys: dict[str, Any]) -> str: ...
def routing_table(
    lines: Sequence[tuple[str, Sequence[int], bool, str, bool, dict[str, Any], str]], matrix_name: str
) -> str:
    """Of (name, shape, whether to the matrix rule, reason, whether it is a guess, how it is cut, method)."""

def method_text(group: dict[str, Any], parameter: Tensor) -> str:
    """How the rule of the group computes the parameter on its device, `auto` resolved."""

def check_group(group: dict[str, Any], index: int) -> None:
    """Raises where a hyperparameter is out of bounds or the rule cannot step a parameter."""

def complete_state(group: dict[str, Any], group_index: int, index: int, state: dict[str, Any]) -> None:
    """Brings a loaded state into the form that a step leaves; raises where a tensor does not fit."""

def direction(function: str, x: Tensor, group: Mapping[str, Any]) -> Tensor: ...
def leverage_scores(x: Tensor, axis: str) -> Tensor: ...
def diagnose(x: Tensor, group: Mapping[str, Any]) -> list[dict[str, float]]: ...
