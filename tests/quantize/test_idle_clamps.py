"""Clamps that change nothing are left out of int8 networks; those that change something stay."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dlkit.core.data.contract import DataInfo
from dlkit.core.modelfile import ModelSpec, load_model
from dlkit.core.models.arch import Arch
from dlkit.quantize.backends import pick_backend
from dlkit.quantize.fx import convert, drop_idle_clamps, prepare
from dlkit.quantize.recipe import Recipe
from dlkit.quantize.saving import save_quantized
from dlkit.quantize.static import calibrate, quantize_static

RECIPE = Recipe("static", pick_backend("auto"))
X = torch.rand(4, 2, 6, 6, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """One convolution with outputs of 0 to `largest` for inputs of 0 to 1, then a clamp."""

    def __init__(self, largest, clamp):
        super().__init__()
        self.conv, self.clamp = nn.Conv2d(2, 3, 1), clamp
        with torch.no_grad():
            self.conv.weight.fill_(largest / 2)
            self.conv.bias.zero_()

    def forward(self, x):
        return self.clamp(self.conv(x))


def quantize(network):
    prepared = prepare(network.eval(), RECIPE, X)
    calibrate(prepared, [X])
    return convert(prepared, RECIPE, is_observed=False)


class Functional(nn.Module):
    def forward(self, x):
        return F.relu6(x)


@pytest.mark.parametrize("clamp", [nn.ReLU6(), nn.ReLU6(inplace=True), nn.Hardtanh(0.0, 6.0), Functional()], ids=str)
def test_a_clamp_beyond_the_grid_is_left_out(clamp):
    converted = quantize(Net(5.0, clamp))
    with torch.inference_mode():
        before, size = converted(X), len(converted.graph.nodes)
        assert len(drop_idle_clamps(converted)) == 1 and len(converted.graph.nodes) == size - 1
        assert torch.equal(before, converted(X)) and before.max() > 3
        far = 100 * X - 50  # beyond everything that was calibrated on
        assert torch.equal(quantize(Net(5.0, clamp))(far), converted(far))


class ReadTwice(Net):
    """The convolution's output is also read before the clamp, so that its grid must hold more than the clamp lets through."""

    def forward(self, x):
        y = self.conv(x)
        return self.clamp(y), y


@pytest.mark.parametrize(
    ("largest", "clamp"),
    [(9.0, nn.ReLU6()), (-5.0, nn.ReLU6()), (5.0, nn.Hardtanh(0.0, 2.0)), (5.0, nn.Hardtanh(1.0, 6.0))],
)
def test_a_clamp_within_the_grid_stays(largest, clamp):
    converted = quantize(ReadTwice(largest, clamp))
    assert drop_idle_clamps(converted) == []
    with torch.inference_mode():
        low, high = getattr(clamp, "min_val", 0), getattr(clamp, "max_val", 6)
        clamped = converted(X)[0]
        assert clamped.min() >= low - 0.05 and clamped.max() <= high + 0.05  # rounded to the grid


def test_quantizing_leaves_them_out_by_itself():
    nodes = [str(node.target) for node in quantize_static(Net(5.0, nn.ReLU6()), RECIPE, [X], example=X).graph.nodes]
    assert "conv" in nodes and "clamp" not in nodes


class Six(Net):
    def __init__(self):
        super().__init__(5.0, nn.ReLU6())


def test_a_loaded_network_is_the_same(tmp_path):
    """The file says nothing of clamps: what is left out is seen from the scales, once they are loaded."""
    info = DataInfo("classification", "image", (2, 6, 6), 3, None, None, None)
    network = quantize_static(Six().eval(), RECIPE, [X], example=X)
    spec = ModelSpec(Arch("user", "tests:Six", {}), info)
    save_quantized(tmp_path / "six.pt", spec, network, recipe=RECIPE, example=X)
    loaded = load_model(tmp_path / "six.pt", model=Six)
    targets = [[str(node.target) for node in one.graph.nodes] for one in (network, loaded)]
    assert targets[0] == targets[1] and "clamp" not in targets[0]
    with torch.inference_mode():
        assert torch.equal(loaded(X), network(X))
