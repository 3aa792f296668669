"""Calls of torch.ops.onednn that torch.jit.trace can follow, too.

The list of scalars that every one of these operations takes cannot be traced, but it can be scripted; empty, it has to be written
where it is used. Outside of torch.jit.trace these are plain functions.
"""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

Codes = tuple[Tensor, float, int]  # with their scale and zero point
Weight = tuple[Tensor, Tensor, Tensor]  # packed, with its scales and with zeros for zero points
Places = tuple[list[int], list[int], list[int], int]  # stride, padding, dilation and groups
Target = tuple[float, int, torch.dtype]  # scale, zero point and dtype of the result

F = TypeVar("F", bound=Callable[..., Tensor])


def _traceable(function: F) -> F:
    made: F = torch.jit.script_if_tracing(function)  # type: ignore[no-untyped-call]
    return made


@_traceable
def qconv(x: Codes, weight: Weight, bias: Tensor | None, places: Places, y: Target, name: str) -> Tensor:
    """A convolution and the activation of that name."""
    return torch.ops.onednn.qconv_pointwise(  # type: ignore[no-any-return]
        x[0], x[1], x[2], weight[0], weight[1], weight[2], bias, places[0], places[1], places[2], places[3],
        y[0], y[1], y[2], name, [], "",
    )  # fmt: skip


@_traceable
def qconv_sum(
    x: Codes, weight: Weight, residual: Codes, bias: Tensor | None, places: Places, y: Target, name: str
) -> Tensor:
    """The same, after a tensor is added, which is overwritten."""
    return torch.ops.onednn.qconv2d_pointwise(  # type: ignore[no-any-return]
        x[0], x[1], x[2], weight[0], weight[1], weight[2], residual[0], bias, places[0], places[1], places[2], places[3],
        y[0], y[1], y[2], residual[1], residual[2], "sum", 1.0, name, [], "",
    )  # fmt: skip


@_traceable
def qlinear(x: Codes, weight: Weight, bias: Tensor | None, y: Target, name: str) -> Tensor:
    """A product and the activation of that name."""
    return torch.ops.onednn.qlinear_pointwise(  # type: ignore[no-any-return]
        x[0], x[1], x[2], weight[0], weight[1], weight[2], bias, y[0], y[1], y[2], name, [], "none"
    )  # fmt: skip


@_traceable
def qlinear_sum(x: Codes, weight: Weight, residual: Codes, bias: Tensor | None, y: Target, name: str) -> Tensor:
    """The same, after a tensor is added, which is overwritten."""
    return torch.ops.onednn.qlinear_pointwise(  # type: ignore[no-any-return]
        x[0], x[1], x[2], weight[0], weight[1], weight[2], residual[0], bias, y[0], y[1], y[2], residual[1], residual[2],
        "sum", 1.0, name, [], "none",
    )  # fmt: skip


@_traceable
def qlinear_any(x: Tensor, scale: Tensor, zero_point: Tensor, weight: Weight, bias: Tensor | None) -> Tensor:
    """A product in float32, for codes whose scale and zero point are known when it runs."""
    return torch.ops.onednn.qlinear_pointwise(  # type: ignore[no-any-return]
        x, scale, zero_point, weight[0], weight[1], weight[2], bias, 1.0, 0, torch.float32, "none", [], "none"
    )  # fmt: skip
