"""What a network consists of: parameters, and a table of its parts with their output shapes."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from dlkit.core.models.copying import copy_network
from dlkit.core.models.meta import meta_copy
from dlkit.core.models.running import RunningModules
from dlkit.core.models.tensors import first_tensor

Shape = tuple[int, ...]


@dataclass(frozen=True)
class SummaryRow:
    """One part. `output_shape` is one sample's, without the batch; None where the part returns no tensor or was not
    called.
    """

    name: str
    type: str
    output_shape: Shape | None
    num_parameters: int


def parameter_count(model: nn.Module) -> tuple[int, int]:
    """Returns all parameters and the trainable ones; shared ones count once."""
    parameters = list(model.parameters())
    return sum(p.numel() for p in parameters), sum(p.numel() for p in parameters if p.requires_grad)


def summarize(model: nn.Module, input_size: Shape, *, depth: int = 2) -> list[SummaryRow]:
    """Returns the model's parts down to `depth` levels, in the order of registration, for samples of `input_size` without the
    batch.

    A part with parts of its own that are shown too counts only what is directly in it, so that the rows add up to
    `parameter_count`. The model itself is not run and not changed, unless it cannot run on the meta device.
    """
    shapes = _measure_shapes(model, input_size)
    shown = _shown(model, depth)
    rows = []
    seen: set[int] = set()
    for name, module in shown:
        has_shown_parts = any(other.startswith(f"{name}." if name else "") and other != name for other, _ in shown)
        own = [p for p in module.parameters(recurse=not has_shown_parts) if id(p) not in seen]
        seen.update(map(id, own))
        count = sum(p.numel() for p in own)
        if name or count:
            rows.append(SummaryRow(name, type(module).__name__, shapes.get(name), count))
    return rows


def _shown(model: nn.Module, depth: int) -> list[tuple[str, nn.Module]]:
    return [(name, module) for name, module in model.named_modules() if not name or name.count(".") < depth]


def _measure_shapes(model: nn.Module, input_size: Shape) -> dict[str, Shape]:
    try:
        return _run(meta_copy(model), input_size, device="meta")
    except (RuntimeError, NotImplementedError, TypeError):
        # a model that reads values (indices, loops until convergence) needs real ones
        device = next((p.device for p in model.parameters()), torch.device("cpu"))
        return _run(copy_network(model), input_size, device=device)


def _run(model: nn.Module, input_size: Shape, *, device: str | torch.device) -> dict[str, Shape]:
    shapes: dict[str, Shape] = {}

    def remember(name: str, module: nn.Module, output: Any) -> None:
        first = first_tensor(output)
        if first is not None:
            shapes[name] = tuple(first.shape[1:])

    with torch.no_grad(), RunningModules(remember).followed(model.eval()):
        model(torch.zeros(2, *input_size, device=device))
    return shapes
