"""Recurrent layers whose products are int8: the input of each product is quantized when it comes, gates are float32.

An input of all steps goes through its product at once, a state step by step. Weights are named as in torch: ih_l0, hh_l0_reverse.
"""

from collections.abc import Callable, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from dlkit.quantize.int8.products import Int8DynamicLinear

State = tuple[Tensor, ...]  # hidden (B, H), and for an LSTM the cell (B, H)
Sizes = (
    list[int] | None
)  # rows of each step of a packed sequence, from the most to the fewest; None where all have as many
NUM_GATES = {"LSTM": 4, "GRU": 3, "RNN_TANH": 1, "RNN_RELU": 1}


def _lstm(from_input: Tensor, from_state: Tensor, state: State) -> State:
    take, forget, cell, give = (from_input + from_state).chunk(4, -1)
    new = forget.sigmoid() * state[1] + take.sigmoid() * cell.tanh()
    return give.sigmoid() * new.tanh(), new


def _gru(from_input: Tensor, from_state: Tensor, state: State) -> State:
    (reset, update, new), (reset_state, update_state, new_state) = from_input.chunk(3, -1), from_state.chunk(3, -1)
    new = (new + (reset + reset_state).sigmoid() * new_state).tanh()
    return (new + (update + update_state).sigmoid() * (state[0] - new),)


GATES: dict[str, Callable[[Tensor, Tensor, State], State]] = {
    "LSTM": _lstm,
    "GRU": _gru,
    "RNN_TANH": lambda from_input, from_state, _: ((from_input + from_state).tanh(),),
    "RNN_RELU": lambda from_input, from_state, _: ((from_input + from_state).relu(),),
}


