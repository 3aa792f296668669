"""Int8 networks in model files: plain tensors, the same outputs bit for bit, and no file that can do harm."""

import json
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dlkit.core.data import DataInfo
from dlkit.core.modelfile import ModelSpec, load_model, read_model_file, save_model_file
from dlkit.core.models import Arch, build_model
from dlkit.errors import DlkitError, FileRefused
from dlkit.quantize import Recipe, quantize_dynamic, save_quantized
from dlkit.quantize.graph import convert
from dlkit.quantize.int8 import int8_layers
from dlkit.quantize.ptq import observe_network

ENGINES = ("x86", "fbgemm", "onednn", "qnnpack")
SMALL = Arch("dlkit", "small_cnn", {"in_channels": 3, "num_classes": 5, "input_size": [3, 16, 16], "width": 8})
LSTM = Arch("dlkit", "lstm", {"input_size": [12, 8], "num_classes": 5, "num_layers": 2, "bidirectional": True})
RESNET = Arch("torchvision", "resnet18", {"num_classes": 5, "in_channels": 3})
V2 = Arch("torchvision", "mobilenet_v2", {"num_classes": 5, "in_channels": 3})
V3 = Arch("torchvision", "mobilenet_v3_small", {"num_classes": 5, "in_channels": 3})


def info(*size):
    return DataInfo("classification", "image" if len(size) == 3 else "sequence", size, 5, None, None, None)


def make(network, recipe, example):
    torch.manual_seed(0)
    with torch.no_grad():
        if recipe.mode == "dynamic":
            return quantize_dynamic(network, recipe, example=example)
        return convert(observe_network(network, recipe, [example]), recipe)


def saved(folder, arch, recipe, example, network=None):
    torch.manual_seed(0)
    quantized = make(network or build_model(arch).eval(), recipe, example)
    path = folder / "int8.pt"
    save_quantized(path, ModelSpec(arch, info(*example.shape[1:])), quantized, recipe=recipe, example=example)
    return path, quantized


def outputs(network, inputs):
    with torch.no_grad():
        return network(inputs)


@pytest.mark.parametrize("backend", ENGINES)
@pytest.mark.parametrize(("arch", "mode", "shape"), [
    (SMALL, "static", (3, 3, 16, 16)), (LSTM, "dynamic", (3, 12, 8)), (SMALL, "dynamic", (3, 3, 16, 16)),
], ids=["small_cnn", "lstm", "small_cnn dynamic"])  # fmt: skip
def test_reloaded_outputs_are_equal_bit_for_bit(tmp_path, arch, mode, shape, backend):
    path, quantized = saved(tmp_path, arch, Recipe(mode, backend, reduce="weights"), torch.randn(shape))
    inputs = torch.randn(shape)
    loaded = load_model(path)
    for batch in (1, 3):
        assert torch.equal(outputs(loaded, inputs[:batch]), outputs(quantized, inputs[:batch]))
    assert not loaded.training and torch.backends.quantized.engine != "qnnpack"


@pytest.mark.parametrize(("arch", "shape"), [
    (RESNET, (2, 3, 32, 32)), (V3, (2, 3, 32, 32)),
    pytest.param(V2, (2, 3, 32, 32), marks=pytest.mark.slow),
], ids=["resnet18", "mobilenet_v3_small", "mobilenet_v2"])  # fmt: skip
def test_torchvision_networks_reload_at_a_quarter_of_the_size(tmp_path, arch, shape):
    path, quantized = saved(tmp_path, arch, Recipe("static", "x86", reduce="weights"), torch.randn(shape))
    inputs = torch.randn(shape)
    assert torch.equal(outputs(load_model(path), inputs), outputs(quantized, inputs))
    save_model_file(tmp_path / "float.pt", ModelSpec(arch, info(*shape[1:])), build_model(arch).state_dict())
    assert path.stat().st_size < 0.32 * (tmp_path / "float.pt").stat().st_size


