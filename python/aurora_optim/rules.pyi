# Made by scripts/make_stub from the table of rules.
from typing import Literal, Unpack

from torch import Tensor, nn
from torch.optim.optimizer import ParamsT

from .groups import Options
from .optimizer import SpectralOptimizer

Scale = Literal[
    "aspect_ratio",
    "rms_to_rms",
    "match_rms_adamw",
    "none",
    "published",
]
Polar = Literal[
    "auto",
    "exact",
    "keller-jordan-5",
    "simple-quintic-12",
    "cans-12",
    "polar-express-5",
    "polar-express-6",
    "polar-express-7",
    "polar-express-8",
]
Precision = Literal[
    "auto",
    "float32",
    "float16",
    "bfloat16",
]
Sides = Literal[
    "rows",
    "longer",
]
Balance = Literal[
    "odds",
    "release",
    "carried",
    "optimum",
]

class AdamW(SpectralOptimizer):
    """Moments of every element; Loshchilov and Hutter, arXiv 1711.05101."""

    def __init__(
        self,
        params: ParamsT | nn.Module,
        lr: float | Tensor = 0.003,
        *,
        eps: float = 1e-08,
        weight_decay: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.95),
        **options: Unpack[Options],
    ) -> None: ...

class Muon(SpectralOptimizer):
    """The polar factor of the momentum; Keller Jordan."""

    def __init__(
        self,
        params: ParamsT | nn.Module,
        lr: float | Tensor = 0.02,
        *,
        momentum: float = 0.95,
        nesterov: bool = True,
        weight_decay: float = 0.025,
        scale: Scale = "aspect_ratio",
        polar: Polar = "auto",
        precision: Precision = "auto",
        **options: Unpack[Options],
    ) -> None: ...

class NorMuon(SpectralOptimizer):
    """The polar factor with rows evened by their moving second moments; arXiv 2510.05491."""

    def __init__(
        self,
        params: ParamsT | nn.Module,
        lr: float | Tensor = 0.02,
        *,
        momentum: float = 0.95,
        nesterov: bool = True,
        weight_decay: float = 0.025,
        scale: Scale = "aspect_ratio",
        polar: Polar = "auto",
        precision: Precision = "auto",
        beta2: float = 0.95,
        **options: Unpack[Options],
    ) -> None: ...

class UNorMuon(SpectralOptimizer):
    """The polar factor with the rows of tall matrices brought to one length; Tilde Research."""

    def __init__(
        self,
        params: ParamsT | nn.Module,
        lr: float | Tensor = 0.02,
        *,
        momentum: float = 0.95,
        nesterov: bool = True,
        weight_decay: float = 0.025,
        scale: Scale = "aspect_ratio",
        polar: Polar = "auto",
        precision: Precision = "auto",
        **options: Unpack[Options],
    ) -> None: ...

class Aurora(SpectralOptimizer):
    """A semi-orthogonal direction with rows of equal length; tilde-research/aurora-release."""

    def __init__(
        self,
        params: ParamsT | nn.Module,
        lr: float | Tensor = 0.02,
        *,
        momentum: float = 0.95,
        nesterov: bool = True,
        weight_decay: float = 0.025,
        scale: Scale = "aspect_ratio",
        polar: Polar = "auto",
        precision: Precision = "auto",
        sides: Sides = "rows",
        pp_iterations: int = 2,
        pp_beta: float = 0.5,
        balance: Balance = "odds",
        **options: Unpack[Options],
    ) -> None: ...

class RiemannianAurora(SpectralOptimizer):
    """Ascent along the matrices that Aurora chooses from; tilde-research/aurora-release."""

    def __init__(
        self,
        params: ParamsT | nn.Module,
        lr: float | Tensor = 0.02,
        *,
        momentum: float = 0.95,
        nesterov: bool = True,
        weight_decay: float = 0.025,
        scale: Scale = "aspect_ratio",
        polar: Polar = "auto",
        precision: Precision = "auto",
        **options: Unpack[Options],
    ) -> None: ...

class RowNormalized(SpectralOptimizer):
    """The momentum with rows of one length and no polar factor; MuonEq, RMNP."""

    def __init__(
        self,
        params: ParamsT | nn.Module,
        lr: float | Tensor = 0.02,
        *,
        momentum: float = 0.95,
        nesterov: bool = True,
        weight_decay: float = 0.025,
        scale: Scale = "aspect_ratio",
        **options: Unpack[Options],
    ) -> None: ...

CLASSES: tuple[type[SpectralOptimizer], ...]
__all__ = ["AdamW", "Muon", "NorMuon", "UNorMuon", "Aurora", "RiemannianAurora", "RowNormalized"]
