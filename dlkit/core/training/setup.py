"""From a config to everything that a run needs. What the config leaves open is chosen in resolving.py; here it is built."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from dlkit.config import Config, LoadedConfig
from dlkit.core.components import at_section
from dlkit.core.data import (
    DataInfo,
    DataSplits,
    Fingerprint,
    OpenedData,
    PublishedInput,
    Subset,
    class_shares,
    fingerprint,
    hash_key,
    load_data,
    measure_data,
    open_data,
)
from dlkit.core.devices import pick_device, pick_threads, torch_settings
from dlkit.core.distributed import ALONE, Sharing, World, build_replica, joined
from dlkit.core.models import (
    Arch,
    WeightsReport,
    build_model,
    build_on_meta,
    enable_checkpointing,
    load_initial_weights,
    plan_arch,
)
from dlkit.core.opening import weights_input
from dlkit.core.random_state import seed_everything
from dlkit.core.scoring import Precision, pick_precision
from dlkit.core.training.distillation import Distillation, open_distillation
from dlkit.core.training.ema import EmaModel
from dlkit.core.training.fit import Plan
from dlkit.core.training.learner import Learner
from dlkit.core.training.optimizers import build_optimizer, check_groups, freeze_matching, note_rates
from dlkit.core.training.rates import build_learning_rates
from dlkit.core.training.resolving import ResolvedLearner, build_scoring, fill_autos, known_metric, resolve_learner
from dlkit.core.training.sharing import check_sharing, check_whole_matrices, sync_norms
from dlkit.errors import ConfigError
from dlkit.events import Emit, Note, ignore
from dlkit.quantities import counted
from dlkit.tasks import TRAITS


@dataclass(frozen=True)
class Job:
    """A run, built and ready: `loaded.config` has no `auto` left that matters. `training` are the samples before any transform."""

    loaded: LoadedConfig
    device: torch.device
    data: DataSplits
    arch: Arch
    learner: Learner
    plan: Plan
    columns: tuple[str, ...]
    fingerprint: Fingerprint
    training: Subset

    @property
    def config(self) -> Config:
        """The resolved config."""
        return self.loaded.config

    @property
    def world(self) -> World:
        """The processes that train."""
        return self.learner.world

    @property
    def teacher_digest(self) -> str | None:
        """The SHA-256 of the file of the teacher, None without one."""
        return self.learner.distillation.teacher.digest if self.learner.distillation else None

    @property
    def split_sizes(self) -> dict[str, int]:
        """Samples by split, for the splits that are there."""
        splits = {"train": self.data.train, "val": self.data.val, "test": self.data.test}
        return {name: split.num_samples for name, split in splits.items() if split is not None}


def build_job(loaded: LoadedConfig, *, world: World = ALONE, emit: Emit) -> Job:
    """Build data, network, loss, optimizer and schedule, for this process of a world.

    Raises ConfigError at the key at fault, or DataError.
    """
    config = loaded.config
    device = pick_device(config.runtime.device, world)
    seed_everything(config.seed)
    opened = open_data(loaded, seed=config.seed, published=_published(loaded), world=world)
    data = load_data(opened, device=device, world=world, emit=emit)
    arch = _plan_network(loaded, data.info)
    network = _build_network(loaded, arch, data.info, world, emit).to(torch.device("cpu") if world.lockstep else device)
    resolved = _resolve(opened, data.info, network, device=device, world=world, emit=emit)
    _compile(loaded, network)
    distillation = open_distillation(loaded, data.info, resolved.scoring, emit)
    learner = build_learner(loaded, network, resolved, world=world, distillation=distillation)
    _spread_random_state(config.seed, world)
    filled = replace(loaded, config=fill_autos(opened, data.info, arch, resolved))
    return Job(
        filled,
        device,
        data,
        arch,
        learner,
        resolved.plan,
        resolved.columns,
        fingerprint(opened.subsets, opened.source.weights),
        opened.subsets.train,
    )


def resolve_config(loaded: LoadedConfig, *, emit: Emit = ignore) -> Config:
    """Returns the config with every `auto` replaced by what it becomes for these data on this machine.

    Only what an `auto` depends on is read and built: samples for statistics, and the network without its weights.
    Raises ConfigError at the key at fault, or DataError.
    """
    config = loaded.config
    with joined(config.runtime) as world, torch_settings(threads=pick_threads("auto", world)):
        emit = emit if world.is_main else ignore
        device = pick_device(config.runtime.device, world)
        opened = open_data(loaded, seed=config.seed, published=_published(loaded), world=world)
        info = measure_data(opened, device=device, emit=emit)
        arch = _plan_network(loaded, info)
        with at_section(loaded, "model"):
            # a class of the user's own may compute with its weights while it is built
            build = build_model if arch.registry == "user" else build_on_meta
            network = build(arch, input_size=info.input_size)
        return fill_autos(opened, info, arch, _resolve(opened, info, network, device=device, world=world, emit=emit))


def _published(loaded: LoadedConfig) -> PublishedInput | None:
    with at_section(loaded, "model"):
        return weights_input(loaded.config.model)


def _plan_network(loaded: LoadedConfig, info: DataInfo) -> Arch:
    with at_section(loaded, "model"):
        return plan_arch(loaded.config.model, input_size=info.input_size, num_outputs=info.num_outputs)


def _build_network(loaded: LoadedConfig, arch: Arch, info: DataInfo, world: World, emit: Emit) -> nn.Module:
    source = loaded.config.model.weights
    with at_section(loaded, "model"):
        network = build_model(arch, input_size=info.input_size)
        if source is not None:
            with world.first_on_machine():
                weights = load_initial_weights(network, arch, source)
            emit(Note(_describe_weights(source, weights)))
    return network


def _describe_weights(source: str, loaded: WeightsReport) -> str:
    return f"{counted(loaded.num_loaded, 'tensor')} from {source}" + (f"; {loaded.words}" if loaded.words else "")


def _resolve(
    opened: OpenedData, info: DataInfo, network: nn.Module, *, device: torch.device, world: World, emit: Emit
) -> ResolvedLearner:
    """Make every choice that is left, arrange the network for it in place, and report what is not plain."""
    loaded = opened.loaded
    precision = pick_noted_precision(loaded, device, emit)
    check_sharing(loaded, network, world, precision)
    train = opened.subsets.train

    def targets() -> Tensor:
        return class_shares(train, info.num_outputs).pixels if TRAITS[info.task].has_maps else train.targets

    scoring = build_scoring(loaded, network, precision, info=info, targets=targets)
    if world.lockstep:
        scoring = replace(scoring, channels_last=False)  # weights are cut in the order in which they lie
    arrange_network(loaded, network, channels_last=scoring.channels_last, emit=emit)
    sync_norms(loaded, network, world, emit)
    with at_section(loaded, "optimizer"):
        check_groups(loaded.config.optimizer, network)
    freeze_parameters(loaded, network, emit)
    has_val = opened.subsets.val is not None
    resolved = resolve_learner(loaded, scoring, num_batches=opened.plan.num_batches, has_val=has_val)
    resolved = replace(resolved, optimizer=resolved.optimizer.with_depths(network, info.input_size))
    check_whole_matrices(loaded, resolved.optimizer, world)
    note_rates(resolved.optimizer, world, emit)
    return resolved


def pick_noted_precision(loaded: LoadedConfig, device: torch.device, emit: Emit) -> Precision:
    """Returns the precision to train in, and report why it is not what was asked for, if so."""
    precision = pick_precision(loaded.config.train.amp, device)
    if precision.note:
        emit(Note(precision.note))
    return precision


def arrange_network(
    loaded: LoadedConfig, network: nn.Module, *, channels_last: bool, is_changed: bool = False, emit: Emit
) -> None:
    """Apply memory layout and gradient checkpointing, in place; names and values of parameters stay.

    A network that was changed since the config was written may have no part left for checkpointing; that is only noted.
    """
    if channels_last:
        network.to(memory_format=torch.channels_last)
    setting = loaded.config.train.gradient_checkpointing
    if setting:
        try:
            with at_section(loaded, "train", "gradient_checkpointing"):
                num_pieces = enable_checkpointing(network, setting)
        except ConfigError as error:
            if not is_changed:
                raise
            emit(Note(f"no gradient checkpointing: {error.problems[0].message}"))
        else:
            emit(
                Note(
                    f"gradient checkpointing recomputes {counted(num_pieces, 'part')} of the network in the backward pass"
                )
            )


def freeze_parameters(loaded: LoadedConfig, network: nn.Module, emit: Emit) -> None:
    """Turn off gradients where `optimizer.groups` says so, and report it."""
    if frozen := freeze_matching(network, loaded.config.optimizer.groups):
        emit(Note(f"frozen: {len(frozen)} parameter tensors ({frozen[0]} ... {frozen[-1]})"))


def _compile(loaded: LoadedConfig, network: nn.Module) -> None:
    setting = loaded.config.train.compile
    if setting:
        # in place, so that names in the state dict stay as they are
        network.compile(mode=setting if isinstance(setting, str) else None)


def build_learner(
    loaded: LoadedConfig,
    network: nn.Module,
    resolved: ResolvedLearner,
    *,
    world: World = ALONE,
    distillation: Distillation | None = None,
) -> Learner:
    """Build a new optimizer, learning rates and moving average around a network. Raises ConfigError at the key at fault."""
    config = loaded.config
    section = config.ema
    ema = EmaModel(network, decay=section.decay, warmup=section.warmup, every=section.every) if section else None
    sharing = Sharing(world, resolved.scoring.precision.device, config.runtime)
    replica = build_replica(network, ema.model if ema else None, sharing)
    with at_section(loaded, "optimizer"):
        optimizer = build_optimizer(resolved.optimizer, network, num_processes=world.size)
    with at_section(loaded, "schedule"):
        rates = build_learning_rates(resolved.schedule, optimizer, metric=config.schedule.metric.replace("/", "_"))
    if rates.metric is not None:
        known_metric(loaded, ("schedule", "metric"), rates.metric, resolved.columns)
    info = resolved.scoring.info
    # of maps, pixels: gradients that are larger by so many would overflow in fp16
    per_sample = math.prod(info.input_size[1:]) if info and TRAITS[info.task].has_maps else 1
    return Learner(
        model=network,
        scoring=resolved.scoring,
        optimizer=optimizer,
        rates=rates,
        best=resolved.best,
        early_stopping=resolved.early_stopping,
        ema=ema,
        clip=config.train.clip,
        accumulate=config.train.accumulate,
        on_nan=config.train.on_nan,
        world=world,
        distillation=distillation,
        wrapped=replica,
        window_weight=config.data.batch_size * config.train.accumulate * per_sample,
    )


def _spread_random_state(seed: int, world: World) -> None:
    """Random numbers of its own for each process, for dropout; weights were made from the same on all."""
    if world.rank > 0:
        seed_everything(hash_key(seed, world.rank) >> 1)
