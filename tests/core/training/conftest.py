"""A small in-memory split and learner, so that the loop is tested apart from data sets and configs."""

from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from dlkit.core.data import Batch, DataInfo, DataSplits
from dlkit.core.scoring import Scoring, WeightedLoss, pick_precision
from dlkit.core.stopping import StopRequest
from dlkit.core.training import BestSoFar, Learner, NoRecords, Plan, fit
from dlkit.core.training.rates import CurveRates
from dlkit.events import ignore
from dlkit.schedules import LearningRate, build_schedule
from dlkit.tasks import TaskName


class TensorSplit:
    """Batches cut from tensors in order, as a `Split`."""

    def __init__(self, inputs: Tensor, targets: Tensor, batch_size: int, name: str = "train") -> None:
        self.inputs, self.targets, self.batch_size, self.name = inputs, targets, batch_size, name
        self.num_samples = len(inputs)
        self.num_batches = -(-len(inputs) // batch_size)

    def batches(self, epoch: int = 0, start: int = 0) -> Iterator[Batch]:
        for index in range(start, self.num_batches):
            part = slice(index * self.batch_size, (index + 1) * self.batch_size)
            yield Batch(self.inputs[part], self.targets[part], torch.arange(self.num_samples)[part])

    def sample_targets(self) -> Tensor:
        return self.targets


def make_scoring(
    function: Callable[[Tensor, Tensor], Tensor] | None = None, *, task: TaskName = "classification"
) -> Scoring:
    return Scoring(
        WeightedLoss(function or nn.CrossEntropyLoss(), "test"),
        pick_precision("off", torch.device("cpu")),
        task,
    )


def make_learner(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    schedule: str = "constant",
    total_steps: int = 100,
    **options: object,
) -> Learner:
    curve = build_schedule(schedule, {}, total_steps=total_steps, steps_per_epoch=10)
    rates = CurveRates(LearningRate(curve, [group["lr"] for group in optimizer.param_groups]), "val_loss")
    scoring = options.pop("scoring", None) or make_scoring()
    return Learner(model, scoring, optimizer, rates, BestSoFar("train_loss", "min"), **options)  # type: ignore[arg-type]


def run_fit(
    learner: Learner,
    train: TensorSplit,
    *,
    epochs: int = 1,
    val: TensorSplit | None = None,
    records: object = None,
    stop: StopRequest | None = None,
) -> str:
    info = DataInfo("classification", "features", (train.inputs.shape[1],), 3, None, None, None)
    steps = -(-train.num_batches // learner.accumulate)
    plan = Plan(epochs, steps, epochs * steps)
    return fit(
        learner,
        DataSplits(train, val, None, info, ()),
        plan,
        records or NoRecords(),
        stop=stop or StopRequest(),
        emit=ignore,
    )  # type: ignore[arg-type]


@pytest.fixture
def lab() -> SimpleNamespace:
    """The pieces above under one name."""
    return SimpleNamespace(split=TensorSplit, scoring=make_scoring, learner=make_learner, fit=run_fit)


@pytest.fixture
def float64_data() -> tuple[Tensor, Tensor]:
    """103 samples of 7 features in 3 classes: with micro-batches of 10 and windows of 4 everything ends unevenly."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(103, 7, generator=generator, dtype=torch.float64), torch.randint(
        0, 3, (103,), generator=generator
    )


@pytest.fixture
def small_mlp() -> Callable[[], nn.Module]:
    """The same float64 network at every call."""

    def build() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(7, 16), nn.Tanh(), nn.Linear(16, 3)).double()

    return build
