"""Calibration: what observers see, and what stays as it was."""

import copy

import pytest
import torch
from torch import nn
from torchvision.models import resnet18

from dlkit.errors import DataError, UsageError
from dlkit.events import Working
from dlkit.quantize import Recipe
from dlkit.quantize.graph import clip_to_activations, convert, observed_tensors, prepare
from dlkit.quantize.ptq import calibrate, first_samples, observe_network

STATIC = Recipe("static", "x86", "minmax", reduce="weights")


@pytest.fixture
def data():
    return list(torch.randn(3, 4, 3, 8, 8, generator=torch.Generator().manual_seed(0)))


def quantize(network, data, recipe=STATIC):
    with torch.no_grad():
        return convert(observe_network(network, recipe, data), recipe)


def test_the_float_network_stays_as_it_was(data):
    """Calibration in training mode would move running statistics and drop units."""
    layers = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.Dropout(0.5), nn.Conv2d(8, 4, 1)
    network = nn.Sequential(*layers).train()
    before, inputs = copy.deepcopy(network.state_dict()), [batch.clone() for batch in data]
    first, second = quantize(network, data), quantize(network, data)
    assert torch.equal(first(data[0]), second(data[0]))
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert all(module.training for module in network.modules()) and network[2].inplace
    assert tuple(network) == layers and all(map(torch.equal, data, inputs))


def test_a_copy_computes_the_same(data):
    network = resnet18(num_classes=7).eval()
    program = quantize(network, [torch.cat([batch] * 4, -1) for batch in data])
    x = torch.cat([data[0]] * 4, -1)
    copied = copy.deepcopy(copy.deepcopy(nn.ModuleList([program]))[0])
    with torch.no_grad():
        assert torch.equal(copied(x), program(x))


def test_calibrating_reports_and_needs_data(data):
    prepared = prepare(nn.Sequential(nn.Conv2d(3, 4, 3)), STATIC, data[0])
    events = []
    calibrate(prepared, data, events.append)
    assert events[-1] == Working("calibrating", 3, 3)
    with pytest.raises(DataError, match="at least one batch"):
        calibrate(prepared, [])
    with pytest.raises(DataError, match="batch 1 .* not finite"):
        calibrate(prepared, [data[0] * float("nan")])


def test_weights_and_outputs_that_are_not_finite_are_refused(data):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 1))
    huge = copy.deepcopy(network)
    huge[0].weight.data.fill_(100.0)
    with pytest.raises(DataError, match="outputs for batch 1 of calibration are not finite"):
        calibrate(prepare(huge, STATIC, data[0]), [data[0].abs() * 5e37])
    network[1].bias.data[0] = float("inf")
    with pytest.raises(DataError, match=r"bias holds values that are not finite"):
        calibrate(prepare(network, STATIC, data[0]), data)


def test_ranges_cover_all_batches(data):
    prepared = observe_network(nn.Sequential(nn.Conv2d(3, 4, 3)), STATIC, data)
    (observed,) = observed_tensors(prepared)
    affine = observed.observer.affine()
    low, high = (torch.stack(data).min(), torch.stack(data).max())
    assert observed.name == "x" or observed.name == "input_1"
    assert affine.scale == pytest.approx(float(high - low) / 255, rel=1e-5)


def test_what_observers_cut_off_is_no_difference_between_graph_and_network(data):
    """What they cut off below -8 in front of SiLU becomes a fifth of the output of an untrained EfficientNet-B4."""

    class Sensitive(nn.Module):
        def __init__(self):
            super().__init__()
            self.c1, self.act, self.c2 = nn.Conv2d(3, 4, 3), nn.SiLU(), nn.Conv2d(4, 4, 3)

        def forward(self, x):
            x = self.c1(x)
            return (self.c2(self.act(x) + nn.functional.gelu(x)) * 3000).sin()

    torch.manual_seed(0)
    network, data = Sensitive().eval(), [batch * 20 for batch in data]
    prepared = prepare(network, STATIC, data[0])
    assert clip_to_activations(prepared) == ["c1"]
    with torch.no_grad():
        found, expected = prepared(data[0]), network(data[0])
    assert (found - expected).norm() > 0.1 * expected.norm()
    quantize(network, data)


@pytest.mark.parametrize("nest", [lambda x: x, lambda x: {"first": (x, 1), "second": [x]}], ids=["tensor", "nest"])
@pytest.mark.parametrize("is_random", [True, False])
def test_a_network_that_is_more_than_its_graph_is_refused(data, is_random, nest):
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.calls = nn.Conv2d(3, 4, 3), 0

        def forward(self, x):
            self.calls += 1
            noise = nn.functional.dropout(x, 0.5, training=True) if is_random else x * self.calls
            return nest(self.conv(noise))

    with pytest.raises(UsageError, match="gives other outputs than the network .* random, or depends on more"):
        observe_network(Odd().eval(), STATIC, data)


def test_first_samples():
    batches = list(torch.arange(12).view(3, 4))
    assert torch.cat(first_samples(batches, 6)).tolist() == [0, 1, 2, 3, 4, 5]
    assert len(first_samples(batches, 4)) == 1


class Chaotic(nn.Module):
    """A convolution and a norm, whose last bits are blown up until nothing else is left."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.last = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 1)

    def forward(self, x):
        x = self.norm(self.conv(x))
        for _ in range(12):
            x = torch.sin(30 * x)
        return self.last(x)


def test_a_network_that_blows_up_rounding_is_no_other_network():
    torch.manual_seed(0)
    network, batches = Chaotic(), [torch.randn(8, 3, 8, 8) for _ in range(2)]
    with torch.no_grad():
        for batch in batches:
            network.train()(batch)
        network.eval()
        folded = nn.utils.fusion.fuse_conv_bn_eval(network.conv, network.norm)(batches[0])
        exact = network.norm(network.conv(batches[0]))
        assert 0 < (folded - exact).abs().max() < 1e-5
    observe_network(network, Recipe("static", "x86"), batches)
