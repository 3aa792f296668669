"""Everything that training changes, in one object that a checkpoint holds whole."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from dlkit.config.schema import Clip
from dlkit.core.evaluation.evaluate import Scoring
from dlkit.core.training.ema import Ema
from dlkit.core.training.improvement import BestSoFar, EarlyStopping
from dlkit.core.training.learning_rates import LearningRates
from dlkit.core.training.optimizers import frozen_norms
from dlkit.core.training.random_state import capture_random_state, restore_random_state

Row = dict[str, float | int | None]


@dataclass
class Position:
    """Where training stands: whole epochs done, micro-batches consumed in this one, updates applied, samples seen."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    samples: int = 0


@dataclass
class Learner:
    """A model with all that is needed to go on training it. `history` has one row of metrics per epoch."""

    model: nn.Module
    scoring: Scoring
    optimizer: Optimizer
    rates: LearningRates
    best: BestSoFar
    early_stopping: EarlyStopping | None = None
    ema: Ema | None = None
    clip: Clip | None = None
    accumulate: int = 1
    on_nan: str = "stop"
    position: Position = field(default_factory=Position)
    history: list[Row] = field(default_factory=list)
    train_s: float = 0.0
    num_skipped: int = 0

    def __post_init__(self) -> None:
        self.meter = self.scoring.new_meter()
        self.parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        self._frozen_norms = frozen_norms(self.model)

    def set_training_mode(self) -> None:
        """Training mode for the model, except for batch norms that are frozen."""
        self.model.train()
        for norm in self._frozen_norms:
            norm.eval()

    @property
    def scaler(self) -> torch.amp.GradScaler:
        """The loss scaler; passes everything through unless training in fp16."""
        return self.scoring.precision.scaler

    @property
    def judged_model(self) -> nn.Module:
        """The model that is judged and exported: the moving average where there is one."""
        return self.ema.model if self.ema else self.model

    def state_dict(self) -> dict[str, Any]:
        """All state as tensors and plain values, taken between two updates."""
        return {
            "state_dict": self.model.state_dict(),
            "state_dict_ema": self.ema.state_dict() if self.ema else None,
            "optimizer": self.optimizer.state_dict(),
            "learning_rates": self.rates.state_dict(),
            "scaler": self.scaler.state_dict(),
            "meter": self.meter.state_dict(),
            "best": self.best.state_dict(),
            "early_stopping": self.early_stopping.state_dict() if self.early_stopping else None,
            "position": asdict(self.position),
            "history": [dict(row) for row in self.history],
            "train_s": self.train_s,
            "num_skipped": self.num_skipped,
            "random": capture_random_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave, into a learner built from the same config."""
        self.model.load_state_dict(state["state_dict"], strict=True)
        if self.ema and state["state_dict_ema"]:
            self.ema.load_state_dict(state["state_dict_ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.rates.load_state_dict(state["learning_rates"])
        if state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        self.meter.load_state_dict(state["meter"])
        self.best.load_state_dict(state["best"])
        if self.early_stopping and state["early_stopping"]:
            self.early_stopping.load_state_dict(state["early_stopping"])
        self.position = Position(**state["position"])
        self.history = [dict(row) for row in state["history"]]
        self.train_s = float(state["train_s"])
        self.num_skipped = int(state["num_skipped"])
        restore_random_state(state["random"])
