"""The U-Net of Ronneberger et al. (2015), with convolutions that keep the size: a class for each pixel."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from dlkit.core.components import ComponentError
from dlkit.core.models.blocks import Activation, ConvBlock, check_number, initialize_convolutions
from dlkit.suggestions import did_you_mean

UPS = ("transposed", "bilinear", "nearest")


class UNet(nn.Module):
    """Stages of convolutions with max pooling between them, then the same way up, where each stage also gets what the one of its size
    down there made: both concatenated.

    Images (N, in_channels, H, W) to logits (N, num_classes, H, W).
    """

    def __init__(
        self, down: Sequence[nn.Module], ups: Sequence[nn.Module], up: Sequence[nn.Module], head: nn.Module
    ) -> None:
        super().__init__()
        self.down = nn.ModuleList(down)
        self.pool = nn.MaxPool2d(2)
        self.ups = nn.ModuleList(ups)
        self.up = nn.ModuleList(up)
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        """Logits of each pixel."""
        skips = []
        for index, stage in enumerate(self.down):
            x = stage(self.pool(x) if index else x)
            skips.append(x)
        for larger, stage, skip in zip(self.ups, self.up, reversed(skips[:-1]), strict=True):
            x = stage(torch.cat([skip, larger(x)], 1))
        out: Tensor = self.head(x)
        return out


def unet(
    in_channels: int,
    num_classes: int,
    *,
    input_size: Sequence[int],
    width: int = 32,
    depth: int = 4,
    convs: int = 2,
    up: str = "transposed",
    activation: Activation = "relu",
    norm: str = "batch",
    dropout: float = 0.0,
) -> UNet:
    """Returns a U-Net of `depth` halvings: `convs` convolutions at each size, `width` channels at the largest and twice as many after
    each halving. The way up is by transposed convolutions, or by upsampling (`up` bilinear or nearest) and a convolution.

    `dropout` is that of the smallest size. `norm` is batch, group, layer or none. Sides of pictures must be multiples of 2 to the power
    of `depth`.
    """
    check_number("width", width, least=1, most=1024)
    check_number("depth", depth, least=1, most=8)
    check_number("convs", convs, least=1, most=16)
    check_number("dropout", dropout, least=0, most=1, whole=False)
    if up not in UPS:
        raise ComponentError(
            f"no way up {up!r}.{did_you_mean(str(up), UPS)} It is one of {', '.join(UPS)}", option="up"
        )
    _check_sides(input_size, depth)
    widths = [width * 2**stage for stage in range(depth + 1)]
    build = _Stages(convs, activation, norm)
    down = [build.stage(before, after) for before, after in zip([in_channels, *widths], widths, strict=False)]
    if dropout:
        down[-1] = nn.Sequential(down[-1], nn.Dropout2d(dropout))
    steps = list(zip(reversed(widths[1:]), reversed(widths[:-1]), strict=True))
    ups = [build.larger(before, after, up) for before, after in steps]
    model = UNet(down, ups, [build.stage(2 * after, after) for _, after in steps], nn.Conv2d(width, num_classes, 1))
    initialize_convolutions(model)
    return model


def _check_sides(input_size: Sequence[int], depth: int) -> None:
    if wrong := [side for side in input_size[1:] if side % 2**depth]:
        raise ComponentError(
            f"a depth of {depth} halves pictures {depth} times, so that sides must be multiples of {2**depth}; these have {wrong[0]}. "
            "Set data.image_size, or a smaller depth",
            option="depth",
        )


class _Stages:
    """What all stages have in common."""

    def __init__(self, convs: int, activation: Activation, norm: str) -> None:
        self.convs, self.activation, self.norm = convs, activation, norm

    def stage(self, before: int, after: int) -> nn.Sequential:
        channels = [before, *[after] * self.convs]
        pairs = pairwise(channels)
        return nn.Sequential(*(ConvBlock(*pair, activation=self.activation, norm=self.norm) for pair in pairs))

    def larger(self, before: int, after: int, up: str) -> nn.Module:
        if up == "transposed":
            return nn.ConvTranspose2d(before, after, 2, 2)
        scaled = nn.Upsample(scale_factor=2, mode=up, **({"align_corners": False} if up == "bilinear" else {}))
        return nn.Sequential(scaled, ConvBlock(before, after, activation=self.activation, norm=self.norm))
