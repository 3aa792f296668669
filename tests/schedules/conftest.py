"""Real torch schedulers on a dummy optimizer: the values that each optimizer step uses."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch

Build = Callable[[torch.optim.Optimizer], Any]


@dataclass(frozen=True)
class Oracle:
    """What torch gives. `rates[step][group]`, `momenta[step]`."""

    @staticmethod
    def optimizer(base_lrs: Sequence[float], kind: str = "sgd") -> torch.optim.Optimizer:
        groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr} for lr in base_lrs]
        return torch.optim.AdamW(groups) if kind == "adamw" else torch.optim.SGD(groups, momentum=0.5)

    def rates(self, build: Build, base_lrs: Sequence[float], steps: int) -> list[list[float]]:
        return self.follow(build, base_lrs, steps)[0]

    def follow(
        self, build: Build, base_lrs: Sequence[float], steps: int, kind: str = "sgd"
    ) -> tuple[list[list[float]], list[float]]:
        optimizer = self.optimizer(base_lrs, kind)
        scheduler = build(optimizer)
        rates, momenta = [], []
        for step in range(steps):
            rates.append([group["lr"] for group in optimizer.param_groups])
            first = optimizer.param_groups[0]
            momenta.append(first["betas"][0] if kind == "adamw" else first["momentum"])
            optimizer.step()
            if step < steps - 1:
                scheduler.step()
        return rates, momenta

    def closed_form(self, build: Build, base_lrs: Sequence[float], steps: int) -> list[list[float]]:
        """The same from torch's own closed form, which does not drift; only some classes have one."""
        scheduler = build(self.optimizer(base_lrs))
        rates = []
        for step in range(steps):
            scheduler.last_epoch = step
            rates.append(scheduler._get_closed_form_lr())
        return rates


@pytest.fixture(scope="session")
def oracle() -> Oracle:
    return Oracle()
