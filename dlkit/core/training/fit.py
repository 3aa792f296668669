"""The one training loop. Quantization-aware training and fine-tuning after pruning call it too; nobody forks it."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from dlkit.core.data import Batch, DataSplits, Split
from dlkit.core.distributed import average_statistics
from dlkit.core.evaluation import evaluate, nothing_counts
from dlkit.core.metric_rows import Row
from dlkit.core.stopping import StopRequest
from dlkit.core.training.learner import Learner
from dlkit.core.training.step import StepResult, train_step
from dlkit.errors import DataError, LostLoader
from dlkit.events import Emit, EpochDone, Progress, Throttle


@dataclass(frozen=True)
class Plan:
    """How long to train and what to do when; steps are optimizer steps."""

    epochs: int
    steps_per_epoch: int
    total_steps: int
    eval_every: int = 1
    save_every_epochs: int = 1
    save_every_steps: int | None = None


class Records(Protocol):
    """What a run leaves behind; see folder/records.py. Tests and fine-tuning pass `NoRecords`."""

    def add_step(self, learner: Learner, result: StepResult) -> None:
        """Record one optimizer step."""

    def add_epoch(self, learner: Learner, row: Row) -> None:
        """Record one epoch's metrics."""

    def save(self, learner: Learner, *, is_best: bool = False) -> None:
        """Write a checkpoint; `is_best` says that it holds the best weights so far."""


class NoRecords:
    """Keeps nothing."""

    def add_step(self, learner: Learner, result: StepResult) -> None:
        """Do nothing."""

    def add_epoch(self, learner: Learner, row: Row) -> None:
        """Do nothing."""

    def save(self, learner: Learner, *, is_best: bool = False) -> None:
        """Do nothing."""


def fit(learner: Learner, data: DataSplits, plan: Plan, records: Records, *, stop: StopRequest, emit: Emit) -> str:
    """Train from where the learner stands to the end of the plan.

    Returns why it ended: `finished`, `early_stopped`, `max_time` or `interrupted`. In each case the newest state is saved.
    Raises Diverged when the loss is not finite.
    """
    while not is_over(learner, plan):
        started = time.monotonic()
        _train_epoch(learner, data, plan, records, stop=stop, emit=emit)
        learner.train_s += time.monotonic() - started
        row = None if stop.is_due else _evaluate_epoch(learner, data, plan, stop=stop, emit=emit)
        if row is None:
            records.save(learner)
            return stop.status
        is_cut = learner.position.batch < data.train.num_batches
        _check_counted(learner, row, "val" if is_cut else "train", "val")
        _finish_epoch(learner, plan, records, row, emit, is_cut=is_cut)
    return "early_stopped" if _is_stopped(learner) and learner.position.epoch < plan.epochs else "finished"


def is_over(learner: Learner, plan: Plan) -> bool:
    """Returns whether nothing is left to train: the plan is done, or early stopping has ended it. An epoch that was begun and has
    no row of metrics yet, as after a stop before its validation, is left.
    """
    position = learner.position
    if position.batch > 0:
        return False
    return _is_stopped(learner) or position.epoch >= plan.epochs or position.step >= plan.total_steps


def has_ended(learner: Learner, plan: Plan) -> bool:
    """Returns whether a run that is resumed had come to its end; an epoch cut short is then only evaluated once more."""
    return is_over(learner, plan) or (learner.position.is_evaluated and learner.position.step >= plan.total_steps)


def _is_stopped(learner: Learner) -> bool:
    return learner.early_stopping is not None and learner.early_stopping.is_over


def _train_epoch(
    learner: Learner, data: DataSplits, plan: Plan, records: Records, *, stop: StopRequest, emit: Emit
) -> None:
    position = learner.position
    learner.set_training_mode()
    batches = _batches(data.train, position.epoch, position.batch, stop)
    started, samples, throttle = time.monotonic(), position.samples, Throttle()
    while position.batch < data.train.num_batches and position.step < plan.total_steps and not stop.is_due:
        window_size = min(learner.accumulate, data.train.num_batches - position.batch)
        position.is_evaluated = False
        result = train_step(learner, islice(batches, window_size), stop)
        records.add_step(learner, result)
        if stop.take_save_request() or (plan.save_every_steps and position.step % plan.save_every_steps == 0):
            records.save(learner)
        if throttle.is_due():
            samples_per_s = (position.samples - samples) / max(time.monotonic() - started, 1e-9)
            emit(_progress(learner, plan, result, samples_per_s))


