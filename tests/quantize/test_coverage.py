"""Which layers are int8 and why not, and the proof that int8 kernels run."""

import pytest
import torch
from torch import nn

from dlkit.core.models import is_int8_layer
from dlkit.errors import UsageError
from dlkit.quantize import LayerStatus, Recipe, count_int8_kernels, float_weights_note, layer_statuses, require_int8
from dlkit.quantize.graph import convert
from dlkit.quantize.int8 import Int8Conv2d, Quantize
from dlkit.quantize.ptq import observe_network

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Mixed(nn.Module):
    """One of nearly everything that can happen to a layer."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.act = nn.SiLU()
        self.kept = nn.Conv2d(8, 8, 1)
        self.up = nn.ConvTranspose2d(8, 8, 2, stride=2)
        self.lstm = nn.LSTM(8, 8)
        self.read = nn.Linear(8, 8)
        self.unused = nn.Linear(2, 2)
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        x = self.act(self.norm(self.conv(x)))
        x = self.up(self.kept(x) + x).mean((2, 3))
        x, _ = self.lstm(x.unsqueeze(0))
        return self.head(x.squeeze(0) @ self.read.weight)


def rows_for(recipe, kept=None):
    network = Mixed().eval()
    with torch.no_grad():
        quantized = convert(observe_network(network, recipe, [X]), recipe)
    return {row.name: row for row in layer_statuses(network, quantized, recipe, kept=kept)}


def test_every_layer_has_a_row_and_every_float_one_a_reason():
    recipe = Recipe("static", "x86", keep_float=("kept",), reduce="weights")
    rows = rows_for(recipe)
    modules = {"conv", "norm", "act", "kept", "up", "lstm", "read", "unused", "head"}
    assert modules <= set(rows)
    assert {name for name in modules if rows[name].is_int8} == {"conv", "norm", "act", "up", "head"}
    assert all(row.reason for row in rows.values() if not row.is_int8)
    for name, words in (
        ("norm", "folded"), ("act", "in conv"), ("kept", "by the user"), ("lstm", "--dynamic"),
        ("read", "without calling"), ("unused", "does not run"),
    ):  # fmt: skip
        assert words in rows[name].reason, name
    assert rows["add"].type == "add" and not rows["add"].is_int8


def test_sums_of_tensors_are_rows_and_sums_with_numbers_are_none():
    class Arithmetic(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1)

        def forward(self, x):
            x = self.first(x)
            x = x * x.sigmoid()
            return self.last(x * 0.5 - 1) * 3

    recipe = Recipe("static", "x86", reduce="weights")
    network = Arithmetic().eval()
    with torch.no_grad():
        rows = layer_statuses(network, convert(observe_network(network, recipe, [X]), recipe), recipe)
    assert {(row.type, row.is_int8) for row in rows} == {("Conv2d", True), ("sigmoid", True), ("mul", True)}
    assert sum(row.type == "mul" for row in rows) == 1


def test_the_reason_of_whoever_kept_it():
    recipe = Recipe("static", "x86", keep_float=("kept",), reduce="weights")
    assert rows_for(recipe, {"kept": "kept by the accuracy search"})["kept"].reason == "kept by the accuracy search"


def test_float_networks_count_no_kernels_and_are_refused():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.SiLU())
    assert count_int8_kernels(network, X) == {}
    recipe = Recipe("static", "x86", keep_float=("0",))
    with torch.no_grad():
        quantized = convert(observe_network(network, recipe, [X]), recipe)
    rows = layer_statuses(network, quantized, recipe)
    with pytest.raises(UsageError, match=r"still float: no layer became int8. kept in float by the user \(1 layer\)"):
        require_int8(rows, count_int8_kernels(quantized, X))
    with pytest.raises(UsageError, match="has no layer that could be int8"):
        require_int8([], {})
    with pytest.raises(UsageError, match="no int8 kernel ran"):
        require_int8([LayerStatus("0", "Conv2d", True)], {})
    require_int8([LayerStatus("0", "Conv2d", True)], {"quantized::conv2d": 1})


def test_int8_layers_say_so():
    recipe = Recipe("static", "x86", reduce="weights")
    with torch.no_grad():
        program = convert(observe_network(nn.Sequential(nn.Conv2d(3, 4, 1)), recipe, [X]), recipe)
    found = {type(module) for module in program.modules() if is_int8_layer(module)}
    assert Int8Conv2d in found and found <= {Int8Conv2d, Quantize}
    assert not is_int8_layer(nn.Conv2d(3, 4, 1)) and not is_int8_layer(nn.Identity())


def test_mostly_float_networks_are_told_so():
    class Series(nn.Module):
        def __init__(self, hidden):
            super().__init__()
            self.gru, self.head = nn.GRU(4, hidden, batch_first=True), nn.Linear(hidden, 64)

        def forward(self, x):
            return self.head(self.gru(x)[0][:, -1])

    recipe, notes = Recipe("static", "x86"), {}
    for hidden in (4, 64):
        network = Series(hidden).eval()
        quantized = convert(observe_network(network, recipe, [torch.randn(4, 7, 4)]), recipe)
        notes[hidden] = float_weights_note(network, layer_statuses(network, quantized, recipe))
    assert notes[4] is None
    assert notes[64] == (
        "76% of the weights stay in float, so that the file is hardly smaller; of gru: recurrent layers are int8 only by --dynamic"
    )
