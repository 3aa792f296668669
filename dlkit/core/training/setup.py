"""From a checked config to everything that a run needs, with every `auto` made plain."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace

import torch
from torch import nn

from dlkit.config import Config, KeyPath, LoadedConfig, Segments
from dlkit.core.components import ComponentError
from dlkit.core.data import DataInfo, DataSplits, build_data
from dlkit.core.devices import pick_device
from dlkit.core.distributed import ALONE, Sharing, World, build_replica
from dlkit.core.models import Arch, WeightsReport, build_model, enable_checkpointing, load_initial_weights, plan_arch
from dlkit.core.random_state import seed_everything
from dlkit.core.scoring import Precision, Scoring, build_loss, pick_precision
from dlkit.core.training.ema import EmaModel
from dlkit.core.training.fit import Plan
from dlkit.core.training.improvement import BestSoFar, EarlyStopping, pick_mode
from dlkit.core.training.learner import Learner, metric_columns
from dlkit.core.training.optimizers import build_optimizer, check_groups, freeze_matching
from dlkit.core.training.rates import build_learning_rates
from dlkit.core.training.resolving import replace_autos
from dlkit.core.training.several_processes import check_sharing, note_lr, spread_random_state, sync_norms
from dlkit.errors import ConfigError, UsageError
from dlkit.events import Emit, Note


@dataclass(frozen=True)
class Job:
    """A run, built and ready: `loaded.config` has no `auto` left that matters."""

    loaded: LoadedConfig
    device: torch.device
    data: DataSplits
    arch: Arch
    learner: Learner
    plan: Plan
    columns: tuple[str, ...]

    @property
    def config(self) -> Config:
        """The resolved config."""
        return self.loaded.config

    @property
    def world(self) -> World:
        """The processes that train."""
        return self.learner.world

    @property
    def split_sizes(self) -> dict[str, int]:
        """Samples by split, for the splits that are there."""
        splits = {"train": self.data.train, "val": self.data.val, "test": self.data.test}
        return {name: split.num_samples for name, split in splits.items() if split is not None}


def build_job(loaded: LoadedConfig, *, world: World = ALONE, emit: Emit) -> Job:
    """Build data, model, loss, optimizer and schedule, for this process of a world.

    Raises ConfigError at the key at fault, or DataError.
    """
    config = loaded.config
    device = pick_device(config.runtime.device, world)
    seed_everything(config.seed)
    with world.first_on_machine() if config.data.download else nullcontext():
        data = build_data(loaded, device=device, seed=config.seed, world=world, emit=emit)
    arch, model = _build_model(loaded, data.info, torch.device("cpu") if world.lockstep else device, world, emit)
    precision = pick_precision(config.train.amp, device)
    if precision.note:
        emit(Note(precision.note))
    check_sharing(loaded, model, world, precision)
    scoring = build_scoring(loaded, data, model, precision)
    if world.lockstep:
        scoring = replace(scoring, channels_last=False)  # weights are cut in the order in which they lie
    arrange_model(loaded, model, scoring, emit)
    sync_norms(loaded, model, world, emit)
    with at_section(loaded, "optimizer"):
        check_groups(config.optimizer, model)
    freeze_parameters(loaded, model, emit)
    _compile(loaded, model)
    plan = plan_steps(config, data.train.num_batches)
    columns = metric_columns(
        is_classification=scoring.is_classification, has_val=data.val is not None, has_ema=config.ema is not None
    )
    learner = build_learner(loaded, model, scoring, plan, columns, world=world)
    note_lr(config, world, emit)
    spread_random_state(config.seed, world)
    resolved = replace_autos(loaded, data, arch, learner, plan)
    return Job(replace(loaded, config=resolved), device, data, arch, learner, plan, tuple(columns))


@contextmanager
def at_section(loaded: LoadedConfig, *path: str | int) -> Iterator[None]:
    """Put a place to errors about a component: the key of its option where one is known, else the section."""
    try:
        yield
    except ConfigError:
        raise
    except UsageError as error:
        option = error.option if isinstance(error, ComponentError) else None
        below = [int(part) if part.isdigit() else part for part in option.split(".")] if option else []
        raise loaded.error((*path, *below), str(error), at="key" if below else "value") from error


def _build_model(
    loaded: LoadedConfig, info: DataInfo, device: torch.device, world: World, emit: Emit
) -> tuple[Arch, nn.Module]:
    section = loaded.config.model
    with at_section(loaded, "model"):
        arch = plan_arch(section, input_size=info.input_size, num_outputs=info.num_outputs)
        model = build_model(arch)
        if section.weights is not None:
            with world.first_on_machine():
                weights = load_initial_weights(model, arch, section.weights)
            emit(Note(_describe_weights(section.weights, weights)))
    return arch, model.to(device)


def _describe_weights(source: str, loaded: WeightsReport) -> str:
    parts = [f"{loaded.num_loaded} tensors from {source}"]
    if loaded.head:
        parts.append(f"new head, for another number of classes: {', '.join(loaded.head)}")
    if loaded.fitted:
        parts.append(f"fitted to the input channels: {', '.join(loaded.fitted)}")
    if loaded.ignored:
        parts.append(f"not used: {len(loaded.ignored)} tensors of auxiliary heads")
    return "; ".join(parts)


def build_scoring(loaded: LoadedConfig, data: DataSplits, model: nn.Module, precision: Precision) -> Scoring:
    """The config's loss, for the model in the memory layout that suits it. Raises ConfigError at the loss."""
    config = loaded.config
    with at_section(loaded, "loss"):
        loss = build_loss(config.loss, data.info, targets=data.train.sample_targets, device=precision.device)
    use_channels_last = _use_channels_last(config.train.channels_last, model, precision)
    return Scoring(loss, precision, data.info.task == "classification", use_channels_last and data.info.kind == "image")


