"""Static quantization: what it computes, what it leaves alone, and the traps that torch.ao sets."""

import copy

import pytest
import torch
from dlkit.quantize.fx import convert, prepare, quantized_engine
from torch import nn
from torch.nn import functional as F
from torchvision.models import resnet18, vision_transformer
from torchvision.ops import SqueezeExcitation, StochasticDepth

from dlkit.errors import DataError, UsageError
from dlkit.events import Working
from dlkit.quantize import (
    Recipe,
    calibrate,
    clip_to_activations,
    count_int8_kernels,
    layer_statuses,
    observe_network,
    quantize_dynamic,
)

STATIC = Recipe("static", "x86", reduce="weights")
ENGINES = ("x86", "fbgemm", "onednn", "qnnpack")


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def sqnr_db(expected, found):
    return float(20 * torch.log10(expected.norm() / (expected - found).norm()))


def batches(*shape, count=3):
    return [torch.randn(shape) for _ in range(count)]


def warmed(network, inputs):
    """In evaluation mode, with batch norms that have seen the inputs."""
    network.train()
    with torch.no_grad():
        for batch in inputs:
            network(batch)
    return network.eval()


def quantize(network, data, recipe=STATIC):
    with torch.no_grad():
        return convert(observe_network(network, recipe, data), recipe)


def compare(network, data, recipe=STATIC):
    """SQNR of the int8 outputs on the first batch, and the int8 network."""
    quantized = quantize(network, data, recipe)
    with torch.no_grad():
        return sqnr_db(network(data[0]), quantized(data[0])), quantized


class Net(nn.Module):
    """Layers by name, and a forward that is given."""

    def __init__(self, forward, **layers):
        super().__init__()
        self.run = forward
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x):
        return self.run(self, x)


@pytest.mark.parametrize("backend", ENGINES)
def test_a_residual_network_is_int8_near_float_and_takes_any_batch(backend):
    data = batches(4, 3, 32, 32)
    network = warmed(resnet18(num_classes=7), data)
    found, quantized = compare(network, data, Recipe("static", backend, reduce="weights"))
    assert found > 20
    assert all(status.is_int8 for status in layer_statuses(network, quantized, STATIC))
    kernels = count_int8_kernels(quantized, data[0])
    assert kernels["quantized::conv2d"] + kernels["quantized::conv2d_relu"] == 20
    assert kernels["quantized::add_relu"] == 8 and kernels["quantized::linear"] == 1
    with torch.no_grad():
        for batch in (1, 3, 4):
            assert torch.equal(quantized(data[0][:batch]), quantized(data[0])[:batch])


def test_the_float_network_stays_as_it_was():
    """Calibration in training mode would move running statistics and drop units (trap 4.5)."""
    data = batches(4, 3, 8, 8)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5), nn.Conv2d(8, 4, 1)
    ).train()
    before = copy.deepcopy(network.state_dict())
    first, second = quantize(network, data), quantize(network, data)
    assert torch.equal(first(data[0]), second(data[0]))
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert all(module.training for module in network.modules())


def test_calibrating_reports_and_needs_data():
    data = batches(2, 3, 8, 8)
    prepared = prepare(nn.Sequential(nn.Conv2d(3, 4, 3)), STATIC, data[0])
    events = []
    calibrate(prepared, data, events.append)
    assert events[-1] == Working("calibrating", 3, 3)
    with pytest.raises(DataError, match="at least one batch"):
        calibrate(prepared, [])
    with pytest.raises(DataError, match="batch 1 .* not finite"):
        calibrate(prepared, [data[0] * float("nan")])


@pytest.mark.parametrize("backend", ENGINES)
def test_the_engine_is_put_back(backend):
    before = torch.backends.quantized.engine
    with pytest.raises(RuntimeError), quantized_engine(backend):
        assert torch.backends.quantized.engine == backend
        raise RuntimeError
    with pytest.raises(UsageError):
        prepare(Net(lambda self, x: x if x.sum() > 0 else -x), Recipe("static", backend), torch.ones(1))
    assert torch.backends.quantized.engine == before


def test_a_network_for_qnnpack_runs_as_on_arm():
    """Sums ask the engine that is set; the network brings its own and puts the other back (trap 4.23)."""
    data = batches(4, 3, 32, 32)
    quantized = quantize(warmed(resnet18(num_classes=7), data), data, Recipe("static", "qnnpack"))
    with torch.no_grad(), quantized_engine("qnnpack"):
        expected = quantized(data[0])
    with quantized_engine("x86"):
        assert torch.equal(quantized(data[0]), expected)
        with pytest.raises(ValueError, match="Input shape"):
            quantized(torch.zeros(3))
        assert torch.backends.quantized.engine == "x86"


