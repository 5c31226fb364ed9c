"""The six optimizers. Their hyperparameters come from one list in the core, which also writes the end of each docstring."""

from __future__ import annotations

from typing import Literal, Unpack

from torch import Tensor, nn
from torch.optim.optimizer import ParamsT

from . import _core
from .groups import OPTIONS, Options
from .optimizer import SpectralOptimizer

Scale = Literal["aspect_ratio", "rms_to_rms", "match_rms_adamw", "none", "published"]
Polar = Literal[
    "exact",
    "keller-jordan-5",
    "simple-quintic-12",
    "cans-12",
    "polar-express-5",
    "polar-express-6",
    "polar-express-7",
    "polar-express-8",
    "exact-halley",
    "exact-eigen",
    "exact-svd",
]
Sides = Literal["rows", "longer"]
Balance = Literal["odds", "release", "carried", "optimum"]


class AdamW(SpectralOptimizer):
    """Loshchilov and Hutter (arXiv 1711.05101), as in torch, for parameters of any shape.

    m <- beta1 m + (1 - beta1) g;  v <- beta2 v + (1 - beta2) g^2;
    w <- (1 - lr weight_decay) w - lr (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps).
    """

    rule = "adamw"

    def __init__(
        self,
        params: ParamsT | nn.Module,
        lr: float | Tensor = 0.003,
        *,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-08,
        weight_decay: float = 0.0,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}, options)


class Muon(SpectralOptimizer):
    """Keller Jordan (github.com/KellerJordan/Muon): the step is the semi-orthogonal matrix nearest to the momentum.

    M <- mu M + (1 - mu) G;  B = mu M + (1 - mu) G with nesterov, else M;  U = polar(B);
    W <- (1 - lr weight_decay) W - lr s U,  s the update scale of the m x n weight.
    """

    rule = "muon"

    def __init__(
        self,
        params: ParamsT | nn.Module,
        lr: float | Tensor = 0.02,
        *,
        momentum: float = 0.95,
        nesterov: bool = True,
        weight_decay: float = 0.025,
        scale: Scale = "aspect_ratio",
        polar: Polar = "exact",
        **options: Unpack[Options],
    ) -> None:
        hyperparameters = {
            "lr": lr,
            "momentum": momentum,
            "nesterov": nesterov,
            "weight_decay": weight_decay,
            "scale": scale,
            "polar": polar,
        }
        super().__init__(params, hyperparameters, options)


class NorMuon(SpectralOptimizer):
    """Li et al. (arXiv 2510.05491): Muon with rows evened out by their second moments v (rows x 1, kept per matrix).

    O = polar(B), B as in Muon;  v_i <- beta2 v_i + (1 - beta2) mean_j O_ij^2;  U = diag(v)^-1/2 O, rescaled to |O|_F.
    """

    rule = "normuon"

    def __init__(
        self,
        params: ParamsT | nn.Module,
        lr: float | Tensor = 0.02,
        *,
        momentum: float = 0.95,
        nesterov: bool = True,
        beta2: float = 0.95,
        weight_decay: float = 0.025,
        scale: Scale = "aspect_ratio",
        polar: Polar = "exact",
        **options: Unpack[Options],
    ) -> None:
        hyperparameters = {
            "lr": lr,
            "momentum": momentum,
            "nesterov": nesterov,
            "beta2": beta2,
            "weight_decay": weight_decay,
            "scale": scale,
            "polar": polar,
        }
        super().__init__(params, hyperparameters, options)


class UNorMuon(SpectralOptimizer):
    """Muon with each row of a tall matrix's polar factor brought to length sqrt(n/m), without memory (aurora-release)."""

    rule = "u-normuon"

    def __init__(
        self,
        params: ParamsT | nn.Module,
        lr: float | Tensor = 0.02,
        *,
        momentum: float = 0.95,
        nesterov: bool = True,
        weight_decay: float = 0.025,
        scale: Scale = "aspect_ratio",
        polar: Polar = "exact",
        **options: Unpack[Options],
    ) -> None:
        hyperparameters = {
            "lr": lr,
            "momentum": momentum,
            "nesterov": nesterov,
            "weight_decay": weight_decay,
            "scale": scale,
            "polar": polar,
        }
        super().__init__(params, hyperparameters, options)


class Aurora(SpectralOptimizer):
    """Muon whose step has rows of equal length, so that every neuron of a tall matrix learns (tilde-research/aurora-release).

    U = balanced_polar(B), B as in Muon: close to B with U'U = I and, for m x n with m > n, all rows of length sqrt(n/m).
    """

    rule = "aurora"

    def __init__(
        self,
        params: ParamsT | nn.Module,
        lr: float | Tensor = 0.02,
        *,
        momentum: float = 0.95,
        nesterov: bool = True,
        weight_decay: float = 0.025,
        scale: Scale = "aspect_ratio",
        polar: Polar = "exact",
        sides: Sides = "rows",
        pp_iterations: int = 2,
        pp_beta: float = 0.5,
        balance: Balance = "odds",
        **options: Unpack[Options],
    ) -> None:
        hyperparameters = {
            "lr": lr,
            "momentum": momentum,
            "nesterov": nesterov,
            "weight_decay": weight_decay,
            "scale": scale,
            "polar": polar,
            "sides": sides,
            "pp_iterations": pp_iterations,
            "pp_beta": pp_beta,
            "balance": balance,
        }
        super().__init__(params, hyperparameters, options)


class RiemannianAurora(SpectralOptimizer):
    """The variant of aurora-release that ascends <B, U> on {U'U = I, rows of length sqrt(n/m)} from U = polar(B)."""

    rule = "riemannian-aurora"

    def __init__(
        self,
        params: ParamsT | nn.Module,
        lr: float | Tensor = 0.02,
        *,
        momentum: float = 0.95,
        nesterov: bool = True,
        weight_decay: float = 0.025,
        scale: Scale = "aspect_ratio",
        polar: Polar = "exact",
        **options: Unpack[Options],
    ) -> None:
        hyperparameters = {
            "lr": lr,
            "momentum": momentum,
            "nesterov": nesterov,
            "weight_decay": weight_decay,
            "scale": scale,
            "polar": polar,
        }
        super().__init__(params, hyperparameters, options)


def _with_hyperparameters(cls: type[SpectralOptimizer]) -> None:
    lines = [
        f"    {name} (default {default}): {meaning}; {rule}"
        for name, default, rule, meaning in _core.hyperparameters(cls.rule)
    ]
    what = (
        "a model or its named parameters, all of which it steps,"
        if cls.rule == "adamw"
        else "a model or its named parameters, of which it steps the hidden matrices and AdamW the rest,"
    )
    cls.__doc__ = (
        f"{(cls.__doc__ or '').rstrip()}\n\n    params: {what} or tensors or torch's groups, all of which go to this rule.\n"
        + "\n".join(lines)
        + "\n"
        + "".join(
            f"    {name}: {meaning}\n"
            for name, meaning in OPTIONS.items()
            if cls.rule != "adamw" or name in ("patterns", "exclude")
        )
    )


CLASSES = (AdamW, Muon, NorMuon, UNorMuon, Aurora, RiemannianAurora)
for _cls in CLASSES:
    _with_hyperparameters(_cls)
