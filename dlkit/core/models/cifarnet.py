"""A network for images of 8x8 to 64x64 that learns in few epochs, after the one of airbench (Jordan, 2024,
arXiv:2404.00498).
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dlkit.core.components import ComponentError
from dlkit.core.models.activations import build_activation
from dlkit.core.models.blocks import Activation, build_norm, check_number, initialize_convolutions

_STEM_SIDE = 2
Floats = NDArray[np.floating[Any]]


class PooledStage(nn.Module):
    """A convolution, pooling, and a second convolution; what is normalized has been pooled, which saves time and memory.

    Images (N, in_channels, H, W) to (N, channels, H // 2, W // 2), or of the same size without `is_pooled`.
    """

    def __init__(self, in_channels: int, channels: int, *, is_pooled: bool, activation: Activation, norm: str) -> None:
        super().__init__()
        bias = norm == "none"
        self.conv1 = nn.Conv2d(in_channels, channels, 3, padding=1, bias=bias)
        self.pool = nn.MaxPool2d(2) if is_pooled else nn.Identity()
        self.norm1 = build_norm(norm, channels)
        self.act1 = build_activation(activation)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=bias)
        self.norm2 = build_norm(norm, channels)
        self.act2 = build_activation(activation)

    def forward(self, x: Tensor) -> Tensor:
        """Apply them in turn."""
        x = self.act1(self.norm1(self.pool(self.conv1(x))))
        out: Tensor = self.act2(self.norm2(self.conv2(x)))
        return out


class CifarNet(nn.Module):
    """Patches of 2x2 as frequencies, stages that halve the image, global pooling, a linear head.

    Images (N, in_channels, H, W) to logits (N, num_classes).
    """

    def __init__(self, stem: nn.Sequential, stages: nn.Sequential, channels: int, num_classes: int, *, dropout: float):
        super().__init__()
        self.stem = stem
        self.stages = stages
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch of images."""
        out: Tensor = self.fc(self.dropout(self.flatten(self.pool(self.stages(self.stem(x))))))
        return out


def cifarnet(
    in_channels: int,
    num_classes: int,
    *,
    input_size: Sequence[int],
    widths: Sequence[int] = (64, 256, 256),
    activation: Activation = "gelu",
    norm: str = "batch",
    dropout: float = 0.0,
) -> CifarNet:
    """Returns a network with a stage for each of `widths`, which halves the image as long as something is left of it.

    It begins near to whitening, as airbench's does with filters that it takes from the data: the first convolution holds
    the 2x2 patches' discrete cosine transform, over channels too, with both signs. Other convolutions begin as the identity of what
    comes in. `norm` is batch, group, layer or none.
    """
    check_number("dropout", dropout, least=0, most=1, whole=False)
    if not isinstance(widths, list | tuple) or not 1 <= len(widths) <= 6:
        raise ComponentError(f"widths must be a list of 1 to 6 numbers, got {widths!r:.80}", option="widths")
    for width in widths:
        check_number("widths", width, least=1, most=4096)
    stem = _frequencies(in_channels)
    stages, channels, side = [], stem.out_channels, min(input_size[1:]) - _STEM_SIDE + 1
    for width in widths:
        stages.append(PooledStage(channels, width, is_pooled=side >= _STEM_SIDE, activation=activation, norm=norm))
        channels, side = width, max(side // 2, 1)
    for stage in stages:
        initialize_convolutions(stage)
        _begin_as_identity(stage)
    first = nn.Sequential(stem, build_norm(norm, stem.out_channels), build_activation(activation))
    return CifarNet(first, nn.Sequential(*stages), widths[-1], num_classes, dropout=dropout)


def _frequencies(in_channels: int) -> nn.Conv2d:
    """A convolution with the orthonormal cosine transform (type II) of patches, and its negative, as filters."""
    sizes = (in_channels, _STEM_SIDE, _STEM_SIDE)
    conv = nn.Conv2d(in_channels, 2 * math.prod(sizes), _STEM_SIDE, bias=False)
    basis: Floats = np.ones((1, 1))
    for size in sizes:
        basis = np.kron(basis, _cosines(size))
    with torch.no_grad():
        conv.weight.copy_(torch.tensor(np.concatenate([basis, -basis]).reshape(-1, *sizes), device=conv.weight.device))
    return conv


def _cosines(size: int) -> Floats:
    places = np.arange(size)
    rows: Floats = np.cos(math.pi / size * (places + 0.5) * places[:, None]) * math.sqrt(2 / size)
    rows[0] /= math.sqrt(2)
    return rows


def _begin_as_identity(stage: PooledStage) -> None:
    for conv in (stage.conv1, stage.conv2):
        nn.init.dirac_(conv.weight[: conv.in_channels])
