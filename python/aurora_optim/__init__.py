"""Aurora and its family of optimizers for PyTorch.

    from aurora_optim import Aurora

    optimizer = Aurora(model)        # hidden matrices by Aurora, everything else by AdamW
    print(optimizer.routing)         # which parameter goes where, and why
"""

import torch

from ._build import TORCH_VERSION, VERSION

if torch.__version__ != TORCH_VERSION:
    raise ImportError(
        f"aurora_optim was built with torch {TORCH_VERSION}, but torch {torch.__version__} is installed: build it "
        "again with `pip install --force-reinstall --no-deps .` in its source folder"
    )

from .functions import balanced_polar, diagnose, leverage_scores, polar
from .groups import param_groups
from .optimizer import SpectralOptimizer
from .routing import RoutedParameter, Routing
from . import rules
from .rules import *  # noqa: F403

__version__ = VERSION
__all__ = [
    "RoutedParameter",
    "Routing",
    "SpectralOptimizer",
    "balanced_polar",
    "diagnose",
    "leverage_scores",
    "param_groups",
    "polar",
]
__all__ += rules.__all__
