"""Training on a network that exists already, after pruning or for quantization, through the one loop.

Data, loss, kind of optimizer, weight decay, accumulation, clipping and precision are those of a config; the schedule, and
what is kept, are those of fine-tuning. Nothing is written.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from dlkit.config import Distill, LoadedConfig
from dlkit.core.data import DataInfo, DataSplits, build_data
from dlkit.core.devices import describe_device, torch_settings
from dlkit.core.evaluation import evaluate
from dlkit.core.metric_rows import Row
from dlkit.core.modelfile import ModelSpec
from dlkit.core.models import disable_checkpointing, parameter_count
from dlkit.core.out_of_memory import explain_out_of_memory
from dlkit.core.random_state import seeded
from dlkit.core.scoring import Scoring
from dlkit.core.stopping import StopRequest, watch_signals
from dlkit.core.training.distillation import Distillation, set_up_distillation
from dlkit.core.training.fine_tuning_config import derive_tuning_config, with_length
from dlkit.core.training.fit import NoRecords, Plan, Records, fit
from dlkit.core.training.learner import Learner
from dlkit.core.training.preflight import check_first_batch
from dlkit.core.training.resolving import build_scoring, resolve_learner
from dlkit.core.training.setup import (
    arrange_network,
    build_learner,
    freeze_parameters,
    pick_noted_precision,
)
from dlkit.core.training.step import StepResult
from dlkit.core.training.teacher import as_teacher
from dlkit.errors import Interrupted, UsageError
from dlkit.events import Emit, Note, RunStarted


@dataclass(frozen=True)
class FineTuning:
    """A network with all that is needed to train it on; `loaded` is the config as it is used here."""

    learner: Learner
    data: DataSplits
    plan: Plan
    loaded: LoadedConfig


def build_fine_tuning(
    loaded: LoadedConfig,
    network: nn.Module,
    info: DataInfo,
    *,
    epochs: float,
    lr: float,
    device: torch.device,
    teacher: nn.Module | None = None,
    emit: Emit,
) -> FineTuning:
    """Build the config's data, loss and a new optimizer around a network, which is moved to the device and trained in place.

    `info` is what the network was built for: classes are matched by name and inputs normalized as before. `epochs` may
    be a fraction of one. `lr` is the peak; it rises over the first 5 % of the steps and
    falls to zero as a cosine. `teacher`, a network of the same inputs and outputs, which is changed in place, distills into it. Moving
    average, early stopping, time limit, compilation and the teacher of the config are left out.
    Raises ConfigError at the key at fault, DataError when the data do not fit the network, UsageError for `epochs` or `lr`
    that are not positive.
    """
    _check_positive(epochs=epochs, lr=lr)
    loaded = replace(loaded, config=with_length(loaded.config, math.ceil(epochs)))
    data = build_data(loaded, device=device, seed=loaded.config.seed, known=info, emit=emit)
    num_batches = data.train.num_batches
    is_distilled = loaded.config.train.distill is not None
    config = derive_tuning_config(loaded.config, epochs=epochs, lr=lr, num_batches=num_batches)
    loaded = replace(loaded, config=config)
    network.to(device)
    precision = pick_noted_precision(loaded, device, emit)
    scoring = build_scoring(loaded, network, precision, info=data.info, targets=data.train.sample_targets)
    arrange_network(loaded, network, channels_last=scoring.channels_last, is_changed=True, emit=emit)
    freeze_parameters(loaded, network, emit)
    resolved = resolve_learner(loaded, scoring, num_batches=num_batches, has_val=data.val is not None)
    distillation = _set_up_teacher(teacher, scoring, emit, is_dropped=is_distilled)
    learner = build_learner(loaded, network, resolved, distillation=distillation)
    check_first_batch(learner, data, loaded)
    return FineTuning(learner, data, resolved.plan, loaded)


def _set_up_teacher(
    teacher: nn.Module | None, scoring: Scoring, emit: Emit, *, is_dropped: bool
) -> Distillation | None:
    """Returns the network from before, ready to teach; `is_dropped` says that the config has another teacher."""
    if teacher is not None:
        section = Distill(teacher="the network from before")
        return set_up_distillation(section, as_teacher(teacher, scoring.precision.device), scoring, emit)
    if is_dropped:
        emit(Note("train.distill of the config is left out here; --distill lets the network from before teach"))
    return None


def _check_positive(**values: float) -> None:
    for name, value in values.items():
        if not (value > 0 and math.isfinite(value)):
            raise UsageError(f"{name} of fine-tuning must be greater than 0, got {value}")


def fine_tune(
    tuning: FineTuning,
    records: Records | None = None,
    *,
    emit: Emit,
    keep_best: bool = True,
    judge_first: bool = True,
) -> str:
    """Train in place to the end of the plan and leave the network with the weights of its best epoch, in evaluation mode.

    The best is chosen on the validation split and kept in memory; with `judge_first` the network before training counts as
    epoch 0. Without a validation split, or without `keep_best`, the last epoch stays. The same seed gives the same result
    on the CPU; random state and torch's settings are put back. Returns `finished`. Raises Diverged, and Interrupted after
    a signal, then with the network as the last step left it.
    """
    learner, data, config = tuning.learner, tuning.data, tuning.loaded.config
    best = BestWeights(records or NoRecords())
    threads = None if config.runtime.threads == "auto" else config.runtime.threads
    stop = StopRequest()
    try:
        with (
            torch_settings(threads=threads, deterministic=config.runtime.deterministic),
            explain_out_of_memory(config),
            seeded(config.seed),
            watch_signals(stop),
        ):
            emit(_started(tuning))
            if keep_best and judge_first:
                _judge_first(tuning, best, stop=stop, emit=emit)
            status = fit(learner, data, tuning.plan, best, stop=stop, emit=emit)
    finally:
        disable_checkpointing(learner.model)
    if stop.signal_number is not None:
        done = f"stopped at step {learner.position.step} of {tuning.plan.total_steps} of fine-tuning"
        raise Interrupted(stop.signal_number, f"{done}; nothing was written")
    _keep(tuning, best if keep_best else None, emit)
    learner.model.eval()
    return status


def _started(tuning: FineTuning) -> RunStarted:
    learner, data, plan = tuning.learner, tuning.data, tuning.plan
    total, trainable = parameter_count(learner.model)
    splits = {"train": data.train, "val": data.val}
    return RunStarted(
        run_dir=None,
        model=f"fine-tuning {_name(learner.model)}",
        num_parameters=total,
        num_trainable=trainable,
        device=describe_device(learner.scoring.precision.device),
        precision=learner.scoring.precision.name,
        split_sizes={name: split.num_samples for name, split in splits.items() if split is not None},
        batch_size=tuning.loaded.config.data.batch_size,
        accumulate=learner.accumulate,
        epochs=plan.epochs,
        steps_per_epoch=plan.steps_per_epoch,
        total_steps=plan.total_steps,
        start_step=0,
    )


def _name(network: nn.Module) -> str:
    spec = getattr(network, "dlkit_spec", None)
    return spec.arch.name if isinstance(spec, ModelSpec) else type(network).__name__


def _judge_first(tuning: FineTuning, best: "BestWeights", *, stop: StopRequest, emit: Emit) -> None:
    """Evaluate the network before training, as epoch 0."""
    learner, data = tuning.learner, tuning.data
    if data.val is None:
        return
    means = evaluate(learner.model, data.val, learner.scoring, stop=stop, emit=emit)
    value = (means or {}).get(learner.best.metric.removeprefix("val_"))
    if value is not None and learner.best.observe(value, 0):
        best.take(learner)


def _keep(tuning: FineTuning, best: "BestWeights | None", emit: Emit) -> None:
    learner = tuning.learner
    if tuning.data.val is None:
        if best is not None:
            emit(
                Note("there is no validation split, so the last epoch is kept, not the best; set data.val to have one")
            )
        return
    if best is None or best.state is None:
        return
    learner.model.load_state_dict(dict(best.state), strict=True)
    if learner.best.epoch == 0:
        emit(Note(f"no epoch of fine-tuning improved {learner.best.metric}; the weights are those from before it"))


class BestWeights:
    """Records that pass everything on, and keep the weights of the best epoch in memory."""

    def __init__(self, records: Records) -> None:
        self.records = records
        self.state: Mapping[str, Tensor] | None = None

    def take(self, learner: Learner) -> None:
        """Copy the weights as they are now."""
        self.state = {name: tensor.detach().clone() for name, tensor in learner.model.state_dict().items()}

    def add_step(self, learner: Learner, result: StepResult) -> None:
        """Pass on one optimizer step."""
        self.records.add_step(learner, result)

    def add_epoch(self, learner: Learner, row: Row) -> None:
        """Pass on one epoch's metrics."""
        self.records.add_epoch(learner, row)

    def save(self, learner: Learner, *, is_best: bool = False) -> None:
        """Keep the weights of the best epoch, and pass on."""
        if is_best:
            self.take(learner)
        self.records.save(learner, is_best=is_best)
