"""Every pair of a layer and a norm: folded where that is right, and left alone where it is not."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dlkit.quantize import layer_statuses
from dlkit.quantize.ptq import Remedies, quantize_accurately

CHANNELS = 8
IMAGES, SERIES, VOLUMES, ROWS, OVER_TIME = (4, 8, 8), (4, 8), (4, 5, 5, 5), (4,), (8, 4)
LAYERS = {
    "conv2d": (IMAGES, lambda: nn.Conv2d(4, CHANNELS, 3)),
    "grouped": (IMAGES, lambda: nn.Conv2d(4, CHANNELS, 3, groups=4)),
    "dilated": (IMAGES, lambda: nn.Conv2d(4, CHANNELS, 3, dilation=2, padding=2, bias=False)),
    "transposed": (IMAGES, lambda: nn.ConvTranspose2d(4, CHANNELS, 2, 2)),
    "grouped transposed": (IMAGES, lambda: nn.ConvTranspose2d(4, CHANNELS, 3, 2, groups=2)),
    "conv1d": (SERIES, lambda: nn.Conv1d(4, CHANNELS, 3)),
    "transposed 1d": (SERIES, lambda: nn.ConvTranspose1d(4, CHANNELS, 2, 2, bias=False)),
    "conv3d": (VOLUMES, lambda: nn.Conv3d(4, CHANNELS, 3)),
    "linear": (ROWS, lambda: nn.Linear(4, CHANNELS)),
    "linear over time": (OVER_TIME, lambda: nn.Linear(4, CHANNELS)),  # 8 steps, 8 features
}


def _batch_norm(rank, **options):
    return {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}[rank](CHANNELS, **options)


def _instance_norm(rank):
    return {3: nn.InstanceNorm1d, 4: nn.InstanceNorm2d, 5: nn.InstanceNorm3d}[rank](CHANNELS, affine=True)


class ActivatedNorm(nn.BatchNorm2d):
    """A norm with an activation in it, as networks of others have: a class of its own that calls the function."""

    def forward(self, x):
        x = F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.1, self.eps)
        return F.relu(x)


NORMS = {
    "batch": _batch_norm,
    "batch without statistics": lambda rank: _batch_norm(rank, track_running_stats=False),
    "batch without weights": lambda rank: _batch_norm(rank, affine=False),
    "instance": _instance_norm,
    "group": lambda rank: nn.GroupNorm(4, CHANNELS),
}


# an instance norm needs places
PAIRS = [(layer, norm) for layer in LAYERS for norm in NORMS if (layer, norm) != ("linear", "instance")]


@pytest.mark.parametrize(("layer", "norm"), PAIRS)
def test_a_layer_and_a_norm(layer, norm, tools):
    shape, build = LAYERS[layer]
    network = nn.Sequential(build(), NORMS[norm](len(shape) + 1), nn.ReLU(), nn.Flatten(), nn.LazyLinear(5))
    batches = [torch.randn(16, *shape) * 2 + 1 for _ in range(3)]
    with torch.no_grad():
        for batch in batches * 2:
            network.train()(batch)
    for parameter in network[1].parameters():
        nn.init.uniform_(parameter, 0.2, 3)
    found = quantize_accurately(network.eval(), tools.RECIPE, batches, remedies=Remedies())
    assert found.fidelity.sqnr_db > 25


def test_norms_that_are_a_class_of_their_own_are_folded(tools):
    layers = [nn.Conv2d(3, 8, 3, bias=False), ActivatedNorm(8), nn.Conv2d(8, 8, 3, groups=8), ActivatedNorm(8)]
    network = nn.Sequential(*layers, nn.Flatten(), nn.LazyLinear(5))
    batches = [torch.randn(16, 3, 8, 8) for _ in range(3)]
    network(batches[0])
    for norm in (network[1], network[3]):
        nn.init.uniform_(norm.running_var, 0.3, 2)
        nn.init.uniform_(norm.running_mean)
    found = quantize_accurately(network.eval(), tools.RECIPE, batches, remedies=Remedies())
    assert found.fidelity.sqnr_db > 25
    rows = layer_statuses(network, found.network, found.recipe)
    assert [(row.name, row.reason) for row in rows if not row.is_int8] == []
    assert found.network.get_submodule("0").activation == found.network.get_submodule("2").activation == "relu"
