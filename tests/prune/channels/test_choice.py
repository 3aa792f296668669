"""Which channels go: importance against its formulas, and the choice by importance."""

import copy

import pytest
import torch
from torch import nn

from dlkit.prune.channels import ChannelLimits, choose, find_groups, taylor_importance, unit_importance

FREE = ChannelLimits(round_to=1, min_keep=0.0)


class Net(nn.Module):
    """Two convolutions, the first normalized, and a classifier over all places."""

    def __init__(self):
        super().__init__()
        self.a, self.norm = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.b, self.head = nn.Conv2d(8, 8, 3, padding=1), nn.Linear(128, 5)

    def forward(self, x):
        return self.head(self.b(self.norm(self.a(x)).relu()).relu().flatten(1))


@pytest.fixture
def network():
    torch.manual_seed(0)
    net = Net().eval()
    nn.init.uniform_(net.norm.weight, 0.5, 2)
    return net


@pytest.fixture
def groups(network):
    return find_groups(network, torch.randn(2, 3, 4, 4))


def test_norms_are_the_mean_size_of_all_that_makes_and_reads_a_channel(network, groups):
    makes = network.a.weight.detach().double().abs().mean((1, 2, 3))
    reads = network.b.weight.detach().double().abs().mean((0, 2, 3))
    expected = (makes / makes.mean() + reads / reads.mean()) / 2
    assert torch.allclose(unit_importance(network, groups, "l1")["a"], expected)
    makes = network.a.weight.detach().double().square().mean((1, 2, 3)).sqrt()
    reads = network.b.weight.detach().double().square().mean((0, 2, 3)).sqrt()
    assert torch.allclose(
        unit_importance(network, groups, "l2")["a"], (makes / makes.mean() + reads / reads.mean()) / 2
    )


def test_the_scale_of_batch_norm_and_the_distance_to_others(network, groups):
    scale = network.norm.weight.detach().double().abs()
    found = unit_importance(network, groups, "bn")
    assert torch.allclose(found["a"], scale / scale.mean()) and "b" not in found
    rows = network.a.weight.detach().double().flatten(1)
    distances = torch.stack([torch.stack([(one - other).norm() for other in rows]).mean() for one in rows])
    assert torch.allclose(unit_importance(network, groups, "fpgm")["a"], distances / distances.mean(), atol=1e-6)


def test_chance_follows_its_seed(network, groups):
    first, again, other = (unit_importance(network, groups, "random", seed=seed)["a"] for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_taylor_is_the_change_of_the_loss_that_a_channel_makes(network, groups):
    """For outputs that are linear in what reads a channel the first order is the whole change."""
    network = network.double()
    x, target = torch.randn(4, 3, 4, 4, dtype=torch.float64), torch.randn(4, 5, dtype=torch.float64)

    def loss_of(net, batch):
        return (net(batch) * target).sum()

    found = taylor_importance(network, groups, [x], loss_of)["b"]
    changes = []
    with torch.no_grad():
        for channel in range(8):
            cut = copy.deepcopy(network)
            cut.head.weight[:, channel * 16 : channel * 16 + 16] = 0
            changes.append((loss_of(network, x) - loss_of(cut, x)).abs())
    changes = torch.stack(changes)
    assert torch.allclose(found, changes / changes.mean())


def test_of_equal_units_exactly_the_share_goes_and_the_later_first(network, groups):
    equal = {group.id: torch.ones(group.size) for group in groups if not group.refusal}
    for scope in ("layer", "global"):
        assert choose(groups, equal, 0.5, limits=FREE, scope=scope) == {"a": (0, 1, 2, 3), "b": (0, 1, 2, 3)}


def test_floors_and_rounding_hold(network, groups):
    importance = {"a": torch.zeros(8), "b": torch.ones(8)}
    keep = choose(groups, importance, 0.45, limits=ChannelLimits(round_to=1, min_keep=0.25), scope="global")
    assert {name: len(units) for name, units in keep.items()} == {"a": 2, "b": 7}
    keep = choose(groups, importance, 0.45, limits=ChannelLimits(round_to=4, min_keep=0.0), scope="global")
    assert {name: len(units) for name, units in keep.items()} == {"a": 4, "b": 4}
