"""Everything up to two real steps and one evaluation batch, writing nothing."""

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from dlkit.config import LoadedConfig
from dlkit.core.data import class_shares
from dlkit.core.devices import describe_device, pick_threads, torch_settings
from dlkit.core.distributed import joined
from dlkit.core.evaluation import evaluate
from dlkit.core.models import SummaryRow, parameter_count, summarize
from dlkit.core.out_of_memory import explain_out_of_memory
from dlkit.core.training.folder import check_writable
from dlkit.core.training.preflight import check_first_batch
from dlkit.core.training.setup import Job, build_job
from dlkit.core.training.step import train_step
from dlkit.events import Emit, ignore
from dlkit.tasks import TRAITS

MOST_MASKS = 2000


@dataclass(frozen=True)
class OptimizerGroup:
    """A group of parameters of the optimizer: its peak learning rate, its decay and the numbers in it."""

    name: str
    lr: float
    weight_decay: float | None
    num_parameters: int


@dataclass(frozen=True)
class MaskClass:
    """A class of masks: its share of the pixels that count, and how many pictures have it."""

    name: str
    share: float
    num_pictures: int


@dataclass(frozen=True)
class TrainingMasks:
    """The classes of the masks of so many training pictures, and the share of all their pixels that are not counted."""

    classes: list[MaskClass]
    ignored_share: float
    num_pictures: int


@dataclass(frozen=True)
class DryRun:
    """What a run would do and cost. Learning rates are those of the first group; `memory_bytes` is the peak so far of the process
    (CPU) or of the device, None where the system does not tell; `masks` those of segmentation.
    """

    model: str
    layers: list[SummaryRow]
    groups: list[OptimizerGroup]
    num_parameters: int
    num_trainable: int
    device: str
    precision: str
    split_sizes: Mapping[str, int]
    steps_per_epoch: int
    total_steps: int
    first_lr: float
    peak_lr: float
    last_lr: float
    is_lr_planned: bool
    memory_bytes: int | None
    step_s: float
    losses: list[float]
    estimate_s: float
    masks: TrainingMasks | None


def run_dry(loaded: LoadedConfig, *, out: Path | None = None, emit: Emit = ignore) -> DryRun:
    """Build and check everything a run needs, and measure two steps. Raises what the run would raise before its third step."""
    runtime = loaded.config.runtime
    check_writable(out or Path(runtime.out))
    with (
        joined(runtime) as world,
        torch_settings(threads=pick_threads(runtime.threads, world), deterministic=runtime.deterministic),
        explain_out_of_memory(loaded.config),
    ):
        job = build_job(loaded, world=world, emit=emit if world.is_main else ignore)
        check_first_batch(job.learner, job.data, loaded)
        layers = summarize(job.learner.model, job.data.info.input_size)
        planned = _planned_lrs(job)
        losses, step_s = _two_steps(job)
        eval_s = _one_eval_batch(job)
        return _describe(job, layers, planned, losses, step_s=step_s, eval_s=eval_s)


def _planned_lrs(job: Job) -> list[float]:
    """Returns the rate of the first group at every step; of a torch scheduler or a plateau only the first is known."""
    rates, optimizer = job.learner.rates, job.learner.optimizer
    return [rates.set(optimizer, step)[0] for step in range(job.plan.total_steps)]


def _two_steps(job: Job) -> tuple[list[float], float]:
    """Returns the losses of two steps, and the seconds that the second took."""
    learner = job.learner
    learner.set_training_mode()
    batches = job.data.train.batches()
    losses: list[float] = []
    seconds = 0.0
    for _ in range(min(2, job.plan.total_steps)):
        started = time.monotonic()
        window = min(learner.accumulate, job.data.train.num_batches - learner.position.batch)
        if window == 0:
            break
        losses.append(train_step(learner, islice(batches, window)).loss.item())
        seconds = time.monotonic() - started
    return losses, seconds


def _one_eval_batch(job: Job) -> float:
    """Seconds of one evaluation batch; 0 without a validation split."""
    if job.data.val is None:
        return 0.0
    started = time.monotonic()
    evaluate(job.learner.model, job.data.val, job.learner.scoring, most_batches=1, world=job.world)
    return time.monotonic() - started


def _describe(
    job: Job, layers: list[SummaryRow], lrs: list[float], losses: list[float], *, step_s: float, eval_s: float
) -> DryRun:
    total, trainable = parameter_count(job.learner.model)
    val_batches = job.data.val.num_batches if job.data.val else 0
    num_evals = -(-job.plan.epochs // job.plan.eval_every)
    return DryRun(
        model=job.arch.name,
        layers=layers,
        groups=[_group_row(group) for group in job.learner.optimizer.param_groups],
        num_parameters=total,
        num_trainable=trainable,
        device=describe_device(job.device),
        precision=job.learner.scoring.precision.name,
        split_sizes=job.split_sizes,
        steps_per_epoch=job.plan.steps_per_epoch,
        total_steps=job.plan.total_steps,
        first_lr=lrs[0],
        peak_lr=max(lrs),
        last_lr=lrs[-1],
        is_lr_planned=len(set(lrs)) > 1,
        memory_bytes=_peak_memory(job.device),
        step_s=step_s,
        losses=losses,
        estimate_s=step_s * job.plan.total_steps + eval_s * val_batches * num_evals / job.world.size,
        masks=_training_masks(job) if TRAITS[job.data.info.task].has_maps and job.world.is_main else None,
    )


def _training_masks(job: Job) -> TrainingMasks:
    info = job.data.info
    found = class_shares(job.training, info.num_outputs, most=MOST_MASKS)
    counted = max(1, int(found.pixels.sum()))
    rows = zip(info.class_names, (found.pixels.double() / counted).tolist(), found.pictures.tolist(), strict=True)
    ignored_share = found.num_ignored / max(1, found.num_ignored + int(found.pixels.sum()))
    return TrainingMasks([MaskClass(*row) for row in rows], ignored_share, found.num_pictures)


def _group_row(group: Mapping[str, Any]) -> OptimizerGroup:
    count = sum(parameter.numel() for parameter in group["params"])
    return OptimizerGroup(group["name"], group["initial_lr"], group.get("weight_decay"), count)


def _peak_memory(device: torch.device) -> int | None:
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    try:
        import resource
    except ImportError:  # on Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
