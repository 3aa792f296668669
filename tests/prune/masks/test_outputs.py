"""The layers that make the outputs are found in networks of any shape."""

import pytest
import torch
import torchvision
from torch import nn

from dlkit.prune.masks import find_output_weights, find_weights


class TwoHeads(nn.Module):
    """A dict of two outputs, one of which is a sum."""

    def __init__(self):
        super().__init__()
        self.body, self.left, self.right, self.far = (nn.Linear(4, 4) for _ in range(4))

    def forward(self, x):
        x = self.body(x).relu()
        return {"a": self.left(x), "b": [torch.softmax(self.right(x) + self.far(x), 1)]}


class FullyConvolutional(nn.Sequential):
    """The last convolution, then norm and pooling."""

    def __init__(self):
        super().__init__(
            nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 1), nn.BatchNorm2d(5), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )


class Recurrent(nn.Module):
    """A recurrent layer that is the output."""

    def __init__(self):
        super().__init__()
        self.first, self.lstm = nn.Linear(4, 4), nn.LSTM(4, 4)

    def forward(self, x):
        return self.lstm(self.first(x))


@pytest.mark.parametrize(
    ("build", "shape", "names"),
    [(TwoHeads, (4,), {"left.weight", "right.weight", "far.weight"}),
     (FullyConvolutional, (3, 8, 8), {"2.weight"}),
     (Recurrent, (5, 4), {"lstm.weight_ih_l0", "lstm.weight_hh_l0"}),
     (torchvision.models.resnet18, (3, 32, 32), {"fc.weight"}),
     (torchvision.models.squeezenet1_1, (3, 64, 64), {"classifier.1.weight"}),
     (torchvision.models.mobilenet_v3_small, (3, 32, 32), {"classifier.3.weight"}),
     (lambda: torchvision.models.vit_b_32(image_size=64), (3, 64, 64), {"heads.head.weight"})],
)  # fmt: skip
def test_output_layers(build, shape, names):
    network = build()
    mode = network.training
    assert find_output_weights(network, torch.zeros(2, *shape), find_weights(network)) == names
    assert network.training == mode and all(parameter.grad is None for parameter in network.parameters())