@pytest.mark.parametrize("backend", ENGINES)
def test_copies_stay_with_their_engine(backend):
    """torch packs the weights of a copy for whichever engine is set."""
    data = batches(4, 3, 32, 32)
    quantized = quantize(warmed(resnet18(num_classes=7), data), data, Recipe("static", backend))
    copied = copy.deepcopy(copy.deepcopy(nn.ModuleList([quantized]))[0])
    with torch.no_grad():
        assert torch.equal(copied(data[0]), quantized(data[0]))
    recurrent = quantize_dynamic(nn.Sequential(nn.Linear(8, 8)), Recipe("dynamic", backend))
    with torch.no_grad():
        assert torch.equal(copy.deepcopy(recurrent)(data[0][0, 0, :, :8]), recurrent(data[0][0, 0, :, :8]))
    assert torch.backends.quantized.engine == "x86"


@pytest.mark.parametrize("backend", ENGINES)
def test_weights_have_a_scale_per_channel_unless_asked_otherwise(backend):
    """Channels of very different size, as depthwise layers have them, are lost with one scale (trap 4.4)."""
    conv = nn.Conv2d(16, 16, 3, groups=16, padding=1, bias=False)
    with torch.no_grad():
        conv.weight.mul_(torch.logspace(0, -3, 16).view(-1, 1, 1, 1))
    data = batches(8, 16, 8, 8)
    network = warmed(nn.Sequential(conv, nn.BatchNorm2d(16, momentum=None)), data)
    with torch.no_grad():
        network[1].weight.copy_(torch.logspace(0, -3, 16))  # the fold keeps the channels apart
    smallest = {}
    for is_per_channel in (True, False):
        recipe = Recipe("static", backend, is_per_channel=is_per_channel, reduce="weights")
        quantized = quantize(network, data, recipe)
        weight = quantized.get_submodule("0").weight()
        assert (weight.qscheme() == torch.per_channel_affine) is is_per_channel
        smallest[is_per_channel] = int(weight.int_repr()[-1].abs().max())
    assert smallest[True] >= 63 and smallest[False] == 0
    assert Recipe("static", backend).is_per_channel


@pytest.mark.parametrize(("reduce", "weights", "activations"), [
    ("weights", 64, 255), ("activations", 127, 127), ("none", 127, 255),
])  # fmt: skip
def test_who_gives_up_a_bit(reduce, weights, activations):
    """torch's own default takes it from the activations, on every x86 CPU (trap 4.2)."""
    conv = nn.Conv2d(1, 1, 1, bias=False)
    nn.init.ones_(conv.weight)
    data = [torch.linspace(0, 1, 64).view(1, 1, 8, 8)]
    quantized = quantize(nn.Sequential(conv), data, Recipe("static", "x86", "minmax", reduce=reduce))
    assert int(quantized.get_submodule("0").weight().int_repr().max()) == weights
    assert 1 / activations == pytest.approx(float(quantized.get_submodule("0").scale), rel=0.01)


SHARED = nn.Conv2d(3, 3, 3, padding=1)


@pytest.mark.parametrize("network", [
    nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)),
    nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()),
    nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.BatchNorm2d(8)),
    nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 8, 3)),
    nn.Sequential(nn.ConvTranspose2d(3, 8, 3), nn.BatchNorm2d(8)),
    nn.Sequential(nn.Flatten(), nn.Linear(192, 16), nn.BatchNorm1d(16)),
    Net(lambda self, x: self.b(torch.cat([x, self.c(x)], 1)), c=nn.Conv2d(3, 4, 1), b=nn.BatchNorm2d(7)),
    Net(lambda self, x: self.b1(self.c(x)) + self.b2(self.c(x * 3)), c=SHARED, b1=nn.BatchNorm2d(3), b2=nn.BatchNorm2d(3)),
    Net(lambda self, x: self.b(self.c(x)) + self.c(x), c=nn.Conv2d(3, 3, 1), b=nn.BatchNorm2d(3)),
], ids=["conv-bn", "conv-bn-relu", "conv-bn-bn", "bn-relu-conv", "transposed-bn", "linear-bn", "cat-bn", "conv with two bns",
        "conv with and without bn"])  # fmt: skip
