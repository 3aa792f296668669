"""Dynamically quantized layers in ONNX: inputs are quantized by DynamicQuantizeLinear while the file runs.

Linear layers are plain ONNX. There is no int8 LSTM in ONNX itself, so that one uses ONNX Runtime's own operator
DynamicQuantizeLSTM (domain com.microsoft) and runs there alone. torch quantizes inputs to 7 bits on x86, ONNX to 8, so that
both agree up to quantization noise, not up to rounding.
"""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.onnx.ops import symbolic, symbolic_multi_out

from dlkit.core.models import is_int8_layer
from dlkit.errors import UsageError
from dlkit.quantize.fx import DYNAMIC_INT8
from dlkit.quantize.qdq_layers import weight_parts

GATES = (0, 3, 1, 2)  # torch stores input, forget, cell, output; ONNX wants input, output, forget, cell
MICROSOFT = "com.microsoft"


class DynamicLinear(nn.Module):
    """A linear layer with int8 weights and inputs that are quantized as they come."""

    integers: Tensor
    scale: Tensor
    zero_point: Tensor
    bias: Tensor | None

    def __init__(self, layer: Any) -> None:
        super().__init__()
        integers, scale, zero_point, _ = weight_parts(layer.weight())
        self.register_buffer("integers", integers.t().contiguous())
        self.register_buffer("scale", scale)
        self.register_buffer("zero_point", zero_point)
        self.register_buffer("bias", None if layer.bias() is None else layer.bias().detach())

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) to (..., out)."""
        kinds, shapes = [torch.uint8, torch.float32, torch.uint8], [x.shape, [], []]
        integers, scale, zero_point = symbolic_multi_out("DynamicQuantizeLinear", (x,), dtypes=kinds, shapes=shapes)
        inputs = (integers, self.integers, zero_point, self.zero_point)
        shape = (*x.shape[:-1], self.integers.shape[1])
        sums = symbolic("MatMulInteger", inputs, dtype=torch.int32, shape=shape)
        result = sums.to(torch.float32) * (scale * self.scale)
        return result if self.bias is None else result + self.bias


class DynamicLstm(nn.Module):
    """An LSTM with int8 weights, in layers of one operator each."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.batch_first, self.hidden_size = layer.batch_first, layer.hidden_size
        self.suffixes = ("", "_reverse") if layer.bidirectional else ("",)
        self.num_layers = layer.num_layers
        weights, biases = layer.get_weight(), layer.get_bias()
        for number in range(layer.num_layers):
            for kind in ("ih", "hh"):
                parts = [weight_parts(weights[f"weight_{kind}_l{number}{suffix}"])[:3] for suffix in self.suffixes]
                integers, scales, zero_points = (list(values) for values in zip(*parts, strict=True))
                self.register_buffer(
                    f"{kind}{number}", torch.stack([_in_order(one).t() for one in integers]).contiguous()
                )
                self.register_buffer(f"{kind}{number}_scale", torch.stack([_in_order(one) for one in scales]))
                self.register_buffer(f"{kind}{number}_zero_point", torch.stack([_in_order(one) for one in zero_points]))
            pairs = [
                (biases[f"bias_ih_l{number}{suffix}"], biases[f"bias_hh_l{number}{suffix}"]) for suffix in self.suffixes
            ]
            both = [torch.cat([_in_order(one.detach()) for one in pair]) for pair in pairs]
            self.register_buffer(f"bias{number}", torch.stack(both))

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """As torch.nn.LSTM: (N, T, in) or (T, N, in) to the outputs and the last hidden and cell states."""
        x = x.transpose(0, 1) if self.batch_first else x
        directions = len(self.suffixes)
        if state is None:
            zeros = x.new_zeros(self.num_layers * directions, x.shape[1], self.hidden_size)
            state = (zeros, zeros)
        last: list[tuple[Tensor, Tensor]] = []
        for number in range(self.num_layers):
            rows = slice(number * directions, (number + 1) * directions)
            x, hidden, cell = self._run(x, number, state[0][rows], state[1][rows])
            last.append((hidden, cell))
        hidden, cell = (torch.cat(list(parts)) for parts in zip(*last, strict=True))
        return (x.transpose(0, 1) if self.batch_first else x), (hidden, cell)

    def _run(self, x: Tensor, number: int, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        ih, hh, bias = (getattr(self, f"{name}{number}") for name in ("ih", "hh", "bias"))
        grids = [getattr(self, f"{kind}{number}_{part}") for kind in ("ih", "hh") for part in ("scale", "zero_point")]
        shapes = [(x.shape[0], len(self.suffixes), *hidden.shape[1:]), hidden.shape, cell.shape]
        outputs, hidden, cell = symbolic_multi_out(
            f"{MICROSOFT}::DynamicQuantizeLSTM",
            (x, ih, hh, bias, None, hidden, cell, None, *grids),
            {"hidden_size": self.hidden_size, "direction": "bidirectional" if len(self.suffixes) == 2 else "forward"},
            dtypes=[torch.float32] * 3,
            shapes=shapes,
            version=1,
        )
        return outputs.transpose(1, 2).flatten(2), hidden, cell


def _in_order(rows: Tensor) -> Tensor:
    """Gates in the order of ONNX; a number for all gates stays as it is."""
    if rows.ndim == 0:
        return rows
    chunks = rows.chunk(4)
    return torch.cat([chunks[gate] for gate in GATES])


COUNTERPARTS: dict[Any, Callable[[Any], nn.Module]] = {
    DYNAMIC_INT8.Linear: DynamicLinear,
    DYNAMIC_INT8.LSTM: DynamicLstm,
}


def dynamic_network(network: nn.Module) -> nn.Module:
    """The network with its dynamic int8 layers replaced by ones that ONNX has. Raises UsageError where it has none."""
    memo: dict[int, Any] = {}
    for name, module in network.named_modules():
        if type(module) in COUNTERPARTS:
            memo[id(module)] = COUNTERPARTS[type(module)](module)
        elif is_int8_layer(module) and not _is_packed_weight(module):
            raise UsageError(
                f"{name} ({type(module).__name__}) has no dynamic int8 counterpart in ONNX, which has Linear and LSTM; "
                f"keep it in float: --keep-float {name}"
            )
    return copy.deepcopy(network, memo)


def _is_packed_weight(module: nn.Module) -> bool:
    return type(module).__name__ in ("LinearPackedParams", "PackedParameter")
