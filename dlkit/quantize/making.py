"""From a float network to its int8 counterpart, by the way that was asked for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from dlkit.core.modelfile import ModelFile
from dlkit.errors import UsageError
from dlkit.events import Report
from dlkit.quantize.backends import pick_backend, pick_reduce
from dlkit.quantize.calibration_data import ModelData
from dlkit.quantize.dynamic import quantize_dynamic
from dlkit.quantize.keeping import match_modules
from dlkit.quantize.recipe import Backend, Recipe, Reduce
from dlkit.quantize.request import Request
from dlkit.quantize.static import quantize_static


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
    """An int8 network, the recipe that rebuilds it, and one batch of inputs that it takes.

    `steps` say in words what was done; `kept` why modules are in float that the user did not name.
    """

    network: nn.Module
    recipe: Recipe
    example: Tensor
    num_calibration: int = 0
    steps: tuple[str, ...] = ()
    kept: Mapping[str, str] = field(default_factory=dict)

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
        example = torch.randn(1, *task.file.spec.info.input_size, generator=torch.Generator().manual_seed(0))
        return Made(quantize_dynamic(task.network, recipe), recipe, example)
    return _make_static(task, recipe)


def calibration_batches(task: Task) -> list[Tensor]:
    """The samples to calibrate on. Raises UsageError where there are no data to take them from."""
    if task.data is None:
        raise UsageError(f"{task.file.path} does not tell what it was trained on; name the data: --data CFG")
    return task.data.draw(task.request.num_calibration, task.request.seed)


def _make_static(task: Task, recipe: Recipe) -> Made:
    batches = calibration_batches(task)
    example = batches[0][:1]
    quantized = quantize_static(task.network, recipe, batches, example=example, report=task.report)
    return Made(quantized, recipe, example, sum(map(len, batches)))
