"""A sample of torchvision's classifiers, shrunk by 30 %; benchmarks/prune_zoo.py goes through all of them."""

import pytest
import torch
import torchvision
from torch import nn
from torchvision.models.swin_transformer import SwinTransformer
from torchvision.models.vision_transformer import VisionTransformer

from dlkit.prune.channels import ChannelLimits, choose, find_groups, shrink_verified, unit_importance


def small_vit():
    return VisionTransformer(
        image_size=32, patch_size=8, num_layers=2, num_heads=2, hidden_dim=32, mlp_dim=64, num_classes=10
    )


def small_swin():
    return SwinTransformer(
        patch_size=[4, 4], embed_dim=16, depths=[1, 2], num_heads=[2, 4], window_size=[4, 4], num_classes=10
    )


# how many groups are cut at least, and how many of them are exact; among them are a classifier made by a convolution, channel
# shuffles, squeeze and excitation, attention, and shifted windows
NETWORKS = {
    "squeezenet1_1": (lambda: torchvision.models.squeezenet1_1(num_classes=10), 25, 25),
    "shufflenet_v2_x0_5": (lambda: torchvision.models.shufflenet_v2_x0_5(num_classes=10), 20, 20),
    "mobilenet_v3_small": (lambda: torchvision.models.mobilenet_v3_small(num_classes=10), 20, 20),
    "small_vit": (small_vit, 2, 2),
    "small_swin": (small_swin, 3, 3),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_a_classifier_is_shrunk_and_verified(name):
    build, num_cut, num_exact = NETWORKS[name]
    torch.manual_seed(0)
    network = build()
    x = torch.randn(8, 3, 32 if name.startswith("small") else 64, 32 if name.startswith("small") else 64)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        network.train()(x)  # statistics that keep signals alive
    network.eval()
    groups = find_groups(network, x[:2])
    keep = choose(groups, unit_importance(network, groups, "l1"), 0.3, limits=ChannelLimits())
    verified = shrink_verified(network, groups, keep, x[:2])
    assert not verified.rolled_back
    assert len(verified.keep) >= num_cut and sum(kind == "exact" for kind in verified.kinds.values()) >= num_exact
    assert verified.num_parameters < 0.95 * sum(map(torch.numel, network.parameters()))
    small = verified.network
    with torch.no_grad():
        assert small(x).shape == network(x).shape == (8, 10)
    small.train()(x).square().mean().backward()
    assert all(parameter.grad is not None for parameter in small.parameters())
