"""Recurrent layers with int8 products against torch's own in float32."""

import itertools

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from dlkit.quantize.int8 import Int8Cell, Int8Recurrent, available_kernels, bind_kernels, weight_bits

KINDS = {"LSTM": nn.LSTM, "GRU": nn.GRU, "RNN": nn.RNN}
NAMES = [kernels.name for kernels in available_kernels() if kernels.name != "plain"]
CLOSE = 0.05  # outputs lie in -1..1; a wrong gate order, direction or state is off by 0.3 and more


def both(kind, name="reference", **options):
    torch.manual_seed(0)
    layer = KINDS[kind](6, 8, **options).eval()
    ours = Int8Recurrent.from_float(layer, bits=weight_bits(name))
    bind_kernels(ours, name)
    return layer, ours


def states(kind, layer, batch, seed=1):
    num = layer.num_layers * (2 if layer.bidirectional else 1)
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(num, batch, layer.proj_size or 8, generator=generator) / 2
    return (hidden, torch.randn(num, batch, 8, generator=generator) / 2) if kind == "LSTM" else hidden


def check(got, want):
    if isinstance(want, torch.Tensor):
        assert got.shape == want.shape
        assert (got - want).abs().max() < CLOSE
    elif isinstance(want, PackedSequence):
        assert torch.equal(got.batch_sizes, want.batch_sizes)
        check(pad_packed_sequence(got)[0], pad_packed_sequence(want)[0])
    else:
        assert len(got) == len(want)
        for one, other in zip(got, want):
            check(one, other)


@pytest.mark.parametrize(("kind", "num_layers", "bidirectional", "batch_first"),
                         list(itertools.product(KINDS, (1, 2, 3), (False, True), (False, True))))  # fmt: skip
@torch.no_grad()
def test_all_shapes(kind, num_layers, bidirectional, batch_first):
    options = {"num_layers": num_layers, "bidirectional": bidirectional, "batch_first": batch_first}
    layer, ours = both(kind, **options)
    x = torch.randn(5, 3, 6)
    batch = 5 if batch_first else 3
    check(ours(x), layer(x))
    check(ours(x, states(kind, layer, batch)), layer(x, states(kind, layer, batch)))
    alone = torch.randn(7, 6)
    check(ours(alone), layer(alone))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("enforce_sorted", [True, False])
@pytest.mark.parametrize("bidirectional", [True, False])
@torch.no_grad()
def test_packed_sequences(kind, enforce_sorted, bidirectional):
    layer, ours = both(kind, num_layers=2, bidirectional=bidirectional)
    lengths = [5, 3, 3, 1] if enforce_sorted else [3, 1, 5, 3]
    x = pack_padded_sequence(torch.randn(5, 4, 6), lengths, enforce_sorted=enforce_sorted)
    check(ours(x), layer(x))
    check(ours(x, states(kind, layer, 4)), layer(x, states(kind, layer, 4)))


@pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")
@torch.no_grad()
def test_projections():
    layer, ours = both("LSTM", num_layers=2, bidirectional=True, proj_size=3)
    x = torch.randn(5, 2, 6)
    check(ours(x, states("LSTM", layer, 2)), layer(x, states("LSTM", layer, 2)))


@torch.no_grad()
def test_other_options():
    for options in ({"bias": False}, {"nonlinearity": "relu"}):
        layer, ours = both("RNN", **options)
        x = torch.randn(5, 2, 6)
        check(ours(x), layer(x))
    layer, ours = both("GRU", num_layers=2, dropout=0.5)
    check(ours(x), layer(x))


@pytest.mark.parametrize(
    "build", [nn.LSTMCell, nn.GRUCell, nn.RNNCell, lambda *sizes: nn.RNNCell(*sizes, nonlinearity="relu")]
)
@torch.no_grad()
def test_cells(build):
    torch.manual_seed(0)
    layer = build(6, 8)
    ours = Int8Cell.from_float(layer)
    bind_kernels(ours, "reference")
    x, state = torch.randn(3, 6), torch.randn(3, 8)
    state = (state, state) if isinstance(layer, nn.LSTMCell) else state
    check(ours(x), layer(x))
    check(ours(x, state), layer(x, state))
    check(ours(x[0]), layer(x[0]))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_every_adapter(kind, name):
    layer, ours = both(kind, name, num_layers=2, bidirectional=True)
    x = torch.randn(9, 4, 6)
    check(ours(x), layer(x))


@torch.no_grad()
def test_it_is_int8():
    """The error of 8 bits is there: a layer that computes in float32 by mistake would have none."""
    layer, ours = both("LSTM")
    x = torch.randn(9, 4, 6)
    assert 1e-4 < (ours(x)[0] - layer(x)[0]).abs().max() < CLOSE
    weights = ours.state_dict()
    assert {value.dtype for name, value in weights.items() if name.endswith("weight")} == {torch.int8}
