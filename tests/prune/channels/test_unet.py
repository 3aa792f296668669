"""Channels of a U-Net: what is read across a skip as well goes with its columns there, and the rest computes what it did."""

import copy

import pytest
import torch
from torch import nn

from dlkit.core.models import unet
from dlkit.prune.channels import ChannelLimits, choose, find_groups, shrink, shrink_verified, unit_importance

SIZE = (3, 16, 16)


def network_of(up):
    torch.manual_seed(0)
    network = unet(3, 4, input_size=SIZE, width=4, depth=2, up=up)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.normal_(module.bias)
    return network.eval().double()


def images(count=3):
    return torch.randn(count, *SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("up", ["transposed", "bilinear", "nearest"])
def test_channels_that_a_skip_carries_go_in_both_readers(up):
    network, removed = network_of(up), [0, 2]
    groups = {group.id: group for group in find_groups(network, images())}
    small = shrink(network, list(groups.values()), {"down.0.1.conv": (1, 3)})
    assert small.down[1][0].conv.weight.shape[1] == 2 and small.up[1][0].conv.weight.shape[1] == 4 + 2
    with torch.no_grad():
        full = network(images())
        network.down[1][0].conv.weight[:, removed] = 0  # behind the pooling
        network.up[1][0].conv.weight[:, removed] = 0  # a skip comes before what was enlarged
        assert torch.allclose(small(images()), network(images()), rtol=1e-10, atol=1e-12)
        assert not torch.allclose(full, network(images()), rtol=1e-2)


@pytest.mark.parametrize("up", ["transposed", "bilinear", "nearest"])
def test_every_group_is_verified_and_sizes_of_pictures_stay_free(up):
    network = network_of(up)
    before = copy.deepcopy(network.state_dict())
    groups = find_groups(network, images())
    limits = ChannelLimits(round_to=1)
    keep = choose(groups, unit_importance(network, groups, "l1"), 0.5, limits=limits)
    found = shrink_verified(network, groups, keep, images())
    assert len(found.keep) == len(groups) - 1 and set(found.kinds.values()) == {"exact"} and not found.rolled_back
    assert found.max_delta < 1e-12 and found.num_parameters < 0.35 * sum(map(torch.numel, network.parameters()))
    with torch.no_grad():
        assert found.network.double()(torch.zeros(1, 3, 20, 24, dtype=torch.float64)).shape == (1, 4, 20, 24)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
