"""From a float network to its int8 counterpart, by the way that was asked for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from dlkit.core.devices import pick_device
from dlkit.core.modelfile import ModelFile
from dlkit.errors import UsageError
from dlkit.events import Report, Working
from dlkit.quantize.backends import pick_backend, pick_reduce
from dlkit.quantize.bias_correction import correct_bias
from dlkit.quantize.calibration_data import ModelData
from dlkit.quantize.dynamic import quantize_dynamic
from dlkit.quantize.fx import convert, prepare, quantized_engine
from dlkit.quantize.keeping import match_modules
from dlkit.quantize.qat import EPOCHS, QatOutcome, QatSettings, quantize_aware
from dlkit.quantize.recipe import Backend, Recipe, Reduce
from dlkit.quantize.request import Request
from dlkit.quantize.static import calibrate

CORRECTION_BYTES = 2**30
LIVE_PER_INPUT = (
    100  # bytes of activations that are kept at once, for each number of the input; measured on MobileNetV2
)


@dataclass(frozen=True)
class Task:
    """What is quantized, as it was asked for, and on which data; `data` is None where there is none."""

    file: ModelFile
    request: Request
    network: nn.Module
    data: ModelData | None
    report: Report


@dataclass(frozen=True)
class Made:
    """An int8 network, the recipe that rebuilds it, and a batch of inputs, real ones where there are any.

    `steps` say in words what was done; `kept` why modules are in float that the user did not name; `training` is what came of
    quantization-aware training.
    """

    network: nn.Module
    recipe: Recipe
    inputs: Tensor
    num_calibration: int = 0
    steps: tuple[str, ...] = ()
    kept: Mapping[str, str] = field(default_factory=dict)
    training: QatOutcome | None = None

    @property
    def example(self) -> Tensor:
        """One sample as a batch."""
        return self.inputs[:1]

    def facts(self) -> dict[str, Any]:
        """What the model file tells of how it was made."""
        return {"num_calibration": self.num_calibration, "steps": list(self.steps)}


def plan_recipe(network: nn.Module, request: Request) -> Recipe:
    """The recipe that a request means on this machine. Raises UsageError for a backend or a module that is not there."""
    backend = pick_backend(request.backend)
    return Recipe(
        mode=request.mode,
        backend=backend,
        observer=request.observer,
        is_per_channel=request.is_per_channel,
        keep_float=match_modules(network, request.keep_float),
        reduce=_pick_reduce(request.reduce, backend),
    )


def _pick_reduce(asked: str, backend: Backend) -> Reduce:
    known: dict[str, Reduce] = {"weights": "weights", "activations": "activations", "none": "none"}
    return known.get(asked) or pick_reduce(backend)


def make_int8(task: Task, recipe: Recipe) -> Made:
    """The int8 network; the task's own is left as it was. Raises UsageError for a network that cannot be followed."""
    if recipe.mode == "dynamic":
        inputs = torch.randn(8, *task.file.spec.info.input_size, generator=torch.Generator().manual_seed(0))
        return Made(quantize_dynamic(task.network, recipe), recipe, inputs)
    if task.data is None:
        raise UsageError(f"{task.file.path} does not tell what it was trained on; name the data: --data CFG")
    batches = task.data.draw(task.request.num_calibration, task.request.seed)
    static = make_static(task, replace(recipe, mode="static"), batches)
    return static if recipe.mode == "static" else _train(task, task.data, static, batches)


def make_static(task: Task, recipe: Recipe, batches: Sequence[Tensor]) -> Made:
    """Observe, convert, correct."""
    prepared = prepare(task.network, recipe, batches[0][:1])
    calibrate(prepared, batches, task.report)
    converted = convert(prepared, recipe)
    steps = _correct(task, prepared, converted, batches, recipe) if task.request.use_bias_correction else ()
    return Made(converted, recipe, batches[0], sum(map(len, batches)), steps)


def _correct(
    task: Task, prepared: GraphModule, converted: GraphModule, batches: Sequence[Tensor], recipe: Recipe
) -> tuple[str, ...]:
    task.report(Working("correcting biases", 0, 1))
    is_classification = task.file.spec.info.task == "classification"
    with quantized_engine(recipe.backend):
        found = correct_bias(prepared, converted, _as_many_as_fit(batches), is_classification=is_classification)
    if not found.is_kept:
        return ("bias correction left out, as it brought the outputs no closer",)
    return (f"biases of {found.num_layers} layers corrected",)


def _as_many_as_fit(batches: Sequence[Tensor]) -> Sequence[Tensor]:
    """The first batches, at least one, whose activations side by side take at most a gibibyte."""
    per_batch = LIVE_PER_INPUT * batches[0].numel()
    return batches[: max(1, CORRECTION_BYTES // per_batch)]


def _train(task: Task, data: ModelData, static: Made, batches: Sequence[Tensor]) -> Made:
    """Train on with the rounding put in. Where that is no better than static quantization, that is what is kept."""
    request = task.request
    assert isinstance(static.network, GraphModule)
    settings = QatSettings(
        loaded=data.loaded,
        info=data.info,
        device=pick_device("auto"),
        epochs=EPOCHS if request.epochs is None else request.epochs,
        lr=request.lr,
    )
    quantized, training = quantize_aware(
        task.network,
        replace(static.recipe, mode="qat"),
        settings,
        batches=batches,
        static=(static.network, static.recipe),
        report=task.report,
    )
    if training.kept == "static":
        steps = (*static.steps, "training gave nothing better than static quantization, which is kept")
        return replace(static, steps=steps, training=training)
    steps = (f"{training.steps:,} steps of training with rounding in {training.train_s:.0f} s",)
    return replace(static, network=quantized, recipe=training.recipe, steps=steps, training=training)
