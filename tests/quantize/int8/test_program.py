"""Layers together: traced, exported, copied, saved, and without anything of torch.ao."""

import copy
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

from dlkit.errors import UsageError
from dlkit.quantize.int8 import (
    Affine,
    Epilogue,
    Int8AdaptiveAvgPool,
    Int8Conv2d,
    Int8ConvTranspose,
    Int8DynamicLinear,
    Int8Layer,
    Int8Linear,
    Int8Lookup,
    Int8MaxPool,
    Int8Recurrent,
    PoolGeometry,
    Quantize,
    available_kernels,
    bind_kernels,
    find_kernels,
    int8_layers,
    pick_kernels,
    unpack_kernels,
    weight_bits,
)

IMAGE, HIDDEN, ADDED = Affine(0.03, 128), Affine(0.05, 0), Affine(0.06, 0)
SIGNED, LOGITS = Affine(0.04, -10, torch.int8), Affine(0.02, 100)


class Residual(nn.Module):
    """One of everything that an image goes through; float32 in and out."""

    def __init__(self, bits=8, seed=0):
        super().__init__()
        torch.manual_seed(seed)

        def conv(layer, x, *epilogue):
            return Int8Conv2d.from_float(layer, x=x, epilogue=Epilogue(*epilogue), bits=bits)

        self.enter = Quantize(IMAGE)
        self.stem = conv(nn.Conv2d(3, 16, 3, 2, 1), IMAGE, HIDDEN, "relu")
        self.pool = Int8MaxPool(HIDDEN, PoolGeometry((3, 3), (2, 2), (1, 1)))
        self.first = conv(nn.Conv2d(16, 16, 3, 1, 1, groups=16), HIDDEN, HIDDEN, "relu6")
        self.second = conv(nn.Conv2d(16, 16, 1), HIDDEN, ADDED, "relu", HIDDEN)
        self.third = conv(nn.Conv2d(16, 24, 3), ADDED, SIGNED, "hardswish")
        self.table = Int8Lookup(torch.tanh, SIGNED, LOGITS)
        self.up = Int8ConvTranspose.from_float(
            nn.ConvTranspose2d(24, 8, 2, 2), x=LOGITS, epilogue=Epilogue(LOGITS), bits=bits
        )
        self.mean = Int8AdaptiveAvgPool(LOGITS, LOGITS, (1, 1))
        self.head = Int8Linear.from_float(nn.Linear(8, 10), x=LOGITS, epilogue=Epilogue(None), bits=bits)
        self.last = Int8DynamicLinear.from_weight(torch.randn(10, 10), None, bits=bits)

    def forward(self, x):
        x = self.pool(self.stem(self.enter(x)))
        x = self.third(self.second(self.first(x), x))
        return self.last(self.head(self.mean(self.up(self.table(x))).flatten(1)))


