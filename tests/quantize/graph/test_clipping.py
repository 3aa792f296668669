"""Codes are spent on values that the next activation tells apart."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dlkit.core.models import Arch, build_model
from dlkit.quantize import Recipe
from dlkit.quantize.graph import clip_to_activations, convert, observed_tensors, prepare, without_observers
from dlkit.quantize.ptq import calibrate, observe_network

RECIPE = Recipe("static", "x86", "minmax", reduce="weights")


class Squashed(nn.Module):
    """A convolution whose output is far wider than what its readers tell apart."""

    def __init__(self, *readers):
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 1)
        nn.init.constant_(self.conv.weight, 20.0)
        nn.init.zeros_(self.conv.bias)
        self.last = nn.Conv2d(1, 1, 1)
        self.readers = nn.ModuleList(reader for reader in readers if isinstance(reader, nn.Module))
        self.functions = [reader for reader in readers if not isinstance(reader, nn.Module)]

    def forward(self, x):
        x = self.conv(x)
        outputs = [reader(x) for reader in (*self.readers, *self.functions)]
        return self.last(torch.cat(outputs) if len(outputs) > 1 else outputs[0])


def calibrated(network, batch):
    return observe_network(network, RECIPE, [batch])


def conv_range(network):
    """Lower and upper end of the codes for the convolution's output, when its true range is -20 to 20."""
    batch = torch.linspace(-1, 1, 400).reshape(100, 1, 2, 2)
    (observer,) = [each.observer for each in observed_tensors(calibrated(network, batch)) if each.name == "conv"]
    affine = observer.affine()
    return -affine.zero_point * affine.scale, (255 - affine.zero_point) * affine.scale


@pytest.mark.parametrize(
    ("readers", "low", "high"),
    [([nn.Hardsigmoid()], -3, 3), ([nn.Hardtanh(-2, 5)], -2, 5), ([nn.Sigmoid()], -6.5, 6.5), ([nn.Tanh()], -3.5, 3.5),
     ([F.hardsigmoid], -3, 3), ([torch.tanh, nn.ReLU6()], -3.5, 6), ([F.hardswish, F.relu6], -3, 20), ([nn.SiLU(), nn.GELU()], -8, 20),
     ([lambda x: x.clamp(-1, 2)], -1, 2), ([nn.ELU()], -20, 20)],
    ids=lambda value: "+".join(getattr(one, "__name__", str(one)) for one in value) if isinstance(value, list) else str(value),
)  # fmt: skip
def test_codes_are_spent_on_what_the_readers_tell_apart(readers, low, high):
    """One reader that a convolution takes in needs no codes in front of it."""
    assert conv_range(Squashed(*readers)) == pytest.approx((low, high), abs=0.2)


def test_a_second_reader_that_needs_everything_keeps_the_range():
    class Residual(Squashed):
        def forward(self, x):
            x = self.conv(x)
            return self.last(F.hardswish(x) + x)

    assert conv_range(Residual()) == pytest.approx((-20, 20), abs=0.2)


def test_a_float_reader_gets_everything():
    class Out(Squashed):
        def forward(self, x):
            x = self.conv(x)
            return self.last(F.hardsigmoid(x)), x.softmax(1)

    assert conv_range(Out()) == pytest.approx((-20, 20), abs=0.2)


def test_two_readers_get_what_either_needs():
    class Two(Squashed):
        def forward(self, x):
            x = self.conv(x)
            return self.last(F.relu6(x) + F.hardsigmoid(x))

    low, high = conv_range(Two())
    assert low <= -2.9
    assert high >= 5.9


def test_an_observer_shared_by_branches_is_not_clipped_for_the_other_branch():
    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.left, self.right = nn.Conv2d(1, 2, 1), nn.Conv2d(1, 2, 1)
            self.relu6 = nn.ReLU6()

        def forward(self, x):
            return torch.cat([self.relu6(self.left(x)), self.right(x)], 1)

    torch.manual_seed(0)
    network, batch = Branches(), torch.randn(64, 1, 4, 4) * 30
    int8 = convert(calibrated(network, batch), RECIPE)
    reference = network(batch)
    assert (int8(batch) - reference).abs().max() < 0.05 * reference.abs().max()


@pytest.mark.parametrize("name", ["mobilenet_v2", "mobilenet_v3_small"])
def test_the_float_network_computes_the_same(name):
    torch.manual_seed(0)
    network = build_model(Arch("torchvision", name, {"num_classes": 10})).eval()
    batch = torch.randn(4, 3, 64, 64)
    prepared = prepare(network, RECIPE, batch)
    clip_to_activations(prepared)
    with torch.no_grad():
        torch.testing.assert_close(without_observers(prepared)(batch), network(batch), rtol=1e-4, atol=1e-4)


def test_clipping_is_what_saves_saturated_networks():
    """A few channels that are far below -3 would take most codes from the others."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 16, 3), nn.Hardsigmoid(), nn.Conv2d(16, 16, 3)).eval()
    network[0].bias.data[:2] = -40.0
    batch = torch.randn(32, 3, 12, 12)
    clipped, whole = calibrated(network, batch), prepare(network, RECIPE, batch)
    calibrate(whole, [batch])
    reference = network(batch)
    errors = [(convert(each, RECIPE)(batch) - reference).square().mean() for each in (clipped, whole)]
    assert errors[0] < errors[1] / 4


def test_quantization_aware_training_gets_gradients_through_it():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Hardswish(), nn.Flatten(), nn.Linear(16, 2))
    recipe = Recipe("qat", "x86", reduce="weights")
    batch = torch.randn(8, 1, 4, 4)
    prepared = prepare(network, recipe, batch)
    clip_to_activations(prepared)
    prepared(batch).square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in prepared.parameters())
    assert convert(prepared, recipe)(batch).shape == (8, 2)


def test_it_names_what_it_clips():
    prepared = prepare(Squashed(nn.Hardsigmoid()), RECIPE, torch.randn(1, 1, 2, 2))
    assert clip_to_activations(prepared) == ["conv"]
