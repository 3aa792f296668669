"""Everything that training changes, in one object that a checkpoint holds whole."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from dlkit.config import Clip
from dlkit.core.data import Batch
from dlkit.core.distributed import (
    ALONE,
    Replica,
    Single,
    World,
    average_statistics,
    cut_optimizer_state,
    load_whole,
    whole,
)
from dlkit.core.metric_rows import Row, pack_rows, unpack_rows
from dlkit.core.random_state import capture_random_state, restore_random_state
from dlkit.core.scoring import Scoring
from dlkit.core.training.distillation import Distillation
from dlkit.core.training.ema import EmaModel
from dlkit.core.training.improvement import BestSoFar, EarlyStopping
from dlkit.core.training.optimizer_state import check_optimizer_state, with_own_kernels
from dlkit.core.training.optimizers import frozen_norms
from dlkit.core.training.rates import LearningRates
from dlkit.tasks import TRAITS, TaskName


@dataclass
class Position:
    """Where training stands: whole epochs done, micro-batches consumed in this one, updates applied, samples seen. `is_evaluated`
    says of an epoch that was cut short that it has its row of metrics.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    samples: int = 0
    is_evaluated: bool = False


@dataclass
class Learner:
    """A model with all that is needed to go on training it. `history` has one row of metrics per epoch.

    `replica` is the model as the processes of `world` train it together; `window_weight` is about what the losses weigh that
    one process takes in between two updates, a number on which all agree. `watch` is shown the outputs of every batch of validation.
    """

    model: nn.Module
    scoring: Scoring
    optimizer: Optimizer
    rates: LearningRates
    best: BestSoFar
    early_stopping: EarlyStopping | None = None
    ema: EmaModel | None = None
    clip: Clip | None = None
    accumulate: int = 1
    on_nan: str = "stop"
    position: Position = field(default_factory=Position)
    history: list[Row] = field(default_factory=list)
    train_s: float = 0.0
    num_skipped: int = 0
    world: World = ALONE
    distillation: Distillation | None = None
    wrapped: Replica | None = None
    window_weight: float = 0
    watch: Callable[[Tensor, Batch], None] | None = None

    def __post_init__(self) -> None:
        self.replica: Replica = self.wrapped or Single(self.model)
        self.meter = self.scoring.new_meter()
        self.parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        self._frozen_norms = frozen_norms(self.model)

    def set_training_mode(self) -> None:
        """Put the model in training mode, except for batch norms that are frozen."""
        self.model.train()
        for norm in self._frozen_norms:
            norm.eval()

    @property
    def scaler(self) -> torch.amp.GradScaler:
        """The loss scaler; passes everything through unless training in fp16."""
        return self.scoring.precision.scaler

    @property
    def evaluated_model(self) -> nn.Module:
        """The model that is tested and exported: the moving average where there is one."""
        return self.ema.model if self.ema else self.model

    def state_dict(self) -> dict[str, Any]:
        """Returns all state as tensors and plain values, taken between two updates; of several processes, all must ask together.

        Each process's random state, sums and norm statistics are under `processes` where there are several; elsewhere in the
        state stand rank 0's, with the statistics of norms averaged.
        """
        return {
            "state_dict": self._averaged(self.model),
            "state_dict_ema": self.ema.state_dict() | {"state_dict": self._averaged(self.ema.model)}
            if self.ema
            else None,
            "optimizer": whole(self.optimizer.state_dict()),
            "learning_rates": self.rates.state_dict(),
            "scaler": self.scaler.state_dict(),
            "meter": self.meter.state_dict(),
            "best": self.best.state_dict(),
            "early_stopping": self.early_stopping.state_dict() if self.early_stopping else None,
            "position": asdict(self.position),
            "history": pack_rows(self.history),
            "train_s": self.train_s,
            "num_skipped": self.num_skipped,
            "random": capture_random_state(),
            "processes": [] if self.world.is_alone else self.world.gather_values(self._own_state()),
        }

    def _averaged(self, model: nn.Module) -> dict[str, Tensor]:
        """Returns the model's state with whole tensors and averaged statistics; the model keeps its own."""
        kept = [buffer.clone() for buffer in model.buffers()]
        average_statistics(model, self.world)
        state: dict[str, Tensor] = model.state_dict()
        if not self.world.is_alone:
            state = {name: whole(tensor).clone() for name, tensor in state.items()}
            with torch.no_grad():
                for buffer, value in zip(model.buffers(), kept, strict=True):
                    buffer.copy_(value)
        return state

    @property
    def _models(self) -> list[nn.Module]:
        return [self.model] + ([self.ema.model] if self.ema else [])

    def _own_state(self) -> dict[str, Any]:
        """Returns what differs between processes."""
        return {
            "random": capture_random_state(),
            "meter": self.meter.state_dict(),
            "statistics": [[buffer.cpu().clone() for buffer in model.buffers()] for model in self._models],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load what `state_dict` returned, into a learner built from the same config. Raises ValueError and others for what is not."""
        check_optimizer_state(state["optimizer"], self.optimizer)
        load_whole(self.model, state["state_dict"])
        if self.ema and state["state_dict_ema"]:
            load_whole(self.ema.model, state["state_dict_ema"]["state_dict"])
            self.ema.num_steps = int(state["state_dict_ema"]["num_steps"])
        saved = with_own_kernels(state["optimizer"], self.optimizer)
        self.optimizer.load_state_dict(cut_optimizer_state(saved, self.optimizer))
        self.rates.load_state_dict(state["learning_rates"])
        if state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        self.best.load_state_dict(state["best"])
        if self.early_stopping and state["early_stopping"]:
            self.early_stopping.load_state_dict(state["early_stopping"])
        self.position = Position(**state["position"])
        self.history = unpack_rows(state["history"])
        self.train_s = float(state["train_s"])
        self.num_skipped = int(state["num_skipped"])
        self._load_own_state(state)

    def _load_own_state(self, state: Mapping[str, Any]) -> None:
        own = state.get("processes") or [state]
        if len(own) != self.world.size:
            self._share_out(own)
            return
        mine = own[self.world.rank]
        self.meter.load_state_dict(mine["meter"])
        restore_random_state(mine["random"])
        for model, values in zip(self._models, mine.get("statistics", ()), strict=False):
            for buffer, value in zip(model.buffers(), values, strict=True):
                buffer.copy_(value)

    def _share_out(self, states: list[Any]) -> None:
        """Go on with another number of processes: rank 0 takes the sums of all, random numbers begin anew."""
        if self.world.is_main:
            for state in states:
                other = self.scoring.new_meter()
                other.load_state_dict(state["meter"])
                self.meter.add_sums(other.sums)


def metric_columns(task: TaskName, *, has_val: bool, has_ema: bool) -> list[str]:
    """Returns the columns of metrics.csv, fixed for the whole run; a cell stays empty where an epoch was not validated."""
    prefixes = ["train"] + (["val"] if has_val else []) + (["val_ema"] if has_val and has_ema else [])
    metrics = [
        f"{prefix}_{name}" for prefix in prefixes for name in TRAITS[task].columns(is_validated=prefix != "train")
    ]
    return ["epoch", "step", "lr", *metrics, "train_s"]
