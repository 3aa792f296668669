"""Networks around one operation, and what their graphs and programs compute."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from dlkit.quantize import Recipe
from dlkit.quantize.graph import convert, prepare, without_observers
from dlkit.quantize.int8 import Dequantize, Quantize, bind_kernels
from dlkit.quantize.ptq import observe_network

RECIPE = Recipe("static", "x86", "minmax", reduce="weights")
CONVOLUTIONS = {3: nn.Conv1d, 4: nn.Conv2d, 5: nn.Conv3d}


class Net(nn.Module):
    """Layers by name, and a forward that is given."""

    def __init__(self, forward, **layers):
        super().__init__()
        self.run = forward
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x):
        return self.run(self, x)


class Sandwich(nn.Module):
    """A convolution, an operation on its result, and a layer behind it, so that the operation stands between codes."""

    def __init__(self, middle, shape=(4, 8, 6, 6)):
        super().__init__()
        self.before = CONVOLUTIONS[len(shape)](shape[1], 8, 1)
        nn.init.normal_(self.before.bias)
        self.middle = middle
        out = middle(self.before(torch.randn(shape)))
        if isinstance(middle, nn.Module):
            middle.eval()
        self.after = nn.Linear(out.shape[1], 3) if out.dim() == 2 else CONVOLUTIONS[out.dim()](out.shape[1], 3, 1)

    def forward(self, x):
        return self.after(self.middle(self.before(x)))


def sqnr_db(expected, found):
    return float(20 * torch.log10(expected.norm() / (expected - found).norm().clamp(min=1e-12)))


def batches(*shape, count=3):
    return [torch.randn(shape) for _ in range(count)]


def flat(outputs):
    """The tensors of a nest, in order."""
    if isinstance(outputs, torch.Tensor):
        return [outputs]
    return [tensor for part in (outputs.values() if isinstance(outputs, dict) else outputs) for tensor in flat(part)]


def quantized(network, data, recipe=RECIPE):
    """The program, which computes what its exact kernels compute, and again the same."""
    with torch.no_grad():
        prepared = observe_network(network, recipe, data)
        program = convert(prepared, recipe)
        first, second = flat(program(data[0].clone())), flat(program(data[0].clone()))
        assert all(map(torch.equal, first, second))
        exact = convert(prepared, recipe, is_bound=False)
        bind_kernels(exact, "reference")
        for found, expected in zip(first, flat(exact(data[0].clone())), strict=True):
            assert sqnr_db(expected, found) > 30
    return program


def compared(network, data, recipe=RECIPE):
    """SQNR of the outputs on the first batch, the least of all; and the program. The graph of steps computes what the network does."""
    network.eval()
    with torch.no_grad():
        expected = flat(network(data[0].clone()))
        plain = flat(without_observers(prepare(network, recipe, data[0][:1].clone()))(data[0].clone()))
    for found, each in zip(plain, expected, strict=True):
        torch.testing.assert_close(found, each, rtol=1e-4, atol=1e-5 * float(each.abs().max()))
    program = quantized(network, data, recipe)
    with torch.no_grad():
        found = flat(program(data[0].clone()))
    return min(sqnr_db(*pair) for pair in zip(expected, found, strict=True)), program


def borders(program):
    """How often floats become codes, and codes floats."""
    modules = list(program.modules())
    return tuple(sum(isinstance(module, kind) for module in modules) for kind in (Quantize, Dequantize))


@pytest.fixture(scope="session")
def tools():
    """What is above, for tests in other files."""
    return SimpleNamespace(**{
        name: globals()[name] for name in ("Net", "Sandwich", "RECIPE", "batches", "borders", "compared", "flat", "quantized", "sqnr_db")
    })  # fmt: skip


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)
