"""Int8 ONNX files: that every layer computes what torch's does, in int8 kernels, from int8 weights, at any batch size."""

import itertools
import math
from collections import Counter

import numpy as np
import onnx
import pytest
import torch
import torchvision
from onnx import TensorProto, numpy_helper
from torch import nn
from torch.fx import Graph, GraphModule

from dlkit.core.export import check_onnx, export_onnx, start_session
from dlkit.errors import DlkitError, UsageError
from dlkit.quantize import Recipe, pick_reduce, quantize_dynamic
from dlkit.quantize.graph import convert, prepare
from dlkit.quantize.int8 import (
    Affine,
    Dequantize,
    Epilogue,
    Int8Clamp,
    Int8Conv,
    Int8Conv2d,
    Int8Layer,
    Int8MaxPool,
    Int8Product,
    PoolGeometry,
    Quantize,
    bind_kernels,
    dequantize,
    quantize,
)
from dlkit.quantize.ptq import observe_network

INT8 = Recipe("static", "x86", reduce="weights")
FLOAT_KERNELS = {"Conv", "FusedConv", "Gemm", "FusedGemm", "MatMul", "FusedMatMul"}


class SmallNet(nn.Module):
    """One of each: fused ReLU, depthwise with BN and ReLU6, hard-swish, gating, residual, concatenation, pooling, linear."""

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.depthwise = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.BatchNorm2d(8), nn.ReLU6())
        self.swish = nn.Sequential(nn.Conv2d(8, 8, 1), nn.Hardswish())
        self.squeeze = nn.AdaptiveAvgPool2d(1)
        self.gate = nn.Sequential(nn.Conv2d(8, 8, 1), nn.Sigmoid())
        self.pool = nn.MaxPool2d(2)
        self.mixed = nn.Conv2d(16, 12, 3, stride=2, padding=1)
        self.hidden = nn.Linear(12, 16)
        self.head = nn.Linear(16, 5)

    def forward(self, x):
        x = self.first(x)
        y = self.swish(self.depthwise(x))
        x = self.pool(x + y * self.gate(self.squeeze(y)))
        x = torch.cat([x, self.pool(y)], dim=1)
        x = self.mixed(x).mean((2, 3))
        return self.head(torch.relu(self.hidden(x)))


def images(count=4, size=12, seed=1):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def small_net():
    torch.manual_seed(0)
    net = SmallNet().train()
    for seed in range(3):
        net(images(16, seed=seed))
    return net.eval()


