"""The learning-rate range test: train with a rate that rises from step to step, and look where the loss falls and breaks."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import count, islice
from typing import Any

from torch.optim import Optimizer

from dlkit.config import LoadedConfig
from dlkit.config import Schedule as ScheduleSection
from dlkit.core.data import Batch, DataSplits, Split
from dlkit.core.devices import describe_device, torch_settings
from dlkit.core.out_of_memory import explain_out_of_memory
from dlkit.core.random_state import seed_everything
from dlkit.core.stopping import StopRequest, watch_signals
from dlkit.core.training.learner import Learner
from dlkit.core.training.preflight import check_first_batch
from dlkit.core.training.preserved_state import preserved_state
from dlkit.core.training.setup import Job, build_job
from dlkit.core.training.step import StepResult, train_step
from dlkit.errors import Diverged
from dlkit.events import Emit, Sweeping, Throttle, ignore
from dlkit.schedules import DivergenceTest, Ended, RangeTest, Smoother, Sweep, SweepPlan

MOST_SKIPS = 30  # more than a loss scaler takes to come down from its first value


class SweepRates:
    """The rates of a sweep, times what each group has of the base rate; the momentum stays as it is."""

    metric = None  # there is no evaluation

    def __init__(self, plan: SweepPlan, shares: list[float]) -> None:
        self._plan, self._shares = plan, shares

    def set(self, optimizer: Optimizer, step: int) -> list[float]:
        """Put the rates of this step into the optimizer's groups, and return them."""
        lrs = [self._plan.lrs[step] * share for share in self._shares]
        for group, lr in zip(optimizer.param_groups, lrs, strict=True):
            group["lr"] = lr
        return lrs

    def after_step(self) -> None:
        """Do nothing: the rate follows from the step."""

    def observe(self, metric: float) -> None:
        """Do nothing."""

    def state_dict(self) -> dict[str, Any]:
        """Returns nothing: there is no state."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Do nothing: there is no state."""


@dataclass(frozen=True)
class FoundRate:
    """A range test with what was tested, in words. `notes` begin with what the config adds to those of the test.

    `signal_number` is that of the signal that stopped it, or None.
    """

    test: RangeTest
    model: str
    data: str
    optimizer: str
    device: str
    num_epochs: float
    notes: tuple[str, ...]
    signal_number: int | None


def run_range_test(loaded: LoadedConfig, plan: SweepPlan | None = None, *, emit: Emit = ignore) -> FoundRate:
    """Test the learning rates of a config: its model, data, loss, optimizer, clipping, accumulation and precision.

    The schedule of the config takes no part. Writes nothing. The first SIGINT, SIGTERM or SIGHUP ends the test with what was
    found, the second does what it would have done without us. Raises ConfigError at the key at fault, or DataError.
    """
    runtime, stop = loaded.config.runtime, StopRequest()
    threads = None if runtime.threads == "auto" else runtime.threads
    with torch_settings(threads=threads, deterministic=runtime.deterministic), explain_out_of_memory(loaded.config):
        job = build_job(_without_schedule(loaded), emit=emit)
        check_first_batch(job.learner, job.data, loaded)
        base_lr = job.config.optimizer.lr
        assert base_lr != "auto"
        seed = job.config.seed
        with watch_signals(stop):
            test = find_learning_rate(job.learner, job.data, plan, base_lr=base_lr, seed=seed, stop=stop, emit=emit)
    return _describe(job, loaded, test, stop.signal_number)


def _without_schedule(loaded: LoadedConfig) -> LoadedConfig:
    constant = loaded.config.model_copy(update={"schedule": ScheduleSection(name="constant"), "ema": None})
    # the metric of the best epoch may be one of the moving average, which a sweep has no use for
    checkpoint = constant.checkpoint.model_copy(update={"metric": "auto"})
    train = constant.train.model_copy(update={"early_stop": None})
    return replace(loaded, config=constant.model_copy(update={"checkpoint": checkpoint, "train": train}))