def test_batch_norms_fold_soundly_or_stay(network):
    """The float graph after folding computes what it did (trap 4.8), and nothing is lost in int8."""
    data = batches(8, 3, 8, 8, count=10)
    warmed(network, data)
    for module in network.modules():  # statistics and weights that do show when a norm is left out
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias)
    with torch.no_grad():
        assert torch.allclose(prepare(network, STATIC, data[0])(data[0]), network(data[0]), atol=1e-4)
    found, quantized = compare(network, data)
    assert found > 25
    floats = {status.type for status in layer_statuses(network, quantized, STATIC) if not status.is_int8}
    assert floats <= {"ConvTranspose2d", "mul"}


def test_a_shared_layer_gets_a_scale_for_each_call():
    """One observer for two uses would clip the larger or lose the smaller (trap 4.16)."""
    network = Net(lambda self, x: (self.c(x), self.c(x * 100)), c=nn.Conv2d(3, 4, 3))
    data = batches(4, 3, 8, 8)
    quantized = quantize(network, data)
    with torch.no_grad():
        assert all(sqnr_db(*pair) > 25 for pair in zip(network(data[0]), quantized(data[0]), strict=True))
    statuses = {status.name: status for status in layer_statuses(network, quantized, STATIC)}
    assert statuses["c"].is_int8 and "2 times" in statuses["c"].reason
    scales = [float(quantized.get_submodule(name).scale) for name in ("c", "c_call2")]
    assert scales[1] / scales[0] == pytest.approx(100, rel=0.5)


def test_a_network_written_for_quantization_by_hand():
    """Stubs do nothing here, and a FloatFunctional that is used twice gets two grids (traps 4.16, 4.17)."""

    def forward(self, x):
        x = self.start(x)
        y = self.sums.add(self.c(x), x)
        return self.end(self.sums.add(y, self.wide(y)))

    wide = nn.Conv2d(3, 3, 1)
    nn.init.uniform_(wide.weight, -100, 100)
    layers = {"start": torch.ao.quantization.QuantStub(), "end": torch.ao.quantization.DeQuantStub()}
    sums = torch.ao.nn.quantized.FloatFunctional()
    network, data = Net(forward, c=nn.Conv2d(3, 3, 1), wide=wide, sums=sums, **layers).eval(), batches(4, 3, 8, 8)
    found, quantized = compare(network, data)
    assert found > 30 and count_int8_kernels(quantized, data[0]) == {"quantized::conv2d": 2, "quantized::add": 2}
    scales = [float(tensor) for name, tensor in quantized.named_buffers() if name.startswith("_scale")]
    assert len(scales) == 2 and max(scales) > 10 * min(scales)


@pytest.mark.parametrize(
    "shared", [nn.Hardswish(), nn.ReLU(), nn.Sigmoid(), nn.LeakyReLU(), nn.ReLU6(), nn.PReLU()], ids=str
)
def test_shared_activations(shared):
    def forward(self, x):
        return self.act(self.c2(self.act(self.c1(x))))

    network = Net(forward, c1=nn.Conv2d(3, 8, 3), c2=nn.Conv2d(8, 8, 3), act=shared)
    data = [batch * 10 for batch in batches(4, 3, 8, 8)]
    found, _ = compare(network, data)
    assert found > 25


@pytest.mark.parametrize(
    "relu",
    [torch.relu, torch.relu_, F.relu_, lambda x: x.relu(), lambda x: x.relu_(), lambda x: F.relu(x, inplace=True)],
    ids=["torch.relu", "torch.relu_", "F.relu_", "x.relu()", "x.relu_()", "F.relu"],
)
def test_every_way_to_write_a_relu_is_joined_to_the_layer_before_it(relu):
    def forward(self, x):
        x = relu(self.norm(self.conv(x)))
        return self.fc(relu(x + self.other(x)).mean((2, 3)))

    layers = {"conv": nn.Conv2d(3, 8, 3), "norm": nn.BatchNorm2d(8), "other": nn.Conv2d(8, 8, 1), "fc": nn.Linear(8, 4)}
    network, data = Net(forward, **layers), batches(4, 3, 8, 8)
    found, quantized = compare(warmed(network, data), data)
    kernels = count_int8_kernels(quantized, data[0])
    assert found > 25 and {"quantized::conv2d_relu", "quantized::add_relu"} <= kernels.keys()
    assert all(status.is_int8 for status in layer_statuses(network, quantized, STATIC))


@pytest.mark.parametrize("is_view", [False, True], ids=["read again", "view"])
def test_a_relu_in_place_that_others_see_stays(is_view):
    def forward(self, x):
        y = self.conv(x)
        part = y[:, :2] if is_view else y
        return self.last(part.relu_()) + self.last(y[:, :2])

    network, data = Net(forward, conv=nn.Conv2d(3, 2, 1), last=nn.Conv2d(2, 2, 1)), batches(4, 3, 8, 8)
    with torch.no_grad():
        assert torch.allclose(prepare(network, STATIC, data[0])(data[0]), network(data[0]), atol=1e-5)


