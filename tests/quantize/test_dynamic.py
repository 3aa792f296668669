"""Dynamic quantization: linear and recurrent layers, in containers and bare."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence
from torchvision.models.swin_transformer import SwinTransformer

from dlkit.core.models import lstm
from dlkit.errors import UsageError
from dlkit.quantize import Recipe, count_int8_kernels, layer_statuses, pick_reduce, quantize_dynamic

ENGINES = ("x86", "fbgemm", "onednn", "qnnpack")
DYNAMIC = Recipe("dynamic", "x86")


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def first(outputs):
    return outputs[0] if isinstance(outputs, tuple) else outputs


def relative_error(network, quantized, inputs):
    with torch.no_grad():
        expected, found = first(network(inputs)), first(quantized(inputs))
    return float((expected - found).norm() / expected.norm())


@pytest.mark.parametrize("is_per_channel", [True, False])
@pytest.mark.parametrize("backend", ENGINES)
def test_a_recurrent_classifier(backend, is_per_channel):
    network = lstm([12, 8], 5, hidden_size=32, num_layers=2, bidirectional=True).eval()
    recipe = Recipe("dynamic", backend, is_per_channel=is_per_channel, reduce=pick_reduce(backend))
    x = torch.randn(4, 12, 8)
    quantized = quantize_dynamic(network, recipe, example=x)
    assert relative_error(network, quantized, x) < 0.05
    assert [(row.name, row.is_int8) for row in layer_statuses(network, quantized, recipe)] == [
        ("lstm", True),
        ("fc", True),
    ]
    # two layers of two directions: each multiplies its input once and its state 12 times
    assert sum(count_int8_kernels(quantized, x).values()) == 2 * 2 * (1 + 12) + 1
    with torch.no_grad():
        assert torch.equal(quantized(x[:1]), quantize_dynamic(network, recipe)(x[:1]))


@pytest.mark.parametrize("layer", [
    nn.LSTM(8, 16), nn.LSTM(8, 16, 2, bias=False, bidirectional=True), nn.LSTM(8, 16, proj_size=4), nn.GRU(8, 16),
    nn.GRU(8, 16, bias=False), nn.RNN(8, 16), nn.RNN(8, 16, nonlinearity="relu"), nn.Linear(8, 16), nn.Linear(8, 16, bias=False),
], ids=str)  # fmt: skip
@pytest.mark.filterwarnings("ignore:LSTM with projections")  # of the float layer
def test_a_bare_layer(layer):
    x = torch.randn(5, 3, 8)
    quantized = quantize_dynamic(layer, DYNAMIC)
    assert relative_error(layer, quantized, x) < 0.05
    assert count_int8_kernels(quantized, x) and layer_statuses(layer, quantized, DYNAMIC)[0].is_int8


@pytest.mark.parametrize(
    "cell", [nn.LSTMCell(8, 16), nn.LSTMCell(8, 16, bias=False), nn.GRUCell(8, 16), nn.RNNCell(8, 16)], ids=str
)
def test_cells(cell):
    quantized = quantize_dynamic(cell, DYNAMIC)
    assert relative_error(cell, quantized, torch.randn(3, 8)) < 0.05
    assert count_int8_kernels(quantized, torch.randn(3, 8))


def test_packed_sequences():
    network, lengths = nn.LSTM(8, 16), [5, 4, 2]
    packed = pack_padded_sequence(torch.randn(5, 3, 8), lengths)
    with torch.no_grad():
        expected, found = network(packed)[0].data, quantize_dynamic(network, DYNAMIC)(packed)[0].data
    assert (expected - found).norm() < 0.05 * expected.norm()


class Scaled(nn.Linear):
    """A subclass may compute something else."""

    def forward(self, x):
        return 2 * super().forward(x)


def test_what_has_no_int8_form_stays_with_its_reason():
    network = nn.ModuleDict({"a": Scaled(8, 8), "c": nn.Conv1d(8, 8, 1), "d": nn.Linear(8, 8)})
    recipe = Recipe("dynamic", "x86", keep_float=("d",))
    rows = {row.name: row for row in layer_statuses(network, quantize_dynamic(network, recipe), recipe)}
    assert not any(row.is_int8 for row in rows.values())
    for name, words in (("a", "not this class"), ("c", "linear and recurrent"), ("d", "user")):
        assert words in rows[name].reason


def test_keep_float_changes_exactly_those():
    network = nn.Sequential(nn.Linear(8, 8), nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)), nn.Linear(8, 2))
    recipe = Recipe("dynamic", "x86", keep_float=("1",))
    rows = layer_statuses(network, quantize_dynamic(network, recipe), recipe)
    assert [row.name for row in rows if row.is_int8] == ["0", "2"]
    with pytest.raises(UsageError, match="no module 'one'"):
        quantize_dynamic(network, Recipe("dynamic", "x86", keep_float=("one",)))


def test_attention_keeps_the_weight_that_it_reads_itself():
    network = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True).eval()
    x = torch.randn(2, 5, 16)
    quantized = quantize_dynamic(network, DYNAMIC, example=x)
    assert relative_error(network, quantized, x) < 0.05
    assert sum(count_int8_kernels(quantized, x).values()) == 2


def test_layers_whose_weights_are_read_from_outside_stay():
    """torchvision's Swin hands the weights of its linear layers to a function; an int8 layer has none to hand."""
    network = SwinTransformer([4, 4], 16, [2], [2], [4, 4], num_classes=5).eval()
    x = torch.randn(1, 3, 32, 32)
    quantized = quantize_dynamic(network, DYNAMIC, example=x)
    assert relative_error(network, quantized, x) < 0.1
    rows = {row.name: row for row in layer_statuses(network, quantized, DYNAMIC)}
    assert rows["head"].is_int8 and "without calling" in rows["features.1.0.attn.qkv"].reason


def test_the_network_stays_as_it_was():
    network = nn.Sequential(nn.Linear(8, 8), nn.Dropout()).train()
    quantize_dynamic(network, DYNAMIC, example=torch.randn(2, 8))
    assert type(network[0]) is nn.Linear and all(module.training for module in network.modules())
    assert not network[0]._forward_pre_hooks


@pytest.mark.parametrize("layer", [nn.Linear(8, 16), nn.LSTM(8, 16, 2, bidirectional=True), nn.GRUCell(8, 16)], ids=str)
def test_the_state_is_plain_tensors_and_loads_strictly(layer):
    quantized = quantize_dynamic(nn.Sequential(layer), DYNAMIC)
    state = quantized.state_dict()
    assert state and not any(value.is_quantized for value in state.values())
    with torch.no_grad():
        other = copy.deepcopy(layer)
        for parameter in other.parameters():
            parameter.mul_(1.5)
        loaded = quantize_dynamic(nn.Sequential(other), DYNAMIC)
        x = torch.randn(5, 8)
        assert not torch.equal(first(loaded(x)), first(quantized(x)))
        loaded.load_state_dict(state, strict=True)
        assert torch.equal(first(loaded(x)), first(quantized(x)))
