import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from dlkit.errors import UsageError
from dlkit.quantize import Recipe
from dlkit.quantize.graph import convert
from dlkit.quantize.ptq import equalize, fidelity_of, find_links, observe_network, outputs_of, scale_link


def separable(activation=nn.ReLU, groups=8):
    """conv, depthwise (or grouped), pointwise, pooling, linear; batch norms with statistics of their own."""
    torch.manual_seed(0)
    network = nn.Sequential(
        *(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), activation()),
        *(nn.Conv2d(8, 8, 3, groups=groups), nn.BatchNorm2d(8), activation()),
        *(nn.Conv2d(8, 12, 1), activation(), nn.MaxPool2d(2), nn.Dropout()),
        *(nn.Flatten(), nn.Linear(12 * 9, 10), nn.ReLU(), nn.Linear(10, 4)),
    )
    for _ in range(5):
        network.train()(torch.randn(16, 3, 10, 10) * 2 + 1)
    return network.eval()


def make_hard(network, most=100.0, seed=0):
    """Channels of the same network, rescaled by up to `most` either way; what it computes stays."""
    hard = copy.deepcopy(network)
    generator = torch.Generator().manual_seed(seed)
    for link in find_links(hard):
        count = len(hard.get_submodule(link.source).weight)
        scale_link(hard, link, most ** (2 * torch.rand(count, generator=generator) - 1))
    return hard


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("groups", [1, 2, 8])
def test_the_network_computes_the_same(dtype, groups):
    network = make_hard(separable(groups=groups)).to(dtype)
    equalized = equalize(network)
    x = torch.randn(8, 3, 10, 10, dtype=dtype)
    torch.testing.assert_close(equalized.network(x), network(x), rtol=1e-5, atol=1e-5)
    assert len(equalized.links) == 4
    assert [name for name, _ in equalized.network.named_parameters()] == [
        name for name, _ in network.named_parameters()
    ]


def test_the_given_network_stays_as_it_is():
    network = separable()
    before = copy.deepcopy(network.state_dict())
    equalize(network)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def rows(layer, norm=None):
    """The largest weights that make each channel, with the batch norm folded."""
    layer = layer if norm is None else fuse_conv_bn_eval(layer, norm)
    return layer.weight.flatten(1).abs().amax(1)


@pytest.mark.parametrize("groups", [1, 8])
def test_ranges_on_both_sides_become_equal(groups):
    network = equalize(make_hard(separable(groups=groups))).network
    pairs = [
        (rows(network[0], network[1]), network[3].weight.abs().amax((1, 2, 3) if groups == 8 else (0, 2, 3))),
        (rows(network[3], network[4]), network[6].weight.abs().amax((0, 2, 3))),
        (rows(network[6]), network[11].weight.unflatten(1, (12, 9)).abs().amax((0, 2))),
        (rows(network[11]), network[13].weight.abs().amax(0)),
    ]
    for made, read in pairs:
        torch.testing.assert_close(made, read, rtol=0.05, atol=0)


def test_what_lies_between_layers_decides_whether_they_are_linked():
    found = [(link.source, link.layer, link.readers, link.is_capped) for link in find_links(separable())]
    assert found == [
        ("1", "0", ("3",), False), ("4", "3", ("6",), False), ("6", "6", ("11",), False), ("11", "11", ("13",), False),
    ]  # fmt: skip
    assert [link.source for link in find_links(separable(nn.Hardswish))] == ["11"]
    assert [link.is_capped for link in find_links(separable(nn.ReLU6))] == [True, True, True, False]


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

    def forward(self, x):
        x = F.relu(self.first(x))
        return self.third(x + F.relu(self.second(x)))


class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

    def forward(self, x):
        return self.second(self.second(self.first(x)))


class Tied(Shared):
    def __init__(self):
        super().__init__()
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(self.first(x))


class Branches(Residual):
    def forward(self, x):
        x = F.relu(self.first(x))
        return self.second(x) + self.third(x)


class ReturnedToo(Shared):
    def forward(self, x):
        x = self.first(x)
        return x, self.second(x)


@pytest.mark.parametrize("kind", [Residual, Shared, Tied, ReturnedToo])
def test_channels_that_somebody_else_reads_are_no_link(kind):
    assert find_links(kind().eval()) == []


