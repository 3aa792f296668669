"""From a float network to its int8 counterpart, by the way that was asked for."""

from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from torch import Tensor, nn
from torch.fx import GraphModule

from dlkit.choices import AskedReduce, Backend, Reduce
from dlkit.core.devices import pick_device
from dlkit.core.evaluation import sample_images
from dlkit.core.models import random_inputs
from dlkit.core.scoring import SCORES
from dlkit.errors import UsageError
from dlkit.events import Note, Working
from dlkit.quantize.backends import pick_backend, pick_reduce
from dlkit.quantize.calibrated import make_calibrated
from dlkit.quantize.calibration_data import ModelData
from dlkit.quantize.coverage import layer_statuses
from dlkit.quantize.dynamic import quantize_dynamic
from dlkit.quantize.int8_proof import count_int8_kernels, require_int8
from dlkit.quantize.ptq import outputs_of
from dlkit.quantize.qat import EPOCHS, QatSettings, quantize_aware
from dlkit.quantize.recipe import Recipe
from dlkit.quantize.request import QuantizeRequest
from dlkit.quantize.task import Made, Task
from dlkit.suggestions import did_you_mean

WITH_WEIGHTS = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
    nn.LSTM,
    nn.GRU,
    nn.LSTMCell,
    nn.GRUCell,
    nn.RNN,
    nn.RNNCell,
)


def plan_recipe(network: nn.Module, request: QuantizeRequest) -> Recipe:
    """The recipe that a request means on this machine. Raises UsageError for a backend or a module that is not there."""
    backend = pick_backend(request.backend)
    return Recipe(
        mode=request.mode,
        backend=backend,
        observer=request.observer,
        is_per_channel=request.is_per_channel,
        keep_float=_match_modules(network, request.keep_float),
        reduce=_pick_reduce(request.reduce, backend),
    )


def _pick_reduce(asked: AskedReduce, backend: Backend) -> Reduce:
    return pick_reduce(backend) if asked == "auto" else asked


def _match_modules(network: nn.Module, patterns: Sequence[str]) -> tuple[str, ...]:
    """Names of the modules that the globs match; `first` and `last` are the outermost layers with weights.

    Layers count in the order in which the network lists them. Raises UsageError for a glob that matches nothing.
    """
    names = [name for name, _ in network.named_modules() if name]
    kept: dict[str, None] = {}
    for pattern in patterns:
        found = _ends(network, pattern) or [name for name in names if fnmatchcase(name, pattern)]
        if not found:
            raise UsageError(
                f"--keep-float {pattern}: no part of the network has this name.{did_you_mean(pattern, names)} "
                f"It has: {', '.join(names[:6])}{' ...' if len(names) > 6 else ''}"
            )
        kept |= dict.fromkeys(found)
    return tuple(kept)


def _ends(network: nn.Module, pattern: str) -> list[str]:
    layers = [name for name, module in network.named_modules() if isinstance(module, WITH_WEIGHTS)]
    if pattern not in ("first", "last") or not layers:
        return []
    return [layers[0 if pattern == "first" else -1]]


def make_int8(task: Task, recipe: Recipe) -> Made:
    """The int8 network; the task's own is left as it was. Raises UsageError for a network that cannot be followed."""
    if recipe.mode == "dynamic":
        inputs = random_inputs(task.file.spec.info.input_size, 8)
        return Made(quantize_dynamic(task.network, recipe, example=inputs), recipe, inputs)
    task.emit(Working("reading samples to calibrate on", 0, 1))
    batches = calibration_inputs(task)
    static = make_calibrated(task, replace(recipe, mode="static"), batches)
    if task.data is None:
        _note_agreement(task, static, batches)
    return static if recipe.mode == "static" else _train(task, require_data(task), static, batches)


def calibration_inputs(task: Task) -> list[Tensor]:
    """Batches of training inputs, or of pictures without labels. Raises UsageError where the task has no data."""
    request = task.request
    if request.images is None:
        return require_data(task).draw(request.num_samples, request.seed)
    return sample_images(task.file, request.images, count=request.num_samples, seed=request.seed, emit=task.emit)


def _note_agreement(task: Task, made: Made, batches: Sequence[Tensor]) -> None:
    """Report for how many of the pictures, or of their labels or pixels, both networks decide the same."""
    agreement, networks = SCORES[task.name](task.file.spec.info).agreement, (task.network.eval(), made.network)
    num_images = sum(map(len, batches))
    shares = [agreement(*(outputs_of(network, [batch]) for network in networks)) for batch in batches]
    told = [share * len(batch) for share, batch in zip(shares, batches, strict=True) if share is not None]
    if told:
        same = sum(told) / num_images
        what = {"multilabel": "decisions on labels of the ", "segmentation": "pixels of the "}.get(task.name)
        number = f"{same:.2%} of the {what}" if what else f"{round(same * num_images)} of the "
        task.emit(Note(f"same as the float network for {number}{num_images} images that calibrated"))


def require_data(task: Task) -> ModelData:
    """The task's data. Raises UsageError where there are none."""
    if task.data is None:
        raise UsageError(f"{task.file.path} does not tell what it was trained on; name the data: --data CFG")
    return task.data


def _train(task: Task, data: ModelData, static: Made, batches: Sequence[Tensor]) -> Made:
    """Train on with the rounding put in. Where that is no better than static quantization, that is what is kept."""
    request = task.request
    assert isinstance(static.network, GraphModule)
    statuses = layer_statuses(task.network, static.network, static.recipe, kept=static.kept)
    require_int8(statuses, count_int8_kernels(static.network, static.example))  # before hours of training
    settings = QatSettings(
        loaded=data.loaded,
        info=data.info,
        device=pick_device("auto"),
        epochs=EPOCHS if request.epochs is None else request.epochs,
        lr=request.lr,
        is_distilled=request.is_distilled,
        keep=request.keep,
    )
    quantized, training = quantize_aware(
        task.network,
        replace(static.recipe, mode="qat"),
        settings,
        batches=batches,
        static=(static.network, static.recipe),
        emit=task.emit,
    )
    if training.kept == "static":
        return replace(static, training=training)
    return replace(static, network=quantized, recipe=training.recipe, trials=(), training=training)
