"""Small networks, float and int8, to measure and compare."""

import pytest
import torch

from dlkit.core.models import small_cnn
from dlkit.quantize import Recipe, pick_backend, pick_reduce
from dlkit.quantize.graph import convert
from dlkit.quantize.ptq import observe_network

INPUT_SIZE = (1, 8, 8)


@pytest.fixture(scope="module")
def float_network():
    """A small convolutional network with random weights."""
    torch.manual_seed(0)
    return small_cnn(1, 10, input_size=INPUT_SIZE, width=8).eval()


@pytest.fixture(scope="module")
def int8_network(float_network):
    """The same in int8."""
    backend = pick_backend("auto")
    recipe = Recipe("static", backend, reduce=pick_reduce(backend))
    batches = [torch.randn(16, *INPUT_SIZE, generator=torch.Generator().manual_seed(1))]
    return convert(observe_network(float_network, recipe, batches), recipe)
