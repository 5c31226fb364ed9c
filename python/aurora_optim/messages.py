"""What to say of a word that is not known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

# Words of other optimizers, and what they are here.
SYNONYMS = {
    "learning_rate": "lr",
    "eta": "lr",
    "alpha": "lr",
    "mu": "momentum",
    "beta": "momentum",
    "beta1": "momentum",
    "decay": "weight_decay",
    "wd": "weight_decay",
    "betas": "adamw_betas",
    "eps": "adamw_eps",
    "epsilon": "adamw_eps",
    "adjust_lr_fn": "scale",
    "adjust_lr": "scale",
    "ns_steps": "polar",
    "ns_coefficients": "polar",
    "backend_steps": "polar",
    "num_heads": "heads",
}
# What torch's optimizers can be told and ours need not be.
NEEDLESS = {
    "foreach": "weights of one shape are stepped together anyway",
    "fused": "the step is compiled code anyway",
    "amsgrad": "no rule here has it",
    "maximize": "negate the loss",
    "differentiable": "no step here is",
    "capturable": "steps are not captured in CUDA graphs yet",
}


def meant(word: str, known: Iterable[str], likeness: float = 0.7) -> str | None:
    """The known word that an unknown one is meant for; None where none is as near as that."""
    words = list(known)
    if SYNONYMS.get(word) in words:
        return SYNONYMS[word]
    return next(iter(difflib.get_close_matches(word, words, n=1, cutoff=likeness)), None)


def suggestion(word: str, known: Iterable[str]) -> str:
    """The end of a sentence on an unknown word: "; did you mean 'lr'?", why it is not needed, or "."."""
    if word in NEEDLESS:
        return f": {NEEDLESS[word]}."
    near = meant(word, known)
    return f"; did you mean '{near}'?" if near else "."
