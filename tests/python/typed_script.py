"""What a user writes, for mypy and pyright: tests/python/test_types.py."""

import torch
from torch import Tensor, nn

from aurora_optim import AdamW, Aurora, Muon, NorMuon, RoutedParameter, Routing, diagnose, leverage_scores, param_groups, polar


def train(model: nn.Module, batches: list[Tensor]) -> dict[str, float]:
    optimizer = Aurora(
        model,
        lr=0.02,
        momentum=0.95,
        scale="match_rms_adamw",
        adamw_lr=3e-3,
        adamw_betas=(0.9, 0.95),
        patterns={"lm_head.*": {"lr": 1e-3}, "*.gate.*": "adamw"},
        exclude=["frozen.*"],
        blocks={"*.qkv.weight": 3},
    )
    routing: Routing = optimizer.routing
    guessed: list[RoutedParameter] = [entry for entry in routing if entry.guessed]
    print(routing, [(entry.name, entry.matrices) for entry in guessed])
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, step / 10))
    optimizer.watch(every=10)
    for batch in batches:
        loss: Tensor = model(batch).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    optimizer.add_param_group(nn.Linear(4, 4))
    optimizer.add_param_group({"params": model.parameters(), "lr": 0.1})
    optimizer.load_state_dict(optimizer.state_dict())
    optimizer.load_pair(optimizer.state_dict(), optimizer.state_dict())
    print(diagnose(model), diagnose(optimizer), optimizer.skipped_steps + optimizer.skipped_in_a_row)
    return optimizer.statistics


def others(model: nn.Module, x: Tensor) -> Tensor:
    AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.99))
    Muon(model.named_parameters(), lr=torch.tensor(0.02), polar="keller-jordan-5")
    NorMuon(param_groups(model, "normuon", lr=0.02), beta2=0.9)
    return polar(x) + leverage_scores(x, axis="rows")[:, None]