def test_two_readers_are_scaled_together():
    torch.manual_seed(0)
    network = make_hard(Branches().eval())
    equalized = equalize(network)
    (link,) = equalized.links
    assert (link.source, link.layer, link.readers, link.is_capped) == ("first", "first", ("second", "third"), False)
    x = torch.randn(4, 3, 5, 5)
    torch.testing.assert_close(equalized.network(x), network(x), rtol=1e-5, atol=1e-5)


def test_dead_channels_are_left_alone():
    network = separable()
    network[0].weight.data[2] = 0
    network[6].weight.data[:, 5] = 0
    equalized = equalize(network)
    x = torch.randn(4, 3, 10, 10)
    torch.testing.assert_close(equalized.network(x), network(x), rtol=1e-5, atol=1e-5)


def test_relu6_is_only_scaled_below_its_cap():
    network = separable(nn.ReLU6)
    batches = list(torch.randn(3, 16, 3, 10, 10) * 2 + 1)
    network[1].bias.data[0] = 20.0  # always at the cap
    equalized = equalize(network, batches)
    assert len(equalized.links) == 4
    torch.testing.assert_close(
        outputs_of(equalized.network, batches), outputs_of(network, batches), rtol=1e-5, atol=1e-5
    )
    assert equalized.network[1].weight[0] == network[1].weight[0]
    assert not torch.equal(equalized.network[1].weight, network[1].weight)
    doubled = [2 * batch for batch in batches]  # half of the cap was left for what calibration did not show
    difference = outputs_of(equalized.network, doubled) - outputs_of(network, doubled)
    assert difference.abs().max() < 1e-4 * outputs_of(network, doubled).abs().max()
    assert [link.is_capped for link in equalize(network).links] == [False]


@pytest.mark.parametrize("is_per_channel", [False, True])
def test_it_mends_networks_with_channels_of_unlike_range(is_per_channel):
    network = separable()
    hard, batches = make_hard(network), list(torch.randn(4, 32, 3, 10, 10) * 2 + 1)
    recipe = Recipe("static", "x86", "minmax", is_per_channel=is_per_channel, reduce="weights")
    fidelity = {}
    for name, each in (("hard", hard), ("equalized", equalize(hard).network)):
        prepared = observe_network(each, recipe, batches)
        outputs = outputs_of(convert(prepared, recipe), batches)
        fidelity[name] = fidelity_of(outputs_of(network, batches), outputs)
    assert fidelity["equalized"].sqnr_db > fidelity["hard"].sqnr_db + 10
    assert fidelity["equalized"].sqnr_db > 20


class OverTime(nn.Module):
    """A linear layer over time, then a norm over as many channels: they count along different axes."""

    def __init__(self):
        super().__init__()
        self.layer, self.norm, self.last = nn.Linear(12, 12), nn.BatchNorm1d(12), nn.Linear(12, 5)

    def forward(self, x):
        return self.last(F.relu(self.norm(self.layer(x))))


def test_axes_that_only_seem_to_fit_are_no_link():
    torch.manual_seed(0)
    network = OverTime()
    for _ in range(5):
        network.train()(torch.randn(16, 12, 12))
    nn.init.uniform_(network.norm.weight, 0.1, 3)
    network.eval()
    assert [link.source for link in find_links(network)] == ["norm"]
    equalized = equalize(network, [torch.randn(8, 12, 12)])
    assert equalized.links == ()
    assert len(equalize(separable(), [torch.randn(8, 3, 10, 10)]).links) == 4


@pytest.mark.parametrize("activation", [nn.ReLU, nn.ReLU6])
def test_a_norm_without_statistics_is_no_link(activation):
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, track_running_stats=False), activation(), nn.Conv2d(8, 4, 1)
    ).eval()
    assert equalize(network, [torch.randn(8, 3, 10, 10)]).links == ()


def branching(self, x):
    return self.conv(x) if x.sum() > 0 else -self.conv(x)


def test_what_is_kept_in_float_is_not_followed():
    inner = type("Branching", (nn.Module,), {"forward": branching})()
    inner.conv = nn.Conv2d(8, 8, 1)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), inner, nn.Conv2d(8, 4, 1)).eval()
    assert [link.source for link in equalize(network, [torch.randn(8, 3, 10, 10)], ["3"]).links] == ["0"]
    with pytest.raises(UsageError, match="--keep-float 3"):
        find_links(network)