def test_squeeze_and_excitation():
    """Two activations with zero points multiplied, and a sigmoid whose range is fixed (trap 4.18)."""
    network = nn.Sequential(nn.Conv2d(3, 16, 3), SqueezeExcitation(16, 4), nn.Hardswish(), nn.Conv2d(16, 4, 1))
    found, quantized = compare(network, batches(8, 3, 12, 12))
    assert found > 30
    scales = [
        float(tensor)
        for name, tensor in quantized.state_dict().items()
        if "scale_activation" in name and "scale_0" in name
    ]
    assert not scales or scales == [1 / 256]
    assert all(status.is_int8 for status in layer_statuses(network, quantized, STATIC))


@pytest.mark.parametrize("backend", ENGINES)
def test_transposed_convolutions_are_int8_only_where_the_kernel_is_right(backend):
    """torch has none for scales per channel (trap 4.20), and those of x86, fbgemm and onednn are wrong."""
    up = nn.ConvTranspose2d(8, 4, 2, stride=2, groups=4)
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), up, nn.ReLU(), nn.Conv2d(4, 2, 1))
    recipe = Recipe("static", backend, reduce="weights")
    found, quantized = compare(network, batches(4, 3, 8, 8), recipe)
    assert found > 25
    floats = [(row.type, row.reason) for row in layer_statuses(network, quantized, recipe) if not row.is_int8]
    assert [kind for kind, _ in floats] == ([] if backend == "qnnpack" else ["ConvTranspose2d"])
    assert all("wrong" in reason for _, reason in floats)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.act = nn.Hardswish()

    def forward(self, x):
        return F.relu(self.act(self.conv(x)) + x) * x


@pytest.mark.parametrize("keep", [("0",), ("2",), ("1",), ("1.conv",), ("0", "2")], ids=str)
def test_keep_float_changes_exactly_those(keep):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), Block(), nn.Conv2d(4, 2, 1))
    recipe = Recipe("static", "x86", keep_float=keep, reduce="weights")
    data = batches(2, 3, 8, 8)
    quantized = quantize(network, data, recipe)
    plain = {status.name: status.is_int8 for status in layer_statuses(network, quantize(network, data), STATIC)}
    rows = layer_statuses(network, quantized, recipe)
    assert all(plain.values())
    below = [row.name for row in rows if not row.is_int8]
    expected = {"0": ["0"], "2": ["2"], "1": ["1.conv", "1.act"], "1.conv": ["1.conv"]}
    assert below == [name for kept in keep for name in expected[kept]]
    assert all("user" in row.reason for row in rows if not row.is_int8)
    if keep == ("1",):  # its functions, too
        assert not {"quantized::add", "quantized::mul"} & set(count_int8_kernels(quantized, data[0]))
        assert type(quantized.get_submodule("1")) is Block


class DataIf(nn.Module):
    def forward(self, x):
        if x.sum() > 0:
            return x
        return -x


class ShapeIf(nn.Module):
    def forward(self, x):
        return x * 2 if x.shape[-1] > 4 else x


class Flag(nn.Module):
    flag = True

    def forward(self, x):
        return x * 2 if self.flag else x


@pytest.mark.parametrize("part", [DataIf(), ShapeIf()], ids=["data", "shape"])
def test_what_cannot_be_traced_is_named_and_can_be_left_out(part):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(nn.ReLU(), part), nn.Conv2d(4, 2, 1))
    data = batches(2, 3, 8, 8)
    line = type(part).forward.__code__.co_firstlineno + 1
    with pytest.raises(UsageError, match=rf"test_static\.py:{line}: .*--keep-float 1\.1") as caught:
        quantize(network, data)
    assert "--dynamic" in str(caught.value)
    kept = Recipe("static", "x86", keep_float=("1.1",), reduce="weights")
    found, quantized = compare(network, data, kept)
    assert found > 25 and count_int8_kernels(quantized, data[0])["quantized::conv2d"] == 1


def test_untraceable_in_the_network_itself():
    network = Net(lambda self, x: self.c(x) if x.sum() > 0 else x, c=nn.Conv2d(3, 3, 1))
    with pytest.raises(UsageError, match="own forward: move it to a submodule"):
        quantize(network, batches(1, 3, 4, 4))


def test_python_flags_are_no_trouble():
    assert compare(nn.Sequential(nn.Conv2d(3, 4, 3), Flag(), nn.Conv2d(4, 2, 1)), batches(2, 3, 8, 8))[0] > 25