def test_the_file_holds_plain_tensors_that_anybody_can_read(tmp_path):
    """No quantized dtype, which torch deprecates, and nothing that runs code (trap 4.22)."""
    path, _ = saved(tmp_path, LSTM, Recipe("dynamic", "x86"), torch.randn(2, 12, 8))
    code = (
        "import json, sys, torch\n"
        "state = torch.load(sys.argv[1], weights_only=True)['state_dict']\n"
        "print(json.dumps(sorted({str(tensor.dtype) for tensor in state.values()})))"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    assert set(json.loads(done.stdout)) <= {"torch.int8", "torch.uint8", "torch.float32", "torch.int64", "torch.bool"}


class Functional(nn.Module):
    """Layers without modules, whose packed weights are attributes of the graph."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Parameter(torch.randn(4, 3, 3, 3))
        self.one = nn.Parameter(torch.randn(4, 4, 3))
        self.weight = nn.Parameter(torch.randn(5, 4))
        self.bias = nn.Parameter(torch.randn(5))

    def forward(self, x):
        x = F.relu(F.conv2d(x, self.conv, None, stride=2, padding=1))
        x = F.conv1d(x.flatten(2), self.one)
        return F.linear(x.mean(2), self.weight, self.bias)


NETWORKS = {
    "functional": (Functional, (2, 3, 16, 16)),
    "conv1d": (lambda: nn.Sequential(nn.Conv1d(3, 4, 2, stride=2)), (2, 3, 8)),
    "conv3d": (lambda: nn.Sequential(nn.Conv3d(3, 4, 2)), (2, 3, 4, 4, 4)),
    "transposed": (lambda: nn.Sequential(nn.ConvTranspose2d(3, 4, 2), nn.ReLU()), (2, 3, 4, 4)),
    "norms": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 1), nn.GroupNorm(2, 4), nn.InstanceNorm2d(4), nn.LayerNorm(4)),
        (2, 3, 4, 4),
    ),
    "activations": (
        lambda: nn.Sequential(
            *(nn.Conv2d(3, 4, 1), nn.PReLU(), nn.ELU(), nn.Hardswish(), nn.LeakyReLU(), nn.Softmax(1), nn.Sigmoid())
        ),
        (2, 3, 4, 4),
    ),
    "no bias": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.Flatten(), nn.Linear(64, 2, bias=False)),
        (2, 3, 4, 4),
    ),
    "shared": (lambda: nn.Sequential(layer := nn.Conv2d(3, 3, 1), nn.ReLU(), layer), (2, 3, 4, 4)),
    "bare conv": (lambda: nn.Conv2d(3, 4, 3), (2, 3, 4, 4)),
}  # fmt: skip


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("backend", ["x86", "qnnpack"])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_kind_of_entry_comes_back_as_it_was(tmp_path, name, backend, per_channel):
    build, shape = NETWORKS[name]
    torch.manual_seed(0)
    recipe = Recipe("static", backend, "minmax", is_per_channel=per_channel, reduce="weights")
    example = torch.randn(shape)
    quantized = make(build().eval(), recipe, example)
    assert torch.equal(
        outputs(again(tmp_path, quantized, build, recipe, example), example), outputs(quantized, example)
    )


def again(folder, quantized, build, recipe, example):
    """The network of its own file, around a float network that `build` makes."""
    path, spec = folder / "again.pt", ModelSpec(Arch("user", "tests:build", {}), info(*example.shape[1:]))
    save_quantized(path, spec, quantized, recipe=recipe, example=example)
    assert not any(tensor.is_quantized for tensor in read_model_file(path).state_dict.values())
    return load_model(path, model=build)


RECURRENT = {
    "lstm": lambda: nn.LSTM(8, 6, 2, bidirectional=True),
    "gru": lambda: nn.GRU(8, 6),
    "no bias": lambda: nn.LSTM(8, 6, bias=False),
    "linear": lambda: nn.Linear(8, 6),
    "mixed": lambda: nn.Sequential(nn.Linear(8, 6, bias=False), nn.ReLU(), nn.Linear(6, 3)),
}


@pytest.mark.filterwarnings("ignore:On this CPU")
@pytest.mark.parametrize("backend", ENGINES)
@pytest.mark.parametrize("name", RECURRENT)
def test_dynamic_layers_come_back_as_they_were(tmp_path, name, backend):
    torch.manual_seed(0)
    recipe, example = Recipe("dynamic", backend), torch.randn(5, 2, 8)
    quantized = make(RECURRENT[name](), recipe, example)
    found, expected = (
        outputs(again(tmp_path, quantized, RECURRENT[name], recipe, example), example),
        outputs(quantized, example),
    )
    for one, other in zip(found, expected, strict=True) if isinstance(expected, tuple) else [(found, expected)]:
        assert one is other or all(map(torch.equal, one, other)) if isinstance(one, tuple) else torch.equal(one, other)


@pytest.mark.parametrize("cell", [nn.LSTMCell(8, 6), nn.GRUCell(8, 6), nn.RNNCell(8, 6, nonlinearity="relu")], ids=str)
def test_cells_come_back_as_they_were(tmp_path, cell):
    recipe, example = Recipe("dynamic", "x86"), torch.randn(3, 8)
    quantized = make(cell, recipe, example)
    loaded = again(tmp_path, quantized, lambda: cell, recipe, example)
    found, expected = outputs(loaded, example), outputs(quantized, example)
    assert all(map(torch.equal, found, expected))


def test_a_bias_that_was_added_is_kept(tmp_path):
    """Bias correction gives one to layers that had none."""
    recipe, example = Recipe("static", "x86", reduce="weights"), torch.randn(2, 3, 4, 4)

    def build():
        return nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.Flatten(), nn.Linear(64, 2, bias=False)).eval()

    quantized = make(build(), recipe, example)
    quantized.get_submodule("0").replace_bias(torch.randn(4))
    quantized.get_submodule("2").replace_bias(torch.randn(2))
    assert torch.equal(
        outputs(again(tmp_path, quantized, build, recipe, example), example), outputs(quantized, example)
    )


def test_a_network_of_another_size_is_rebuilt_around_the_one_given(tmp_path):
    """As after pruning, which changes the sizes before quantization is replayed."""
    recipe, example = Recipe("static", "x86", reduce="weights"), torch.randn(2, 3, 16, 16)

    def pruned():
        network = build_model(SMALL).eval()
        last = network.features[-1].conv
        network.features[-1].conv = nn.Conv2d(last.in_channels, 13, 3, padding=1, bias=False)
        network.features[-1].norm = nn.BatchNorm2d(13).eval()
        network.fc = nn.Linear(13, 5)
        return network

    quantized = make(pruned(), recipe, example)
    assert torch.equal(
        outputs(again(tmp_path, quantized, pruned, recipe, example), example), outputs(quantized, example)
    )


def test_kernels_lay_weights_out_alike_whatever_batch_is_the_example(tmp_path):
    """EfficientNet-B3 came back with other last bits where it was saved with four samples."""
    recipe = Recipe("static", "x86", reduce="weights")
    quantized = make(build_model(SMALL).eval(), recipe, torch.randn(1, 3, 16, 16))
    loaded = again(tmp_path, quantized, lambda: build_model(SMALL).eval(), recipe, torch.randn(4, 3, 16, 16))
    wanted, found = (
        {name: layer.expected_shape for name, layer in int8_layers(network).items()} for network in (quantized, loaded)
    )
    assert wanted == found and (1, 3, 16, 16) in wanted.values()


@pytest.fixture(scope="module")
def small_file(tmp_path_factory):
    return saved(
        tmp_path_factory.mktemp("small"), SMALL, Recipe("static", "x86", reduce="weights"), torch.randn(2, 3, 16, 16)
    )[0]


def changed(path, folder, change):
    value = torch.load(path, weights_only=True)
    change(value["spec"]["transforms"][0], value["state_dict"])
    torch.save(value, folder / "changed.pt")
    return folder / "changed.pt"


WEIGHT = "fc.weight"


@pytest.mark.parametrize(("change", "words"), [
    (lambda entry, state: entry.update(backend="cuda"), "backend must be one of"),
    (lambda entry, state: entry.update(mode=["static"]), "mode must be one of"),
    (lambda entry, state: entry.update(reduce="half"), "reduce must be one of"),
    (lambda entry, state: entry.update(keep_float="fc"), "keep_float must list"),
    (lambda entry, state: entry.update(keep_float=["os.system"]), "no module 'os.system'"),
    (lambda entry, state: entry.update(keep_float=[""]), "whole network"),
    (lambda entry, state: entry.update(keep_float=["fc"]), "missing: |unexpected: "),
    (lambda entry, state: entry.update(example_shape=[-1, 3]), "example_shape must list"),
    (lambda entry, state: entry.update(mode="dynamic"), "int8_layers must list"),
    (lambda entry, state: entry.update(mode="dynamic", int8_layers=["features.0.conv"]), "no layer that can be int8"),
    (lambda entry, state: entry.update(torch="1.0", keep_float=["fc"]), "made with torch '1.0'"),
    (lambda entry, state: state.pop(WEIGHT), "fc"),
    (lambda entry, state: state.update({WEIGHT: state[WEIGHT][:, :1]}), "fc.*in the network"),
    (lambda entry, state: state.update({WEIGHT: state[WEIGHT].float()}), "fc.*in the network"),
    (lambda entry, state: state["fc.affines"].fill_(0), "fc.affines: a scale is not a positive number"),
    (lambda entry, state: state["fc.affines"].fill_(float("nan")), "not a positive number"),
    (lambda entry, state: state["fc.affines"][:, 1].fill_(300), "zero point no code"),
    (lambda entry, state: state.update({"fc.bias": torch.zeros(1)}), "fc.bias.*in the network"),
    (lambda entry, state: state.update({"fc.weight_scale": torch.ones(1)}), "fc.weight_scale.*in the network"),
    (lambda entry, state: state.update({"features.0.conv.weight_scale": torch.full((8,), -1.0)}), "not a positive number"),
    (lambda entry, state: entry.pop("program"), "older dlkit.*dlkit quantize MODEL.pt --static"),
    (lambda entry, state: entry.update(program=2), "newer dlkit"),
    (lambda entry, state: state.update(extra=torch.zeros(1)), "unexpected: extra"),
])  # fmt: skip
def test_broken_and_hostile_files_are_refused_in_words(small_file, tmp_path, change, words):
    path = changed(small_file, tmp_path, change)
    with pytest.raises(FileRefused, match=words):
        load_model(path)


@pytest.mark.slow
def test_entries_of_any_kind_are_refused_or_harmless(small_file, tmp_path):
    """Every value of the entry in turn replaced by values of every kind."""
    entry = read_model_file(small_file).spec.transforms[0]
    for key in entry:
        for value in (None, 0, -1, 1.5, True, "", "x" * 999, [], [[]], [None], {}, {"a": []}, [10**9] * 9):
            path = changed(small_file, tmp_path, lambda entry, state, key=key, value=value: entry.update({key: value}))
            try:
                load_model(path)
            except DlkitError as error:
                assert str(error)