def quantized(recipe):
    if recipe.mode == "static":
        return convert(observe_network(small_net(), recipe, [images(16)]), recipe)
    prepared = prepare(small_net(), recipe, images())
    for seed in range(3):
        prepared(images(16, seed=seed))
    return convert(prepared, recipe)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The int8 network, the model in its file, the file and its parity."""
    network, path = quantized(INT8), tmp_path_factory.mktemp("onnx") / "net.onnx"
    parity = export_onnx(network, path, images())
    return network, onnx.load(path), path, parity


def constants(model):
    return {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}


def running_kernels(path, folder):
    start_session(path, optimized_path=folder / "optimized.onnx")
    return Counter(node.op_type for node in onnx.load(folder / "optimized.onnx").graph.node)


def test_every_layer_computes_what_torch_does(exported):
    network, _, path, parity = exported
    assert parity.layer_steps <= 1 and parity.samples == 3 and parity.agreement == 1
    assert check_onnx(path, network, images(64, seed=5)).max_abs < 0.03 * parity.output_max


@pytest.mark.parametrize("count", [1, 3, 16])
def test_the_batch_axis_is_free(exported, count):
    network, _, path, parity = exported
    assert check_onnx(path, network, images(count)).max_abs < 0.03 * parity.output_max


def test_weights_are_int8_and_those_of_the_converted_network(exported):
    network, model, _, _ = exported
    held = constants(model)
    weights = [value for value in held.values() if value.dtype == np.int8 and value.ndim > 1]
    layers = [layer.weight for layer in network.modules() if isinstance(layer, Int8Product)]
    assert len(layers) == 7 and len(weights) == 7
    for layer in layers:
        assert any(np.array_equal(layer.numpy(), weight) for weight in weights)
    assert not [name for name, value in held.items() if value.dtype == np.float32 and value.ndim > 1]


def test_scales_go_by_output_channel_and_biases_are_int32(exported):
    held = constants(exported[1])
    dequantized = {node.input[0]: node for node in exported[1].graph.node if node.op_type == "DequantizeLinear"}
    weights = [name for name, value in held.items() if value.dtype == np.int8 and value.ndim > 1]
    for name in weights:
        node = dequantized[name]
        assert {attribute.name: attribute.i for attribute in node.attribute} == {"axis": 0}
        assert held[node.input[1]].shape == held[node.input[2]].shape == held[name].shape[:1]
    assert sum(value.dtype == np.int32 and value.any() for value in held.values()) == len(weights)


def test_onnx_runtime_runs_it_in_int8_kernels(exported, tmp_path):
    kernels = running_kernels(exported[2], tmp_path)
    assert not sum(kernels[name] for name in FLOAT_KERNELS)
    assert kernels["QLinearConv"] == 5 and kernels["QGemm"] == 2
    assert kernels["QLinearAdd"] == kernels["QLinearMul"] == kernels["QLinearSigmoid"] == 1
    assert kernels["QLinearGlobalAveragePool"] == 2


CASES = list(itertools.product((0.003, 0.0431, 6 / 255), (0, 17, 128), (nn.ReLU, nn.ReLU6, nn.Hardtanh)))
EVERY_PAIR = [case for place, case in enumerate(CASES) if (place // 9 + place // 3 + place) % 3 == 0]
INPUT_SCALE = 0.02


def clamped(cases, start):
    """A program with a branch for every case: a convolution, a pool and a clamp that is not fused with it."""
    graph, parts = Graph(), {"quantize": Quantize(start)}
    codes = graph.call_module("quantize", (graph.placeholder("x"),))
    results = []
    for number, (scale, zero_point, kind) in enumerate(cases):
        layer = nn.Conv2d(1, 1, 1)
        nn.init.constant_(layer.weight, scale / INPUT_SCALE)
        made = Int8Conv2d.from_float(layer, x=start, epilogue=Epilogue(Affine(1.0, zero_point)))
        made.y = y = Affine(float(made.real_weight()) * INPUT_SCALE, zero_point)
        made.bias = torch.tensor([-y.scale * zero_point])
        low, high = {nn.ReLU: (0, math.inf), nn.ReLU6: (0, 6), nn.Hardtanh: (-1, 1)}[kind]
        pool = Int8MaxPool(y, PoolGeometry((1, 1), (1, 1), (0, 0)))
        result = codes
        for name, part in (
            ("conv", made),
            ("pool", pool),
            ("clamp", Int8Clamp(y, low=low, high=high)),
            ("real", Dequantize(y)),
        ):
            parts[f"{name}{number}"] = part
            result = graph.call_module(f"{name}{number}", (result,))
        results.append(result)
    graph.output(graph.call_function(torch.stack, (results, 1)))
    program = GraphModule(parts, graph)
    bind_kernels(program, "reference")
    return program


@pytest.mark.parametrize("cases", [EVERY_PAIR, pytest.param(CASES, marks=pytest.mark.slow)], ids=["pairs", "all"])
def test_clipping_on_a_grid_is_clipping_of_integers(tmp_path, cases):
    """All 256 integers through Relu and Clip; each layer makes of an integer of the input the same one of its own grid."""
    codes = torch.arange(256).reshape(256, 1, 1, 1)
    x, expected = INPUT_SCALE * codes, []
    network = clamped(cases, Affine(INPUT_SCALE, 0))
    for number, (_, zero_point, kind) in enumerate(cases):
        y = network.get_submodule(f"conv{number}").y
        expected.append(dequantize(quantize(kind()(y.scale * (codes - zero_point)), y), y))
    export_onnx(network, tmp_path / "net.onnx", x, inputs=x)
    found = start_session(tmp_path / "net.onnx").run(None, {"input": x.numpy()})[0]
    np.testing.assert_allclose(found, torch.stack(expected, 1), rtol=1e-5)
    model = onnx.load(tmp_path / "net.onnx")
    kinds, held = Counter(node.op_type for node in model.graph.node), constants(model)
    assert "Relu" not in kinds and kinds["QuantizeLinear"] <= 1 + 2 * len(cases)
    assert {held[node.input[1]].dtype for node in model.graph.node if node.op_type == "Clip"} == {np.dtype(np.uint8)}


@pytest.mark.parametrize(
    "recipe",
    [Recipe("static", "x86", reduce="activations"), Recipe("static", "x86", reduce="weights", is_per_channel=False),
     Recipe("qat", "x86", reduce="weights"), Recipe("static", "onednn"), Recipe("static", "qnnpack")],
    ids=lambda recipe: f"{recipe.mode}-{recipe.backend}-{recipe.reduce}-{recipe.is_per_channel}",
)  # fmt: skip
def test_other_recipes(recipe, tmp_path):
    if recipe.backend not in torch.backends.quantized.supported_engines:
        pytest.skip(f"no engine {recipe.backend} here")
    if recipe.backend == "onednn" and not torch.cpu._is_vnni_supported():
        pytest.skip("onednn saturates with 8 bits where the CPU has no VNNI")
    assert export_onnx(quantized(recipe), tmp_path / "net.onnx", images()).layer_steps <= 1


def test_what_lies_beyond_the_calibrated_range_comes_out_the_same(tmp_path):
    """Seven bits are a range for calibration; the kernels go on to 255, and so must the file."""
    network = quantized(Recipe("static", "x86", reduce="activations"))
    far = 20 * images(8, seed=9)
    first = quantize(far, network.get_submodule("first.0").x)
    assert int(first.max()) == 255, "the test must leave the range of 0 to 127"
    parity = export_onnx(network, tmp_path / "net.onnx", images(), inputs=far)
    assert parity.layer_steps <= 1 and parity.max_abs < 0.05 * parity.output_max


def test_what_runtimes_cut_off_before_an_activation_is_no_difference_of_the_layer(tmp_path):
    """SiLU rises again below -1.3, where runtimes have no codes for sums that calibration never saw."""
    torch.manual_seed(0)
    squeeze = nn.Sequential(
        nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 10, 1), nn.SiLU(), nn.Conv2d(10, 3, 1), nn.Flatten()
    ).eval()
    network = convert(observe_network(squeeze, INT8, [images(64)]), INT8)
    with torch.no_grad():
        network.get_submodule("1").replace_bias(network.get_submodule("1").bias - 3)
    assert export_onnx(network, tmp_path / "net.onnx", images()).layer_steps <= 2


def test_a_bias_that_was_corrected_is_in_the_file(tmp_path):
    network = quantized(INT8)
    layer = network.get_submodule("head")
    moved_by = 0.25 * float(layer.weight_scale.max()) * layer.x.scale * 127 * 127
    layer.bias.add_(moved_by)
    layer.bind(layer.kernels)
    before = start_session(export_bytes(quantized(INT8), tmp_path / "before.onnx"))
    after = start_session(export_bytes(network, tmp_path / "after.onnx"))
    moved = after.run(None, {"input": images().numpy()})[0] - before.run(None, {"input": images().numpy()})[0]
    assert np.median(moved) == pytest.approx(moved_by, rel=0.1)


def export_bytes(network, path):
    export_onnx(network, path, images())
    return path.read_bytes()


def test_a_channel_without_weights_keeps_its_bias(tmp_path):
    """Its scale is next to nothing, and its bias on that grid would leave int32."""
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1), nn.Flatten()).eval()
    with torch.no_grad():
        net[0].weight[1] = 0
        net[0].bias[1] = 40.0
    batch = images(4, size=4) / 1000
    network = convert(observe_network(net, INT8, [batch]), INT8)
    parity = export_onnx(network, tmp_path / "net.onnx", batch, inputs=batch)
    assert parity.layer_steps <= 1
    assert check_onnx(tmp_path / "net.onnx", net, batch).max_abs < 0.05 * parity.output_max


def test_a_file_that_computes_something_else_is_not_written(tmp_path):
    (tmp_path / "net.onnx").write_text("mine")

    def spoil(layer, inputs, output):  # a hook is no part of the file
        return 255 - output

    network = quantized(INT8)
    network.get_submodule("swish.0").register_forward_hook(spoil)
    with pytest.raises(DlkitError, match="on equal input its swish_0 differs by .* steps"):
        export_onnx(network, tmp_path / "net.onnx", images())
    assert (tmp_path / "net.onnx").read_text() == "mine" and len(list(tmp_path.iterdir())) == 1


class Other(Int8Layer):
    def __init__(self, x):
        super().__init__()
        self.x = x

    def bind(self, kernels):
        pass

    def forward(self, x):
        return x[:, :, ::2, ::2]


def test_a_layer_that_onnx_does_not_have(tmp_path):
    network = quantized(INT8)
    network.set_submodule("pool", Other(network.get_submodule("pool").x))
    with pytest.raises(UsageError, match=r"pool \(Other\) has no int8 counterpart.*--keep-float pool"):
        export_onnx(network, tmp_path / "net.onnx", images())
    assert not list(tmp_path.iterdir())


class Recurrent(nn.Module):
    def __init__(self, kind=nn.LSTM, hidden=None, **options):
        super().__init__()
        self.recurrent = kind(6, 10, batch_first=True, **options)
        self.head = nn.Linear(hidden or (20 if options.get("bidirectional") else 10), 3)

    def forward(self, x):
        outputs, state = self.recurrent(x)
        last = state[0] if isinstance(state, tuple) else state
        return self.head(outputs[:, -1]) + last.mean()


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}], ids=["plain", "deep"])
def test_dynamic_lstm_and_linear(tmp_path, options, per_channel):
    torch.manual_seed(0)
    net, batch = Recurrent(**options).eval(), torch.randn(5, 7, 6)
    network = quantize_dynamic(net, Recipe("dynamic", "x86", is_per_channel=per_channel, reduce=pick_reduce("x86")))
    parity = export_onnx(network, tmp_path / "net.onnx", batch, inputs=batch)
    assert parity.max_abs < 0.05 * parity.output_max and parity.layer_steps is None
    assert check_onnx(tmp_path / "net.onnx", net, batch).max_abs < 0.05 * parity.output_max
    types = {
        item.data_type
        for item in onnx.load(tmp_path / "net.onnx").graph.initializer
        if len(item.dims) > 1 and item.dims[-1] > 2
    }
    assert TensorProto.INT8 in types


class Cells(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.cell, self.head = kind(6, 10), nn.Linear(10, 3)

    def forward(self, x):
        state = None
        for step in x.unbind(1):
            state = self.cell(step, state)
        return self.head(state[0] if isinstance(state, tuple) else state)


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize(
    "net",
    [Recurrent(nn.GRU, num_layers=2, bidirectional=True), Recurrent(nn.RNN, bias=False), Recurrent(nn.LSTM, bias=False),
     Recurrent(nn.LSTM, hidden=4, proj_size=4), Cells(nn.LSTMCell), Cells(nn.GRUCell), Cells(nn.RNNCell)],
    ids=["gru", "rnn", "lstm-no-bias", "projected", "lstm-cell", "gru-cell", "rnn-cell"],
)  # fmt: skip
def test_other_recurrent_layers(net, tmp_path):
    batch = torch.randn(5, 7, 6, generator=torch.Generator().manual_seed(0))
    recipe = Recipe("dynamic", "x86", reduce=pick_reduce("x86"))
    network = quantize_dynamic(net.eval(), recipe, example=batch)
    export_onnx(network, tmp_path / "net.onnx", batch, inputs=batch)
    assert check_onnx(tmp_path / "net.onnx", net, batch).max_abs < 0.05 * float(net(batch).detach().abs().max())


def tiny_transformer():
    sizes = {"image_size": 16, "patch_size": 8, "num_layers": 2, "num_heads": 2, "hidden_dim": 16, "mlp_dim": 32}
    return torchvision.models.VisionTransformer(**sizes, num_classes=5)


def mobilenet():
    return torchvision.models.mobilenet_v3_small(num_classes=5)


@pytest.mark.slow
@pytest.mark.parametrize("build", [mobilenet, tiny_transformer])
def test_torchvision_networks(build, tmp_path):
    torch.manual_seed(0)
    net, batch = build().eval(), images(2, size=16)
    network = convert(observe_network(net, INT8, [batch]), INT8)
    export_onnx(network, tmp_path / "net.onnx", batch)
    kernels = running_kernels(tmp_path / "net.onnx", tmp_path)
    assert kernels["QLinearConv"] == sum(
        isinstance(layer, Int8Conv) and layer.y is not None for layer in network.modules()
    )
    assert kernels["QGemm"] == (9 if hasattr(net, "encoder") else 2)
