"""Every choice that a config leaves open, made once: what `auto` became goes from here into the learner, into what
`--print-config` shows, into the run folder and into the model file.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dlkit.config import Config, EarlyStop, Fitting, KeyPath, LoadedConfig, Normalization, OtherOptimizer
from dlkit.config import Data as DataSection
from dlkit.core.components import at_section
from dlkit.core.data import DataInfo, OpenedData, open_data, pick_eval_batch_size, pick_loader_options, planned_epochs
from dlkit.core.models import Arch
from dlkit.core.scoring import Precision, Scoring, build_loss
from dlkit.core.training.fit import Plan
from dlkit.core.training.improvement import BestSoFar, EarlyStopping, pick_mode
from dlkit.core.training.learner import metric_columns
from dlkit.core.training.optimizers import ResolvedOptimizer, pick_lr, resolve_optimizer
from dlkit.core.training.rates import SchedulerClass, pick_schedule, resolve_schedule, tabulate_scheduler
from dlkit.schedules import Constant, LrSchedule

MOST_STEP_LINES = 10_000


@dataclass(frozen=True)
class ResolvedLearner:
    """What a learner is built from besides its network. `columns` are those of metrics.csv."""

    scoring: Scoring
    plan: Plan
    columns: tuple[str, ...]
    optimizer: ResolvedOptimizer
    schedule: LrSchedule | SchedulerClass
    best: BestSoFar
    early_stopping: EarlyStopping | None


def resolve_learner(loaded: LoadedConfig, scoring: Scoring, *, num_batches: int, has_val: bool) -> ResolvedLearner:
    """Resolve the optimizer, the schedule and the metrics of a config, for so many micro-batches to an epoch.

    Raises ConfigError at the key at fault.
    """
    config = loaded.config
    plan = plan_steps(config, num_batches)
    columns = metric_columns(scoring.task, has_val=has_val, has_ema=config.ema is not None)
    with at_section(loaded, "optimizer"):
        optimizer = resolve_optimizer(config.optimizer, config.model.name)
    with at_section(loaded, "schedule"):
        schedule = resolve_schedule(config.schedule, total_steps=plan.total_steps, steps_per_epoch=plan.steps_per_epoch)
    metric = _pick_metric(loaded, columns, scoring.scores.traits.judging)
    best = BestSoFar(metric, pick_mode(metric, config.checkpoint.mode))
    early_stopping = _pick_early_stopping(loaded, columns)
    return ResolvedLearner(scoring, plan, tuple(columns), optimizer, schedule, best, early_stopping)


def plan_steps(config: Config, num_batches: int) -> Plan:
    """Returns how long a run is, with so many micro-batches to an epoch."""
    steps_per_epoch = -(-num_batches // config.train.accumulate)
    total_steps = config.train.epochs * steps_per_epoch
    if config.train.max_steps is not None:
        total_steps = min(total_steps, config.train.max_steps)
    return Plan(
        epochs=planned_epochs(config, num_batches),
        steps_per_epoch=steps_per_epoch,
        total_steps=total_steps,
        eval_every=config.eval.every,
        save_every_epochs=config.checkpoint.every_epochs,
        save_every_steps=config.checkpoint.every_steps,
    )


def _pick_metric(loaded: LoadedConfig, columns: list[str], judging: str) -> str:
    metric = loaded.config.checkpoint.metric
    if metric == "auto":
        wanted = (f"val_ema_{judging}", f"val_{judging}", "train_loss")
        return next(name for name in wanted if name in columns)
    return known_metric(loaded, ("checkpoint", "metric"), metric, columns)


def _pick_early_stopping(loaded: LoadedConfig, columns: list[str]) -> EarlyStopping | None:
    section = loaded.config.train.early_stop
    if section is None:
        return None
    metric = known_metric(loaded, ("train", "early_stop", "metric"), section.metric, columns)
    return EarlyStopping(
        metric, pick_mode(metric, section.mode), section.patience, section.min_delta, section.min_epochs
    )


def known_metric(loaded: LoadedConfig, path: KeyPath, metric: str, columns: Sequence[str]) -> str:
    """Returns the column of metrics.csv of this name; `val/loss` is val_loss. Raises ConfigError where a run has none such."""
    name = metric.replace("/", "_")
    known = [column for column in columns if column.startswith(("train_", "val_")) and column != "train_s"]
    if name not in known:
        raise loaded.error(path, f"this run has no metric {metric!r}; it has {', '.join(known)}")
    return name


def build_scoring(
    loaded: LoadedConfig,
    network: nn.Module,
    precision: Precision,
    *,
    info: DataInfo,
    targets: Callable[[], Tensor],
) -> Scoring:
    """Returns the config's loss, for the network in the memory layout that suits it. Raises ConfigError at the loss.

    `targets` returns those of training, for the weights of classes.
    """
    with at_section(loaded, "loss"):
        loss = build_loss(loaded.config.loss, info, targets=targets, device=precision.device)
    use_channels_last = _use_channels_last(loaded.config.train.channels_last, network, precision)
    return Scoring(loss, precision, info.task, use_channels_last and info.kind == "image", info)


LARGEST_CRASHING = 6  # channels


def _use_channels_last(setting: bool | str, network: nn.Module, precision: Precision) -> bool:
    """Returns the setting; `auto` is on where convolutions gain: on CPUs (benchmarks/channels_last.py), on CUDA in half precision."""
    if isinstance(setting, bool):
        return setting
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    if precision.device.type == "cpu":
        return bool(convolutions) and not any(_crashes_channels_last(layer) for layer in convolutions)
    return bool(convolutions) and precision.device.type == "cuda" and precision.name != "fp32"


def _crashes_channels_last(layer: nn.Conv2d) -> bool:
    """Whether the backward pass of a convolution may end the process: 1x1, with a stride, of up to 6 channels.

    A fault of torch's kernels for CPUs with AVX2 alone (seen with torch 2.15: a double free, or a loop without end), which no error
    can report. With larger numbers of channels it was not seen.
    """
    is_strided = set(layer.kernel_size) == {1} and set(layer.stride) != {1}
    return is_strided and layer.in_channels // layer.groups <= LARGEST_CRASHING


def plan_schedule(loaded: LoadedConfig, *, num_batches: int | None = None) -> tuple[LrSchedule, float]:
    """Returns the schedule that a config trains with and its base rate, without a network, for looking at it.

    `num_batches` of an epoch are counted from the data unless given. Raises ConfigError at the key at fault, or DataError.
    """
    config = loaded.config
    with at_section(loaded, "optimizer"):
        lr = pick_lr(config.optimizer, config.model.name)
    if num_batches is None:
        num_batches = open_data(loaded, seed=config.seed).plan.num_batches
    plan = plan_steps(config, num_batches)
    with at_section(loaded, "schedule"):
        picked = pick_schedule(config.schedule, total_steps=plan.total_steps, steps_per_epoch=plan.steps_per_epoch)
        if isinstance(picked, LrSchedule):
            return picked, lr
        unit = "epoch" if config.schedule.unit == "epoch" else "step"
        frame = LrSchedule(picked.name, Constant(), unit, picked.total_steps, plan.steps_per_epoch)
        table = tabulate_scheduler(picked.builder, picked.options, frame, base_lrs=[lr])
        held_from = picked.total_steps if picked.is_held else None
        return replace(table, total_steps=plan.total_steps, held_from=held_from), lr


def fill_autos(opened: OpenedData, info: DataInfo, arch: Arch, resolved: ResolvedLearner) -> Config:
    """Returns the config with every `auto` replaced that stands for a value; training from it repeats the run.

    `data.root`, `data.drop_last`, and without published weights `data.image_size` and `data.fitting`, stay: there `auto` is a rule that
    depends on the data set.
    """
    config, precision = opened.loaded.config, resolved.scoring.precision
    changes: dict[str, dict[str, Any]] = {
        "model": {
            "num_classes": info.num_outputs,
            "in_channels": arch.options.get("in_channels", info.input_size[0]),
        },
        "loss": {"name": resolved.scoring.loss.name},
        "optimizer": {"lr": resolved.optimizer.lr, "others": _fill_others(resolved.optimizer)},
        "schedule": {"unit": resolved.schedule.unit},
        "train": {
            "amp": "off" if precision.name == "fp32" else precision.name,
            "channels_last": resolved.scoring.channels_last,
            "early_stop": _fill_early_stop(config.train.early_stop, resolved.early_stopping),
        },
        "checkpoint": {"metric": resolved.best.metric, "mode": resolved.best.mode},
        "log": {"every": _pick_log_every(config, resolved.plan)},
        "runtime": {"device": str(precision.device)},
    }
    sections = {name: getattr(config, name).model_copy(update=values) for name, values in changes.items()}
    sections["data"] = _fill_data(opened, info, precision.device)
    return config.model_copy(update={**sections, "name": run_name(opened.loaded), "task": info.task})


def run_name(loaded: LoadedConfig) -> str:
    """Returns the name of the run folder: the config's, else that of its file, with `-` for what a name may not hold."""
    config = loaded.config
    if config.name != "auto":
        return config.name
    source = Path(loaded.locations.source)
    return re.sub(r"[^\w.-]+", "-", source.stem) if source.suffix in {".yaml", ".yml"} else "run"