def test_what_observers_cut_off_is_no_difference_between_graph_and_network():
    """What they cut off below -8 in front of SiLU becomes a fifth of the output of an untrained EfficientNet-B4."""

    def forward(self, x):
        return (self.c2(self.act(self.c1(x))) * 3000).sin()

    network = Net(forward, c1=nn.Conv2d(3, 4, 3), act=nn.SiLU(), c2=nn.Conv2d(4, 4, 3)).eval()
    data = [batch * 20 for batch in batches(8, 3, 8, 8)]
    prepared = prepare(network, STATIC, data[0])
    clip_to_activations(prepared)
    with torch.no_grad():
        found, expected = prepared(data[0]), network(data[0])
    assert (found - expected).norm() > 0.1 * expected.norm()
    quantize(network, data)


def test_branches_on_the_mode_are_fixed_to_evaluation_also_for_training():
    """Else an int8 network would keep its auxiliary head, and drop whole blocks at random (trap 4.9)."""

    def forward(self, x):
        out = self.depth(self.conv(F.dropout(x, 0.5, self.training)))
        return (out, self.aux(out)) if self.training else out

    network = Net(forward, conv=nn.Conv2d(3, 4, 3), depth=StochasticDepth(0.9, "row"), aux=nn.Conv2d(4, 1, 1)).train()
    data = batches(2, 3, 8, 8)
    prepared = prepare(network, Recipe("qat", "x86", reduce="weights"), data[0])
    assert prepared.training and isinstance(prepared(data[0]), torch.Tensor)
    with torch.no_grad():
        expected = network.eval()(data[0])
        assert sqnr_db(expected, prepared.eval()(data[0])) > 25
        quantized = convert(prepared, Recipe("qat", "x86", reduce="weights"))
        assert sqnr_db(expected, quantized(data[0])) > 25
    statuses = {status.name: status for status in layer_statuses(network, quantized, STATIC)}
    assert statuses["conv"].is_int8 and "does not run" in statuses["aux"].reason
    assert not any("depth" in name for name in statuses)


def tiny_vit(**changes):
    network = vision_transformer.VisionTransformer(
        image_size=32, patch_size=8, num_layers=2, num_heads=4, hidden_dim=32, mlp_dim=64, num_classes=5, **changes
    ).eval()
    nn.init.normal_(network.heads.head.weight)
    return network


@pytest.mark.parametrize("outlier", [1, 50])
def test_a_vision_transformer_is_near_float(outlier):
    """Its class token is far smaller than its patches, or one channel far larger than the others (trap 4.21)."""
    network = tiny_vit()
    with torch.no_grad():
        network.conv_proj.weight[3] *= outlier
    data = batches(4, 3, 32, 32)
    found, quantized = compare(network, data)
    assert found > 20
    statuses = layer_statuses(network, quantized, STATIC)
    assert {status.type for status in statuses if not status.is_int8} == {"LayerNorm", "GELU", "add", "cat"}
    assert count_int8_kernels(quantized, data[0]) == {"quantized::conv2d": 1, "quantized::linear": 2 * 6 + 1}


@pytest.mark.parametrize("options", [{"batch_first": True}, {"batch_first": False}, {"bias": False}], ids=str)
def test_attention_taken_apart_computes_the_same(options):
    network = Net(
        lambda self, x: self.attention(x, x, x, need_weights=False)[0],
        attention=nn.MultiheadAttention(16, 4, **options),
    ).eval()
    x = torch.randn(3, 5, 16)
    with torch.no_grad():
        prepared = prepare(network, STATIC, x)
        assert torch.allclose(prepared(x), network(x), atol=1e-5)
        assert compare(network, [x])[0] > 25


def test_a_layer_that_is_taken_as_a_whole_says_so():
    network = nn.Sequential(nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), nn.Linear(16, 4)).eval()
    x = torch.randn(3, 5, 16)
    found, quantized = compare(network, [x])
    assert found > 25
    statuses = {status.name: status for status in layer_statuses(network, quantized, STATIC)}
    assert statuses["1"].is_int8 and "--dynamic" in statuses["0.linear1"].reason


def test_attention_that_is_more_stays_whole():
    def forward(self, x):
        return self.attention(x, self.other(x), x)[0]

    network = Net(forward, attention=nn.MultiheadAttention(16, 4, batch_first=True), other=nn.Linear(16, 16))
    x = torch.randn(3, 5, 16)
    found, quantized = compare(network, [x])
    assert found > 25
    statuses = {status.name: status for status in layer_statuses(network, quantized, STATIC)}
    assert statuses["other"].is_int8 and "without masks" in statuses["attention"].reason