def _describe(job: Job, loaded: LoadedConfig, test: RangeTest, signal_number: int | None) -> FoundRate:
    notes = []
    if not job.config.data.shuffle and test.plan.repeats > 1:
        notes.append("data.shuffle is off: every repeat saw the samples in the same order")
    if "max_lr" in loaded.config.schedule.options:
        notes.append("this config's peak is schedule.max_lr, so the rate belongs there")
    return FoundRate(
        test=test,
        model=job.arch.name,
        data=job.config.data.name,
        optimizer=job.config.optimizer.name,
        device=describe_device(job.device),
        num_epochs=test.plan.steps / job.plan.steps_per_epoch,
        notes=(*notes, *test.notes),
        signal_number=signal_number,
    )


def find_learning_rate(
    learner: Learner,
    data: DataSplits,
    plan: SweepPlan | None = None,
    *,
    base_lr: float | None = None,
    seed: int = 0,
    stop: StopRequest | None = None,
    emit: Emit = ignore,
) -> RangeTest:
    """Sweep over the rates of the plan on the training split, `plan.repeats` times, and leave the learner as it was.

    Every repeat begins with the same weights and optimizer state, on epochs of its own, so with samples in another order, and
    with random state from seed + repeat. Groups keep their ratio to `base_lr`, by default the greatest rate among them. When a
    stop is asked for, the test ends with what it has. An exception, also KeyboardInterrupt, comes through after everything is
    restored.
    """
    plan = plan or SweepPlan()
    shares = _group_shares(learner.optimizer, base_lr)
    epochs_of_sweep = -(-plan.steps * learner.accumulate // data.train.num_batches)
    sweeps: list[Sweep] = []
    for repeat in range(plan.repeats):
        if stop is not None and stop.is_due:
            break
        with preserved_state(learner):
            seed_everything(seed + repeat)
            learner.rates = SweepRates(plan, shares)
            learner.set_training_mode()
            windows = iterate_windows(data.train, learner.accumulate, first_epoch=repeat * epochs_of_sweep)
            sweeps.append(_sweep(learner, plan, windows, repeat=repeat, stop=stop, emit=emit))
    return RangeTest(plan, tuple(sweeps))


def _group_shares(optimizer: Optimizer, base_lr: float | None) -> list[float]:
    lrs = [float(group.get("initial_lr", group["lr"])) for group in optimizer.param_groups]
    base_lr = base_lr or max(lrs)
    return [lr / base_lr if base_lr else 1.0 for lr in lrs]


def iterate_windows(split: Split, accumulate: int, *, first_epoch: int = 0) -> Iterator[Iterator[Batch]]:
    """Yields the micro-batches of one step after another, epoch after epoch without end; no window spans two epochs."""
    for epoch in count(first_epoch):
        batches = split.batches(epoch)
        for start in range(0, split.num_batches, accumulate):
            yield islice(batches, min(accumulate, split.num_batches - start))


def _sweep(
    learner: Learner,
    plan: SweepPlan,
    windows: Iterator[Iterator[Batch]],
    *,
    repeat: int,
    stop: StopRequest | None,
    emit: Emit,
) -> Sweep:
    throttle = Throttle()
    smoother, divergence = Smoother(plan.smoothing), DivergenceTest(plan.threshold)
    losses: list[float] = []

    def end(how: Ended) -> Sweep:
        return Sweep(plan, tuple(losses), how)

    while len(losses) < plan.steps:
        if stop is not None and stop.is_due:
            return end("interrupted")
        result = _try_step(learner, windows)
        if result is None:
            return end("not_finite")
        losses.append(float(result.loss))
        smoothed = smoother.add(losses[-1])
        if divergence.is_over(smoothed):
            return end("diverged")
        if throttle.is_due():
            step = len(losses)
            emit(Sweeping(repeat + 1, plan.repeats, step, plan.steps, plan.lrs[step - 1], smoothed))
    return end("finished")


def _try_step(learner: Learner, windows: Iterator[Iterator[Batch]]) -> StepResult | None:
    """Make one update, on further windows while the loss scaler comes down; None when loss or gradients stay not finite."""
    for _ in range(MOST_SKIPS):
        try:
            result = train_step(learner, next(windows))
        except Diverged:
            return None
        if result.is_applied:
            return result
    return None