def _use_channels_last(setting: bool | str, model: nn.Module, precision: Precision) -> bool:
    """`auto` is on where convolutions run faster in it: on CPUs (benchmarks/channels_last.py) and on CUDA in half precision."""
    if isinstance(setting, bool):
        return setting
    has_convolutions = any(isinstance(module, nn.Conv2d) for module in model.modules())
    is_faster = precision.device.type == "cpu" or (precision.device.type == "cuda" and precision.name != "fp32")
    return has_convolutions and is_faster


def arrange_model(loaded: LoadedConfig, model: nn.Module, scoring: Scoring, emit: Emit) -> None:
    """Memory layout and gradient checkpointing of the config; names and values of parameters stay."""
    if scoring.channels_last:
        model.to(memory_format=torch.channels_last)
    setting = loaded.config.train.gradient_checkpointing
    if setting:
        with at_section(loaded, "train", "gradient_checkpointing"):
            num_wrapped = enable_checkpointing(model, setting.segments if isinstance(setting, Segments) else setting)
        emit(Note(f"gradient checkpointing recomputes {num_wrapped} modules in the backward pass"))


def freeze_parameters(loaded: LoadedConfig, model: nn.Module, emit: Emit) -> None:
    """Turn off gradients where `optimizer.groups` says so, and report it."""
    if frozen := freeze_matching(model, loaded.config.optimizer.groups):
        emit(Note(f"frozen: {len(frozen)} parameter tensors ({frozen[0]} ... {frozen[-1]})"))


def _compile(loaded: LoadedConfig, model: nn.Module) -> None:
    setting = loaded.config.train.compile
    if setting:
        # in place, so that names in the state dict stay as they are
        model.compile(mode=setting if isinstance(setting, str) else None)


def plan_steps(config: Config, num_batches: int) -> Plan:
    """How long a run is, with so many micro-batches to an epoch."""
    steps_per_epoch = -(-num_batches // config.train.accumulate)
    total_steps = config.train.epochs * steps_per_epoch
    epochs = config.train.epochs
    if config.train.max_steps is not None and config.train.max_steps < total_steps:
        total_steps = config.train.max_steps
        epochs = -(-total_steps // steps_per_epoch)
    return Plan(
        epochs=epochs,
        steps_per_epoch=steps_per_epoch,
        total_steps=total_steps,
        eval_every=config.eval.every,
        save_every_epochs=config.checkpoint.every_epochs,
        save_every_steps=config.checkpoint.every_steps,
    )


def build_learner(
    loaded: LoadedConfig,
    model: nn.Module,
    scoring: Scoring,
    plan: Plan,
    columns: list[str],
    *,
    world: World = ALONE,
) -> Learner:
    """A new optimizer and schedule of the config around a model, with what decides best, early stopping and averaging.

    Raises ConfigError at the key at fault.
    """
    config = loaded.config
    section = config.ema
    ema = EmaModel(model, decay=section.decay, warmup=section.warmup, every=section.every) if section else None
    sharing = Sharing(world, scoring.precision.device, config.runtime)
    replica = build_replica(model, ema.model if ema else None, sharing)
    with at_section(loaded, "optimizer"):
        optimizer = build_optimizer(config.optimizer, model, num_processes=world.size)
    with at_section(loaded, "schedule"):
        rates = build_learning_rates(
            config.schedule, optimizer, total_steps=plan.total_steps, steps_per_epoch=plan.steps_per_epoch
        )
    metric = _pick_metric(loaded, columns)
    return Learner(
        model=model,
        scoring=scoring,
        optimizer=optimizer,
        rates=rates,
        best=BestSoFar(metric, pick_mode(metric, config.checkpoint.mode)),
        early_stopping=_build_early_stopping(loaded, columns),
        ema=ema,
        clip=config.train.clip,
        accumulate=config.train.accumulate,
        on_nan=config.train.on_nan,
        world=world,
        wrapped=replica,
        window_samples=config.data.batch_size * config.train.accumulate,
    )


def _pick_metric(loaded: LoadedConfig, columns: list[str]) -> str:
    metric = loaded.config.checkpoint.metric
    if metric == "auto":
        wanted = ("val_ema_accuracy", "val_accuracy", "val_ema_loss", "val_loss", "train_loss")
        return next(name for name in wanted if name in columns)
    return _known_metric(loaded, ("checkpoint", "metric"), metric, columns)


def _build_early_stopping(loaded: LoadedConfig, columns: list[str]) -> EarlyStopping | None:
    section = loaded.config.train.early_stop
    if section is None:
        return None
    metric = _known_metric(loaded, ("train", "early_stop", "metric"), section.metric, columns)
    return EarlyStopping(
        metric, pick_mode(metric, section.mode), section.patience, section.min_delta, section.min_epochs
    )


def _known_metric(loaded: LoadedConfig, path: KeyPath, metric: str, columns: list[str]) -> str:
    name = metric.replace("/", "_")
    known = [column for column in columns if column.startswith(("train_", "val_")) and column != "train_s"]
    if name not in known:
        raise loaded.error(path, f"this run has no metric {metric!r}; it has {', '.join(known)}")
    return name
