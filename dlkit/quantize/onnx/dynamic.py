"""Dynamically quantized layers in ONNX: inputs are quantized by DynamicQuantizeLinear while the file runs.

Linear layers are plain ONNX. There is no int8 LSTM in ONNX itself, so that one uses ONNX Runtime's own operator
DynamicQuantizeLSTM (domain com.microsoft) and runs there alone.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.onnx.ops import symbolic, symbolic_multi_out

from dlkit.quantize.int8 import Int8Cell, Int8DynamicLinear, Int8Recurrent

GATES = (0, 3, 1, 2)  # torch stores input, forget, cell, output; ONNX wants input, output, forget, cell
MICROSOFT = "com.microsoft"


class OnnxDynamicLinear(nn.Module):
    """A linear layer with int8 weights and inputs that are quantized as they come."""

    codes: Tensor
    scale: Tensor
    zero_point: Tensor
    bias: Tensor | None

    def __init__(self, layer: Int8DynamicLinear) -> None:
        super().__init__()
        self.register_buffer("codes", layer.weight.t().contiguous())
        self.register_buffer("scale", layer.weight_scale)
        self.register_buffer("zero_point", torch.tensor(0, dtype=torch.int8))
        self.register_buffer("bias", layer.bias)
        self.num_outputs = len(layer.weight)

    @property
    def weight(self) -> Tensor:
        """(out, in), which a recurrent layer reads the sizes of its state off."""
        return self.codes.t()

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) to (..., out)."""
        kinds, shapes = [torch.uint8, torch.float32, torch.uint8], [x.shape, [], []]
        integers, scale, zero_point = symbolic_multi_out("DynamicQuantizeLinear", (x,), dtypes=kinds, shapes=shapes)
        inputs = (integers, self.codes, zero_point, self.zero_point)
        shape = (*x.shape[:-1], self.num_outputs)
        sums = symbolic("MatMulInteger", inputs, dtype=torch.int32, shape=shape)
        result = sums.to(torch.float32) * (scale * self.scale)
        return result if self.bias is None else result + self.bias


class OnnxLstm(nn.Module):
    """An LSTM with int8 weights, in layers of one operator each."""

    def __init__(self, layer: Int8Recurrent) -> None:
        super().__init__()
        self.batch_first, num = layer.batch_first, layer.num_directions
        cells = [cell for cell in layer.cells if isinstance(cell, Int8Cell)]
        self.hidden_size, self.num_directions, self.num_layers = cells[0].state_sizes[0], num, len(cells) // num
        for number in range(self.num_layers):
            both = cells[number * num : (number + 1) * num]
            self._hold(f"ih{number}", [cell.ih for cell in both])
            self._hold(f"hh{number}", [cell.hh for cell in both])
            biases = [torch.cat([_in_order(_bias(one)) for one in (cell.ih, cell.hh)]) for cell in both]
            self.register_buffer(f"bias{number}", torch.stack(biases))

    def _hold(self, name: str, products: list[Int8DynamicLinear]) -> None:
        scales = torch.stack([_in_order(one.weight_scale) for one in products])
        scales = scales[:, 0] if scales.shape[1] == 1 else scales
        self.register_buffer(name, torch.stack([_in_order(one.weight).t() for one in products]).contiguous())
        self.register_buffer(f"{name}_scale", scales)
        self.register_buffer(f"{name}_zero_point", torch.zeros_like(scales, dtype=torch.int8))

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """As torch.nn.LSTM: (N, T, in) or (T, N, in) to the outputs and the last hidden and cell states."""
        x = x.transpose(0, 1) if self.batch_first else x
        directions = self.num_directions
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
        shapes = [(x.shape[0], self.num_directions, *hidden.shape[1:]), hidden.shape, cell.shape]
        outputs, hidden, cell = symbolic_multi_out(
            f"{MICROSOFT}::DynamicQuantizeLSTM",
            (x, ih, hh, bias, None, hidden, cell, None, *grids),
            {"hidden_size": self.hidden_size, "direction": "bidirectional" if self.num_directions == 2 else "forward"},
            dtypes=[torch.float32] * 3,
            shapes=shapes,
            version=1,
        )
        return outputs.transpose(1, 2).flatten(2), hidden, cell


def _bias(product: Int8DynamicLinear) -> Tensor:
    return product.weight_scale.new_zeros(len(product.weight)) if product.bias is None else product.bias


def _in_order(rows: Tensor) -> Tensor:
    """Gates in the order of ONNX; a number for all gates stays as it is."""
    if len(rows) == 1:
        return rows
    chunks = rows.chunk(4)
    return torch.cat([chunks[gate] for gate in GATES])


def dynamic_network(network: nn.Module) -> nn.Module:
    """The network with its dynamic int8 layers replaced by ones that ONNX has.

    LSTMs are one operator for each layer; all other recurrent layers are written step by step.
    """
    memo: dict[int, Any] = {}
    for module in network.modules():
        if isinstance(module, Int8DynamicLinear):
            memo[id(module)] = OnnxDynamicLinear(module)
        elif isinstance(module, Int8Recurrent) and _is_plain_lstm(module):
            memo[id(module)] = OnnxLstm(module)
    return copy.deepcopy(network, memo)


def _is_plain_lstm(layer: Int8Recurrent) -> bool:
    return all(isinstance(cell, Int8Cell) and cell.mode == "LSTM" and cell.hr is None for cell in layer.cells)
