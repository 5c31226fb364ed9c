"""A class for every rule of the core's table, which has their names, formulas, hyperparameters and defaults.

Its types for editors and checkers stand in rules.pyi, which scripts/make_stub writes from the same table.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Literal

from . import _core
from .groups import CUT_KEYS, FOR_ALL, OPTIONS, defaults_of
from .optimizer import SpectralOptimizer


def values_of(name: str) -> tuple[str, ...]:
    """The names that a hyperparameter takes, of the first rule that has it."""
    for rule in _core.RULES:
        for key, _, allowed, _ in _core.hyperparameters(rule):
            if key == name:
                return tuple(allowed.removeprefix("one of ").split(", "))
    raise KeyError(name)


Scale = Literal[values_of("scale")]
Polar = Literal[values_of("polar")]
Precision = Literal[values_of("precision")]
Sides = Literal[values_of("sides")]
Balance = Literal[values_of("balance")]


def signature_of(rule: str) -> inspect.Signature:
    """(self, params, lr=..., *, ..., **options)."""
    both, named = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
    defaults = {key: value for key, value in defaults_of(rule).items() if key not in ("rule", *CUT_KEYS)}
    parameters = [inspect.Parameter("self", both), inspect.Parameter("params", both)]
    for name, default in defaults.items():
        parameters.append(inspect.Parameter(name, both if name == "lr" else named, default=default))
    parameters.append(inspect.Parameter("options", inspect.Parameter.VAR_KEYWORD))
    return inspect.Signature(parameters)


def docstring_of(rule: str) -> str:
    _, meaning, formula = _core.rule_texts(rule)
    what = (
        "a model or its named parameters, all of which it steps,"
        if rule == "adamw"
        else "a model or its named parameters, of which it steps the hidden matrices and AdamW the rest,"
    )
    options = [name for name in OPTIONS if rule != "adamw" or name in FOR_ALL]
    return "\n".join(
        [
            f"{meaning[0].upper()}{meaning[1:]}.",
            "",
            *(f"    {line}" for line in formula.splitlines()),
            "",
            f"    params: {what} or tensors or torch's groups, all of which go to this rule.",
            *(
                f"    {name} (default {default}): {text}; {allowed}"
                for name, default, allowed, text in _core.hyperparameters(rule)
            ),
            *(f"    {name}: {OPTIONS[name]}" for name in options),
            "",
        ]
    )


def initializer_of(rule: str) -> Callable[..., None]:
    signature = signature_of(rule)

    def __init__(self: SpectralOptimizer, *args: Any, **keywords: Any) -> None:
        bound = signature.bind(self, *args, **keywords)
        bound.apply_defaults()
        values = dict(bound.arguments)
        options = values.pop("options", {})
        SpectralOptimizer.__init__(values.pop("self"), values.pop("params"), values, options)

    __init__.__signature__ = signature  # type: ignore[attr-defined]
    return __init__


def class_of(rule: str) -> type[SpectralOptimizer]:
    name = _core.rule_texts(rule)[0]
    members = {
        "rule": rule,
        "__init__": initializer_of(rule),
        "__doc__": docstring_of(rule),
        "__module__": __name__,
        "__qualname__": name,
    }
    return type(name, (SpectralOptimizer,), members)


CLASSES = tuple(class_of(rule) for rule in _core.RULES)
globals().update({cls.__name__: cls for cls in CLASSES})
__all__ = [cls.__name__ for cls in CLASSES]
