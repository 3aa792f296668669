"""Quantization-aware training: go on training a float network with int8 rounding put in, then convert it.

The ranges begin as those of static quantization. Training is fine-tuning through the one loop, in float32: under autocast the
rounding would see bf16 values, which have 8 bits themselves. The result is kept only if it is no worse than static
quantization of the same network on the validation split.
"""

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from dlkit.choices import QatKeep
from dlkit.config import LoadedConfig
from dlkit.core.data import DataInfo
from dlkit.core.random_state import seeded
from dlkit.core.training import FineTuning, build_fine_tuning, fine_tune, freeze_matching, pick_lr
from dlkit.events import Emit, Note
from dlkit.quantize.graph import clip_to_activations, convert, prepare
from dlkit.quantize.ptq import observe_network
from dlkit.quantize.qat.comparison import QatComparison, compare_candidates
from dlkit.quantize.qat.phases import Phases, PhaseSwitch
from dlkit.quantize.qat.switches import switch_observers, take_ranges
from dlkit.quantize.recipe import Recipe

EPOCHS = 2.0
LR_SHARE = 0.05
_TIMED_STEPS = 3


@dataclass(frozen=True)
class QatSettings:
    """What to train on and how long. `lr` is the peak; without one it is a twentieth of the config's.

    With `is_distilled` the float network teaches. `keep` says whether static quantization is returned where it judges better.
    """

    loaded: LoadedConfig
    info: DataInfo
    device: torch.device
    epochs: float = EPOCHS
    lr: float | None = None
    is_distilled: bool = False
    keep: QatKeep = "best"
    phases: Phases = field(default_factory=Phases)


@dataclass(frozen=True)
class QatOutcome:
    """What came of it. `kept` is what was returned, and `recipe` what that network is rebuilt from.

    `comparison` has the metrics of static quantization, of the trained network with rounding put in, and of its int8 network.
    `step_ms` and `float_step_ms` are milliseconds of one forward and backward pass with and without rounding.
    """

    kept: Literal["qat", "static"]
    recipe: Recipe
    comparison: QatComparison
    best_epoch: int | None
    steps: int
    train_s: float
    step_ms: float
    float_step_ms: float


def quantize_aware(
    network: nn.Module,
    recipe: Recipe,
    settings: QatSettings,
    *,
    batches: Sequence[Tensor],
    static: tuple[GraphModule, Recipe],
    emit: Emit,
) -> tuple[GraphModule, QatOutcome]:
    """The int8 network of a float one that was trained for it, and what came of it; `network` is left as it was.

    `batches` are inputs for calibration. `static` is the best int8 network that was had without training, with its recipe; it
    is returned when training gave nothing better. Raises what `observe_network` and fine-tuning raise.
    """
    recipe = replace(recipe, mode="qat")
    prepared = prepare_training(network, recipe, settings, batches=batches, emit=emit)
    tuning = build_qat(prepared, settings, emit, teacher=copy.deepcopy(network) if settings.is_distilled else None)
    float_step_ms, step_ms = _step_ms(network, tuning), _step_ms(prepared, tuning)
    emit(Note(f"a step takes {step_ms / float_step_ms:.1f} times as long with the rounding of int8 put in"))
    train_quantized(tuning, settings.phases, emit=emit)
    converted = convert(prepared, recipe)
    comparison = compare_candidates(
        tuning, static=static[0], converted=converted, may_keep_static=settings.keep == "best", emit=emit
    )
    outcome = QatOutcome(
        kept="static" if comparison.is_static_kept else "qat",
        recipe=static[1] if comparison.is_static_kept else recipe,
        comparison=comparison,
        best_epoch=tuning.learner.best.epoch,
        steps=tuning.learner.position.step,
        train_s=tuning.learner.train_s,
        step_ms=step_ms,
        float_step_ms=float_step_ms,
    )
    return (static[0] if comparison.is_static_kept else converted), outcome


def prepare_training(
    network: nn.Module, recipe: Recipe, settings: QatSettings, *, batches: Sequence[Tensor], emit: Emit
) -> GraphModule:
    """The network with fake quantization put in, its ranges as static quantization finds them, observers off."""
    network = copy.deepcopy(network).cpu()
    freeze_matching(
        network, settings.loaded.config.optimizer.groups
    )  # by the names that the config knows, before fusion
    prepared = prepare(network, replace(recipe, mode="qat"), batches[0][:1])
    clip_to_activations(prepared)
    if hasattr(network, "dlkit_spec"):
        prepared.dlkit_spec = network.dlkit_spec  # so that reports know its name
    take_ranges(prepared, observe_network(network, replace(recipe, mode="static"), batches, emit))
    switch_observers(prepared, is_on=False)
    return prepared


def build_qat(
    prepared: GraphModule, settings: QatSettings, emit: Emit, *, teacher: nn.Module | None = None
) -> FineTuning:
    """Fine-tuning around a prepared network: in float32, and without gradient checkpointing, which would observe twice."""
    loaded = settings.loaded
    train = loaded.config.train
    if train.gradient_checkpointing:
        emit(Note("train.gradient_checkpointing is off: recomputed activations would be observed twice"))
    train = train.model_copy(update={"amp": "off", "gradient_checkpointing": False})
    return build_fine_tuning(
        replace(loaded, config=loaded.config.model_copy(update={"train": train})),
        prepared,
        settings.info,
        epochs=settings.epochs,
        lr=LR_SHARE * pick_lr(loaded.config.optimizer, loaded.config.model.name)
        if settings.lr is None
        else settings.lr,
        device=settings.device,
        teacher=teacher,
        emit=emit,
    )


def train_quantized(tuning: FineTuning, phases: Phases, *, emit: Emit) -> None:
    """Train a prepared network in place, and leave it with the ranges and weights of its best epoch, observers off."""
    prepared = tuning.learner.model
    assert isinstance(prepared, GraphModule)
    switch = PhaseSwitch(prepared, phases, total_steps=tuning.plan.total_steps)
    try:
        fine_tune(tuning, switch, emit=emit)
    finally:
        switch.remove()
        switch_observers(prepared, is_on=False)


def _step_ms(network: nn.Module, tuning: FineTuning) -> float:
    """The fastest of a few forward and backward passes of a copy over one training batch."""
    scoring, device = tuning.learner.scoring, tuning.learner.scoring.precision.device
    model = copy.deepcopy(network).to(device).train()
    if scoring.channels_last:
        model.to(memory_format=torch.channels_last)
    times = []
    with seeded(tuning.loaded.config.seed):
        batch = next(iter(tuning.data.train.batches()))
        for _ in range(_TIMED_STEPS):
            started = time.perf_counter()
            loss, _ = scoring.loss(model(scoring.arrange(batch.inputs)), batch.targets)
            loss.backward()  # type: ignore[no-untyped-call]
            loss.item()  # waits for the device
            times.append(time.perf_counter() - started)
    return min(times) * 1000