def images(batch=2, seed=0):
    return torch.randn(batch, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def program():
    network = Residual(weight_bits("onednn")).eval()
    bind_kernels(network, "onednn")
    return network


@torch.no_grad()
def test_all_kernels_agree():
    network = Residual(bits=7).eval()
    bind_kernels(network, "reference")
    exact = network(images())
    assert exact.std() > 0.1
    for kernels in available_kernels():
        bind_kernels(network, kernels.name)
        assert (network(images()) - exact).abs().max() < 0.05


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@torch.no_grad()
def test_exact_kernels_run_on_a_gpu():
    network = Residual().eval()
    bind_kernels(network, "reference")
    exact = network(images())
    torch.testing.assert_close(network.cuda()(images().cuda()).cpu(), exact, rtol=1e-4, atol=1e-4)
    bind_kernels(network)
    assert {layer.kernels.name for layer in int8_layers(network).values()} == {"plain", "reference"}


def test_a_layer_without_kernels_says_so():
    with pytest.raises(RuntimeError, match="call bind_kernels"):
        Residual()(images())


def test_kernels_that_are_not_here_are_refused(monkeypatch):
    with pytest.raises(UsageError, match="take one of onednn, fbgemm, qnnpack, plain, reference, or auto"):
        find_kernels("cuda")
    monkeypatch.setattr(type(find_kernels("onednn")), "is_available", lambda self: False)
    with pytest.raises(
        UsageError, match=r"onednn does not run here: this torch has no oneDNN kernels.* These do: .*reference"
    ):
        find_kernels("onednn")
    assert pick_kernels(Residual().stem).name != "onednn"


def test_what_kernels_cannot_do_others_do(program):
    bind_kernels(program, "fbgemm" if "fbgemm" in {one.name for one in available_kernels()} else "auto")
    names = {name: layer.kernels.name for name, layer in int8_layers(program).items()}
    assert names["third"] == "onednn"  # hardswish
    assert names["pool"] == names["table"] == names["enter"] == "plain"


@torch.no_grad()
def test_an_example_fixes_layouts(program):
    exact = program(images())
    bind_kernels(program, "onednn", example=images())
    assert program.third.expected_shape == (2, 16, 8, 8)
    assert torch.equal(program(images()), exact)


@pytest.mark.parametrize("name", [one.name for one in available_kernels() if one.name not in ("plain", "reference")])
@torch.no_grad()
def test_layouts_stay(name):
    """Channels lie last from one layer to the next, so that no kernel has to turn its input round."""
    network = Residual(bits=7).eval()
    bind_kernels(network, name)

    def check(layer, inputs, output):
        if output.dim() == 4:
            assert output.is_contiguous(memory_format=torch.channels_last), layer

    for layer in [network.up, *int8_layers(network).values()]:
        layer.register_forward_hook(check)
    network(images().contiguous(memory_format=torch.channels_last))


def test_a_layer_shows_its_scales(program):
    assert str(program.third) == "Int8Conv2d(x=(0.06, 0), y=(0.04, -10), onednn)"


@torch.no_grad()
def test_copies_compute_the_same(program):
    exact, copied = program(images()), copy.deepcopy(program)
    assert torch.equal(copied(images()), exact)
    program.stem.weight.zero_()
    bind_kernels(program, "onednn")
    assert not torch.equal(program(images()), exact)
    assert torch.equal(copied(images()), exact)
    assert torch.equal(copied.to("cpu")(images()), exact)


@torch.no_grad()
def test_a_state_holds_all_numbers(program):
    state = program.state_dict()
    assert {value.dtype for value in state.values()} == {torch.float32, torch.int8, torch.uint8}
    assert not any(value.is_quantized or value.layout != torch.strided for value in state.values())
    assert [SIGNED.scale, SIGNED.zero_point] in state["third.affines"].tolist()
    assert "pool.affines" in state and "up.phases.weight" in state and "up.phases.affines" in state
    other = Residual(weight_bits("onednn"), seed=1).eval()
    other.enter.y = other.stem.x = Affine(1.0, 0)
    bind_kernels(other, "onednn")
    assert not torch.equal(other(images()), program(images()))
    other.load_state_dict({name: value.clone() for name, value in state.items()})
    assert other.enter.y == IMAGE
    assert torch.equal(other(images()), program(images()))


def test_a_state_without_a_scale_is_refused(program):
    state = program.state_dict()
    del state["third.affines"]
    with pytest.raises(RuntimeError, match=r"Missing key.*third\.affines"):
        program.load_state_dict(state)
    with pytest.raises(RuntimeError, match=r"Unexpected key.*third\.scale"):
        program.load_state_dict(program.state_dict() | {"third.scale": torch.ones(1)})


@torch.no_grad()
def test_a_graph_of_layers(program):
    class LeafTracer(torch.fx.Tracer):
        def is_leaf_module(self, module, name):
            return isinstance(module, Int8Layer | Int8ConvTranspose)

    graph = torch.fx.GraphModule(program, LeafTracer().trace(program))
    assert sum(node.op == "call_module" for node in graph.graph.nodes) == 11
    assert torch.equal(graph(images()), program(images()))


@pytest.mark.parametrize("name", [one.name for one in available_kernels() if one.name not in ("plain", "reference")])
@torch.no_grad()
def test_traced_and_frozen(name):
    network = Residual(bits=7).eval()
    bind_kernels(network, name)
    with warnings.catch_warnings():  # torch.jit is deprecated itself
        warnings.simplefilter("ignore")
        frozen = torch.jit.freeze(torch.jit.trace(network, images(), check_trace=False))
    for batch in (2, 5):
        for _ in range(3):  # it is optimized while it runs
            assert torch.equal(frozen(images(batch, seed=3)), network(images(batch, seed=3)))


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@torch.no_grad()
def test_traced_recurrent():
    torch.manual_seed(0)
    layer = Int8Recurrent.from_float(nn.LSTM(4, 5, num_layers=2), bits=7)
    bind_kernels(layer, "onednn")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(layer, torch.randn(3, 2, 4), check_trace=False)
    x = torch.randn(3, 2, 4) * 5  # other ranges than those of the trace
    torch.testing.assert_close(traced(x), layer(x), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_compiled_without_a_break(program):
    compiled = torch.compile(program, backend="eager", fullgraph=True)
    assert torch.equal(compiled(images()), program(images()))


@pytest.mark.parametrize("is_packed", [True, False])
@torch.no_grad()
def test_exported(program, is_packed):
    exact = program(images())
    if not is_packed:
        unpack_kernels(program)
        assert torch.equal(program(images()), exact)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exported = torch.export.export(program, (images(),))
    assert torch.equal(exported.module()(images()), exact)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
@torch.no_grad()
def test_compiled_ahead_of_time(program, tmp_path):
    exact = program(images())
    unpack_kernels(program)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exported = torch.export.export(program, (images(),))
        path = torch._inductor.aoti_compile_and_package(
            exported, package_path=str(tmp_path / "program.pt2"), inductor_configs={"freezing": True}
        )
        loaded = torch._inductor.aoti_load_package(path)
    assert (loaded(images()) - exact).abs().max() < 0.05


BLOCKED = """
import sys, types
from pathlib import Path
import torch

class Block:
    def find_spec(self, name, path=None, target=None):
        if name == "torch.ao.quantization" or name.startswith("torch.ao.quantization."):
            raise ImportError(name + " is blocked")

def refuse(*args, **kwargs):
    raise RuntimeError("quantized tensors are gone")

for name in [name for name in sys.modules if (name + ".").startswith("torch.ao.quantization.")]:
    del sys.modules[name]  # torch loads some of it by itself
del torch.ao.quantization
sys.meta_path.insert(0, Block())
for name in ("quantize_per_tensor", "quantize_per_channel", "_empty_affine_quantized"):
    setattr(torch, name, refuse)
# the door of dlkit.quantize still opens to what stands on torch.ao
import dlkit
door = types.ModuleType("dlkit.quantize")
door.__path__ = [str(Path(dlkit.__file__).parent / "quantize")]
sys.modules["dlkit.quantize"] = door
"""
RUN = """
from dlkit.quantize.int8 import available_kernels, bind_kernels
names = [kernels.name for kernels in available_kernels()]
assert "fbgemm" not in names and "qnnpack" not in names, names
torch.set_grad_enabled(False)
network, outputs = Residual(bits=7).eval(), []
for name in ("reference", "onednn", "auto"):
    bind_kernels(network, name)
    outputs.append(network(images()))
print(max((one - outputs[0]).abs().max().item() for one in outputs), outputs[0].std().item())
"""


def test_nothing_of_torch_ao_is_needed():
    source = Path(__file__).read_text(encoding="utf-8")
    start = source.index("import torch\nfrom torch import nn")
    program = source[start : source.index("@pytest.fixture")].replace("from dlkit.errors import UsageError\n", "")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", BLOCKED + program + RUN], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    difference, deviation = map(float, done.stdout.split())
    assert difference < 0.05 and deviation > 0.1
