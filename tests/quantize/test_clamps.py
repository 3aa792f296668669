"""A clamp that is fused into the layer before it still holds for values beyond those of calibration."""

import pytest
import torch
from torch import nn

from dlkit.quantize import Recipe, pick_backend
from dlkit.quantize.graph import convert
from dlkit.quantize.ptq import observe_network


@pytest.mark.parametrize("reduce", ["none", "weights", "activations"])
@pytest.mark.parametrize("largest", [5.0, 10.0])
def test_relu6_holds_with_every_way_to_save_a_bit(reduce, largest):
    network = nn.Sequential(nn.Conv2d(2, 3, 1), nn.ReLU6()).eval()
    with torch.no_grad():
        network[0].weight.fill_(largest / 2)
        network[0].bias.zero_()
    x = torch.rand(4, 2, 6, 6, generator=torch.Generator().manual_seed(0))
    recipe = Recipe("static", pick_backend("auto"), reduce=reduce)
    with torch.inference_mode():
        assert convert(observe_network(network, recipe, [x]), recipe)(torch.ones_like(x)).max() < 6.1
