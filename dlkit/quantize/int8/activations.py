"""What a layer does to its sums before it rounds them, and what a table of 256 entries does to codes."""

from collections.abc import Callable
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from dlkit.quantize.int8.arithmetic import Affine, quantize, real_values

Activation = Literal["none", "relu", "relu6", "hardswish", "silu", "gelu"]
FUSED: tuple[Activation, ...] = get_args(Activation)


def activate(x: Tensor, activation: Activation) -> Tensor:
    """The activation of real numbers, in their own precision."""
    match activation:
        case "relu":
            return x.relu()
        case "relu6":
            return x.clamp(0, 6)
        case "hardswish":
            return F.hardswish(x)
        case "silu":
            return F.silu(x)
        case "gelu":
            return F.gelu(x)
    return x


def lookup_table(function: Callable[[Tensor], Tensor], x: Affine, y: Affine) -> Tensor:
    """The codes (256,) that a function of one number gives for every code from the lowest up: exact, whatever it is."""
    codes = torch.arange(x.lowest, x.highest + 1)
    return quantize(function(real_values(codes, x)), y)