def _batches(split: Split, epoch: int, start: int, stop: StopRequest) -> Iterator[Batch]:
    """Yield the micro-batches of an epoch. When processes that read them go while a stop is asked for, as what stops a run may
    stop all of it at once, this process reads what the step that is being made still needs.
    """
    number = start
    try:
        for batch in split.batches(epoch, start):
            yield batch
            number += 1
    except LostLoader:
        if not stop.is_asked:
            raise
        yield from split.without_workers().batches(epoch, number)


def _progress(learner: Learner, plan: Plan, result: StepResult, samples_per_s: float) -> Progress:
    position, means = learner.position, learner.meter.read()
    return Progress(
        epoch=position.epoch + 1,
        epochs=plan.epochs,
        step=position.step,
        total_steps=plan.total_steps,
        step_in_epoch=-(-position.batch // learner.accumulate),
        steps_in_epoch=plan.steps_per_epoch,
        loss=means["loss"],
        metric=(running := learner.scoring.scores.traits.running),
        value=means[running],
        lr=result.lrs[0],
        samples_per_s=samples_per_s,
    )


def _evaluate_epoch(learner: Learner, data: DataSplits, plan: Plan, *, stop: StopRequest, emit: Emit) -> Row | None:
    """Returns the epoch's row of metrics, or None when a stop was asked for in the middle of the validation."""
    row: Row = {
        "epoch": learner.position.epoch + 1,
        "step": learner.position.step,
        "lr": learner.optimizer.param_groups[0]["lr"],
    }
    row |= {f"train_{name}": value for name, value in learner.meter.read(learner.world).items()}
    is_last = learner.position.epoch + 1 == plan.epochs or learner.position.step >= plan.total_steps
    if data.val is not None and (is_last or (learner.position.epoch + 1) % plan.eval_every == 0):
        models = {"val": learner.model} | ({"val_ema": learner.ema.model} if learner.ema else {})
        for prefix, model in models.items():
            average_statistics(model, learner.world)
            means = evaluate(
                model, data.val, learner.scoring, stop=stop, world=learner.world, emit=emit, watch=learner.watch
            )
            if means is None:
                return None
            row |= {f"{prefix}_{name}": value for name, value in means.items()}
    return row


def _check_counted(learner: Learner, row: Row, *splits: str) -> None:
    """Raise DataError for a split of which nothing counts, which means over it tell by being none."""
    traits = learner.scoring.scores.traits
    for split in splits:
        value = row.get(f"{split}_{traits.running}")
        if traits.outputs == "classes" and value is not None and math.isnan(value):
            raise DataError(nothing_counts(traits, split))


def _finish_epoch(learner: Learner, plan: Plan, records: Records, row: Row, emit: Emit, *, is_cut: bool) -> None:
    """Take the row in, save and report. An epoch that the number of steps cuts short is saved unfinished, so that a longer run can
    train its rest.
    """
    position, epoch = learner.position, learner.position.epoch + 1
    is_best = _is_best(learner, row, epoch)
    if is_cut:
        position.is_evaluated = True
        records.save(learner, is_best=is_best)
    position.epoch, position.batch, position.is_evaluated = epoch, 0, False
    learner.meter.reset()
    followed = learner.rates.metric
    if followed is not None and (value := row.get(followed)) is not None:
        learner.rates.observe(value)
    early = learner.early_stopping
    if early is not None and (value := row.get(early.metric)) is not None:
        early.observe(value, epoch)
    row |= {"train_s": round(learner.train_s, 3)}
    learner.history.append(row)
    records.add_epoch(learner, row)
    if not is_cut and (is_best or is_over(learner, plan) or epoch % plan.save_every_epochs == 0):
        records.save(learner, is_best=is_best)
    emit(EpochDone(epoch, plan.epochs, row, is_best))


def _is_best(learner: Learner, row: Row, epoch: int) -> bool:
    value = row.get(learner.best.metric)
    return value is not None and learner.best.observe(value, epoch)