def _fill_early_stop(section: EarlyStop | None, stopping: EarlyStopping | None) -> EarlyStop | None:
    if section is None or stopping is None:
        return None
    return section.model_copy(update={"metric": stopping.metric, "mode": stopping.mode})


def _fill_others(optimizer: ResolvedOptimizer) -> OtherOptimizer | None:
    if optimizer.others is None:
        return None
    section = optimizer.section.others or OtherOptimizer()
    return section.model_copy(update={"lr": optimizer.others.lr})


def _fill_data(opened: OpenedData, info: DataInfo, device: torch.device) -> DataSection:
    section = opened.loaded.config.data
    values: dict[str, Any] = {
        "normalize": Normalization(mean=list(info.mean), std=list(info.std)) if info.mean and info.std else "none",
        "eval_batch_size": pick_eval_batch_size(section),
        "standardize_target": info.target_mean is not None,
    }
    if opened.published is not None and section.image_size == "auto":
        values["image_size"] = list(opened.published.size)
    if info.fit is not None:
        values["fitting"] = Fitting(**{**asdict(info.fit), "resize_size": list(info.fit.resize_size)})
    if opened.is_in_memory:
        values |= {"cache": "memory", "num_workers": 0, "pin_memory": False, "persistent_workers": False}
    else:
        loader = pick_loader_options(section, device)
        values |= {"cache": "none", "num_workers": loader.num_workers, "pin_memory": loader.pin_memory}
        values["persistent_workers"] = loader.persistent_workers
    if section.cache == "disk":
        values["cache"] = "disk"
    return section.model_copy(update=values)


def _pick_log_every(config: Config, plan: Plan) -> int:
    if config.log.every != "auto":
        return config.log.every
    return -(-plan.total_steps // MOST_STEP_LINES)
