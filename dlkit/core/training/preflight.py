"""One batch through the model and the loss before anything is written, so that a misfit is one sentence and no traceback."""

from typing import Any

import torch
from torch import Tensor, nn

from dlkit.config import LoadedConfig
from dlkit.core.data import Batch, DataInfo, DataSplits
from dlkit.core.models import RunningModule, RunningModules, eval_mode
from dlkit.core.scoring import Scoring
from dlkit.core.training.distillation import Distillation
from dlkit.core.training.learner import Learner
from dlkit.errors import ConfigError, DlkitError, first_line
from dlkit.shapes import size_text
from dlkit.tasks import TRAITS

_BOUNDED = frozenset({"Sigmoid", "Tanh", "Relu", "Softplus", "Softmax", "Hardtanh", "Hardsigmoid", "Clamp", "Exp"})
_RESHAPES = ("View", "UnsafeView", "ReshapeAlias", "Squeeze", "Unsqueeze", "TBackward", "Transpose", "Clone", "ToCopy")
_CHANNELS = (nn.modules.conv._ConvNd, nn.modules.batchnorm._BatchNorm)


def check_first_batch(learner: Learner, data: DataSplits, loaded: LoadedConfig) -> None:
    """Run the first batch in evaluation mode. Raises ConfigError naming the layer, or the loss, that it does not fit."""
    batch, scoring = data.train.first_batch(), learner.scoring
    with eval_mode(learner.model), torch.no_grad(), scoring.precision.autocast():
        inputs = scoring.arrange(batch.inputs)
        outputs = _forward(learner.model, inputs, loaded)
        _check_outputs(outputs, batch, data.info, loaded)
        _loss(scoring, outputs, batch, loaded)
        if learner.distillation is not None:
            _ask_teacher(learner.distillation, outputs, inputs, loaded)
    if data.info.target_mean is not None and not loaded.config.train.compile:
        _check_reach(learner.model, scoring.arrange(batch.inputs[:2]), loaded)


def _forward(model: nn.Module, inputs: Tensor, loaded: LoadedConfig) -> Any:
    with RunningModules().followed(model) as running:
        try:
            return model(inputs)
        except DlkitError:
            raise
        except Exception as error:  # a network of the user's own may raise anything
            if "allocate" in str(error) or isinstance(error, torch.OutOfMemoryError):
                raise
            raise _misfit(inputs, running.innermost, error, loaded) from error


def _misfit(inputs: Tensor, innermost: RunningModule | None, error: Exception, loaded: LoadedConfig) -> ConfigError:
    name, module = (innermost.name, innermost.module) if innermost else ("", None)
    value = inputs if innermost is None else next(iter(innermost.inputs), None)
    got = tuple(value.shape[1:]) if isinstance(value, Tensor) else None
    where = f"layer {name!r} ({type(module).__name__})" if name else "the network"
    sample = size_text(inputs.shape[1:])
    reason = _channel_reason(module, value) or first_line(error)
    shape = f" of shape {size_text(got)}" if got else ""
    return loaded.error(("model",), f"a sample of {sample} does not fit: {where} got an input{shape}: {reason}")


def _channel_reason(module: nn.Module | None, value: Any) -> str | None:
    if not isinstance(value, Tensor) or value.ndim < 2:
        return None
    if isinstance(module, _CHANNELS):
        expected = int(getattr(module, "in_channels", getattr(module, "num_features", 0)))
        if expected != value.shape[1]:
            return f"it expects {expected} channels, not {value.shape[1]}"
    if isinstance(module, nn.Linear) and module.in_features != value.shape[-1]:
        return f"it expects {module.in_features} features, not {value.shape[-1]}"
    return None


def _check_outputs(outputs: Any, batch: Batch, info: DataInfo, loaded: LoadedConfig) -> None:
    traits = TRAITS[info.task]
    expected = (info.num_outputs, *(batch.inputs.shape[2:] if traits.has_maps else ()))
    needed = ", ".join(map(str, expected))
    if not isinstance(outputs, Tensor):
        raise loaded.error(
            ("model",), f"the network returns a {type(outputs).__name__}; a tensor of shape (N, {needed}) is needed"
        )
    if tuple(outputs.shape) != (len(batch.inputs), *expected):
        got = ", ".join(map(str, outputs.shape[1:]))
        maps = " for each pixel" if traits.has_maps else ""
        raise loaded.error(
            ("model",),
            f"the network gives (N, {got}) for a batch of N; the data has {info.num_outputs} {traits.outputs}{maps}, so (N, {needed}) is "
            "needed",
        )


def _check_reach(model: nn.Module, inputs: Tensor, loaded: LoadedConfig) -> None:
    """Raise ConfigError for a network that cannot give negative numbers, or large ones, where its targets have mean 0."""
    with eval_mode(model), torch.enable_grad():
        step = model(inputs).grad_fn
    while step is not None and step.name().startswith(_RESHAPES):
        step = step.next_functions[0][0]
    name = step.name().split("Backward")[0] if step is not None else ""
    if name in _BOUNDED:
        raise loaded.error(
            ("model",),
            f"the network ends in {name.lower()}, which cannot give standardized targets, whose mean is 0; "
            "set data.standardize_target: false, or leave that function out",
        )


def _ask_teacher(distillation: Distillation, outputs: Tensor, inputs: Tensor, loaded: LoadedConfig) -> None:
    try:
        distillation.distances(outputs, inputs)
    except Exception as error:  # a teacher of the user's own may raise anything
        if "allocate" in str(error) or isinstance(error, torch.OutOfMemoryError):
            raise
        sample = size_text(inputs.shape[1:])
        message = f"the teacher cannot take a sample of {sample}: {first_line(error)}"
        raise loaded.error(("train", "distill", "teacher"), message) from error


def _loss(scoring: Scoring, outputs: Tensor, batch: Batch, loaded: LoadedConfig) -> None:
    try:
        loss, _ = scoring.loss(outputs, batch.targets)
    except DlkitError:
        raise
    except Exception as error:  # a loss of the user's own may raise anything
        if "allocate" in str(error) or isinstance(error, torch.OutOfMemoryError):
            raise
        raise loaded.error(("loss",), f"{scoring.loss.name} cannot take these targets: {first_line(error)}") from error
    if not isinstance(loss, Tensor) or loss.ndim != 0:
        got = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
        raise loaded.error(
            ("loss",), f"{scoring.loss.name} gives {got}; the mean over the batch, one number, is needed"
        )