class Int8Cell(nn.Module):
    """One direction of one layer: products of the input and of the state, and of the output where it is projected."""

    computes_int8 = True

    def __init__(self, mode: str, ih: Int8DynamicLinear, hh: Int8DynamicLinear, hr: Int8DynamicLinear | None) -> None:
        super().__init__()
        self.mode, self.ih, self.hh, self.hr = mode, ih, hh, hr

    @classmethod
    def from_float(
        cls, layer: nn.RNNBase | nn.RNNCellBase, *, suffix: str = "", bits: int = 8, is_per_channel: bool = True
    ) -> Self:
        """From the weights of a layer whose names end like this: _l0, _l1_reverse, or nothing for a cell."""

        def product(name: str) -> Int8DynamicLinear:
            bias = getattr(layer, f"bias_{name}{suffix}", None)
            weight = getattr(layer, f"weight_{name}{suffix}")
            return Int8DynamicLinear.from_weight(weight, bias, bits=bits, is_per_channel=is_per_channel)

        has_projection = hasattr(layer, f"weight_hr{suffix}")
        return cls(_mode(layer), product("ih"), product("hh"), product("hr") if has_projection else None)

    @property
    def state_sizes(self) -> tuple[int, ...]:
        """Sizes of the hidden state and, for an LSTM, of its cell."""
        hidden = self.hh.weight.shape[1]
        return (hidden, len(self.hh.weight) // 4) if self.mode == "LSTM" else (hidden,)

    def step(self, from_input: Tensor, state: State) -> State:
        """The state after one step, from what the product of the input gave."""
        hidden, *rest = GATES[self.mode](from_input, self.hh(state[0]), state)
        return (hidden if self.hr is None else self.hr(hidden), *rest)

    def forward(self, x: Tensor, state: Any = None) -> Any:
        """As `nn.LSTMCell`, `nn.GRUCell` and `nn.RNNCell`: (B, I) or (I,), and a state as they take it."""
        rows = x if x.dim() == 2 else x[None]
        given = (state,) if isinstance(state, Tensor) else state
        parts = [rows.new_zeros(rows.shape[0], size) for size in self.state_sizes] if given is None else given
        new = self.step(
            self.ih(rows),
            tuple(part.reshape(rows.shape[0], size) for part, size in zip(parts, self.state_sizes, strict=True)),
        )
        new = new if x.dim() == 2 else tuple(part[0] for part in new)
        return new if self.mode == "LSTM" else new[0]

    def run(self, x: Tensor, sizes: Sizes, state: State, *, is_reverse: bool) -> tuple[Tensor, State]:
        """Outputs of all steps and the last state, for inputs (T, B, I) or, with sizes, (total, I)."""
        products = self.ih(x)
        steps = products.unbind() if sizes is None else products.split(sizes)
        outputs = []
        for from_input in reversed(steps) if is_reverse else steps:
            num = from_input.shape[0]  # len would be a constant to torch.export
            new = self.step(from_input, state if sizes is None else tuple(part[:num] for part in state))
            outputs.append(new[0])
            pairs = zip(new, state, strict=True)
            state = new if sizes is None else tuple(torch.cat([part, old[num:]]) for part, old in pairs)
        outputs = outputs[::-1] if is_reverse else outputs
        return torch.stack(outputs) if sizes is None else torch.cat(outputs), state


def _mode(layer: nn.RNNBase | nn.RNNCellBase) -> str:
    if isinstance(layer, nn.RNNBase):
        return layer.mode
    if isinstance(layer, nn.RNNCell):
        return f"RNN_{layer.nonlinearity.upper()}"
    return "LSTM" if isinstance(layer, nn.LSTMCell) else "GRU"


class Int8Recurrent(nn.Module):
    """An LSTM, GRU or RNN: takes and returns what torch's takes and returns, packed sequences too."""

    computes_int8 = True

    def __init__(self, cells: Sequence[Int8Cell], *, num_directions: int, batch_first: bool) -> None:
        super().__init__()
        self.cells = nn.ModuleList(cells)
        self.num_directions, self.batch_first = num_directions, batch_first

    @classmethod
    def from_float(cls, layer: nn.RNNBase, *, bits: int = 8, is_per_channel: bool = True) -> Self:
        """The same layer in int8; dropout between its layers is left out, as in evaluation mode."""
        ends = ("", "_reverse") if layer.bidirectional else ("",)
        suffixes = [f"_l{place}{end}" for place in range(layer.num_layers) for end in ends]
        cells = [
            Int8Cell.from_float(layer, suffix=suffix, bits=bits, is_per_channel=is_per_channel) for suffix in suffixes
        ]
        return cls(cells, num_directions=len(ends), batch_first=layer.batch_first)

    def forward(self, x: Any, state: Any = None) -> Any:
        """(T, B, I), (B, T, I) if `batch_first`, (T, I) or a PackedSequence, and an initial state as torch takes it."""
        if isinstance(x, PackedSequence):
            return self._run_packed(x, state)
        is_batched = x.dim() == 3
        steps = x.transpose(0, 1) if is_batched and self.batch_first else x if is_batched else x[:, None]
        given = (state,) if isinstance(state, Tensor) else state
        if given is not None and not is_batched:
            given = [part[:, None] for part in given]
        y, new = self._run(steps, None, given)
        if not is_batched:
            return y[:, 0], self._as_given(tuple(part[:, 0] for part in new))
        return y.transpose(0, 1) if self.batch_first else y, self._as_given(new)

    def _run_packed(self, x: PackedSequence, state: Any) -> Any:
        given = (state,) if isinstance(state, Tensor) else state
        if given is not None and x.sorted_indices is not None:
            given = [part.index_select(1, x.sorted_indices) for part in given]
        y, new = self._run(x.data, x.batch_sizes.tolist(), given)
        if x.unsorted_indices is not None:
            new = tuple(part.index_select(1, x.unsorted_indices) for part in new)
        return PackedSequence(y, x.batch_sizes, x.sorted_indices, x.unsorted_indices), self._as_given(new)

    def _run(self, x: Tensor, sizes: Sizes, given: Any) -> tuple[Tensor, State]:
        """Outputs (..., directions * H) and the last states (layers * directions, B, H)."""
        last, outputs = [], []
        for place, cell in enumerate(self.cells):
            assert isinstance(cell, Int8Cell)
            zeros = (x.new_zeros(sizes[0] if sizes else x.shape[1], size) for size in cell.state_sizes)
            state = tuple(zeros) if given is None else tuple(part[place] for part in given)
            y, state = cell.run(x, sizes, state, is_reverse=place % 2 == 1 and self.num_directions == 2)
            outputs.append(y)
            last.append(state)
            if len(outputs) == self.num_directions:
                x, outputs = torch.cat(outputs, -1), []
        return x, tuple(torch.stack(parts) for parts in zip(*last, strict=True))

    def _as_given(self, state: State) -> State | Tensor:
        return state if len(state) == 2 else state[0]
