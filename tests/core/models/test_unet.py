"""The U-Net: maps of the size of the picture, at all depths and by all ways up."""

import pytest
import torch

from dlkit.core.components import ComponentError
from dlkit.core.models import unet


@pytest.mark.parametrize("up", ["transposed", "bilinear", "nearest"])
@pytest.mark.parametrize(("depth", "size"), [(1, (2, 6)), (3, (24, 16))])
def test_maps_have_the_size_of_the_picture(up, depth, size):
    network = unet(
        3, 5, input_size=(3, *size), width=4, depth=depth, up=up, norm="group", activation="gelu", dropout=0.5
    )
    pictures = torch.randn(2, 3, *size, requires_grad=True)
    outputs = network(pictures)
    assert outputs.shape == (2, 5, *size)
    outputs.sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_every_skip_is_used():
    network = unet(1, 2, input_size=(1, 16, 16), width=2, depth=3).eval()
    pictures, changed = torch.randn(1, 1, 16, 16), []
    with torch.no_grad():
        before = network(pictures)
        for stage in network.up:
            weight = stage[0].conv.weight
            half, kept = weight.shape[1] // 2, weight.clone()
            weight[:, :half] = 0  # what comes from the skip
            changed.append(not torch.allclose(network(pictures), before))
            weight.copy_(kept)
    assert changed == [True] * 3


def test_sizes_and_options_that_cannot_be_are_refused():
    with pytest.raises(ComponentError, match="multiples of 16; these have 28"):
        unet(1, 2, input_size=(1, 28, 32))
    with pytest.raises(ComponentError, match="Did you mean 'transposed'"):
        unet(1, 2, input_size=(1, 32, 32), up="transpose")
