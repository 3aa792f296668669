"""Small networks of our own for vectors and for small images."""

import math
from collections.abc import Sequence

from torch import Tensor, nn

from dlkit.core.components import ComponentError
from dlkit.core.models.activations import build_activation
from dlkit.core.models.blocks import Activation, ConvBlock, check_number, initialize_convolutions
from dlkit.suggestions import did_you_mean

_WIDEST = 65536
_DEEPEST = 1000  # layers; a file may list any number in a few bytes
_LARGEST_FULL_SIDE = 40  # larger images are halved by the first convolution
_SMALLEST_SIDE = 4  # pooling stops here, so that global pooling still sees places


def mlp(
    input_size: Sequence[int],
    num_classes: int,
    *,
    hidden: Sequence[int] = (256, 128),
    activation: Activation = "relu",
    dropout: float = 0.0,
    norm: str = "none",
) -> nn.Sequential:
    """Fully connected layers over flattened input of any shape. `norm` is none, batch or layer."""
    if not isinstance(hidden, list | tuple) or len(hidden) > _DEEPEST:
        raise ComponentError(f"hidden must be a list of at most {_DEEPEST} widths, got {hidden!r:.80}", option="hidden")
    for width in hidden:
        check_number("hidden", width, least=1, most=_WIDEST)
    check_number("dropout", dropout, least=0, most=1, whole=False)
    layers: list[nn.Module] = [nn.Flatten()]
    features = math.prod(input_size)
    for width in hidden:
        linear = nn.Linear(features, width)
        nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
        nn.init.zeros_(linear.bias)
        layers += [linear, *_vector_norm(norm, width), build_activation(activation)]
        if dropout:
            layers.append(nn.Dropout(dropout))
        features = width
    return nn.Sequential(*layers, nn.Linear(features, num_classes))


def _vector_norm(norm: str, width: int) -> list[nn.Module]:
    if norm == "batch":
        return [nn.BatchNorm1d(width)]
    if norm == "layer":
        return [nn.LayerNorm(width)]
    if norm == "none":
        return []
    known = ("none", "batch", "layer")
    hint = did_you_mean(str(norm), known)
    raise ComponentError(f"no norm {norm!r} for mlp.{hint} It is one of {', '.join(known)}", option="norm")


class SmallCNN(nn.Module):
    """Stages of 3x3 convolutions with max pooling between them, global average pooling, a linear head.

    Images (N, in_channels, H, W) to logits (N, num_classes).
    """

    def __init__(self, features: nn.Sequential, channels: int, num_classes: int, *, dropout: float) -> None:
        super().__init__()
        self.features = features
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch of images."""
        out: Tensor = self.fc(self.dropout(self.flatten(self.avgpool(self.features(x)))))
        return out


def small_cnn(
    in_channels: int,
    num_classes: int,
    *,
    input_size: Sequence[int],
    width: int = 32,
    convs: Sequence[int] = (1, 2, 1),
    activation: Activation = "relu",
    norm: str = "batch",
    dropout: float = 0.1,
) -> SmallCNN:
    """Returns a fast network for images of 8x8 to 64x64, with one stage for each number of `convs` and twice the width in each.

    The first stage has one convolution because activations of full size cost the most time. `norm` is batch, group,
    layer or none.
    """
    check_number("width", width, least=1, most=4096)
    check_number("dropout", dropout, least=0, most=1, whole=False)
    if not isinstance(convs, list | tuple) or not 1 <= len(convs) <= 6:
        raise ComponentError(f"convs must be a list of 1 to 6 numbers, got {convs!r}", option="convs")
    for count in convs:
        check_number("convs", count, least=1, most=64)
    features: list[nn.Module] = []
    channels, side = in_channels, min(input_size[1:])
    for stage, count in enumerate(convs):
        for _ in range(count):
            stride = 2 if not features and side > _LARGEST_FULL_SIDE else 1
            features.append(ConvBlock(channels, width * 2**stage, stride=stride, activation=activation, norm=norm))
            channels, side = width * 2**stage, -(-side // stride)
        if stage < len(convs) - 1 and side >= 2 * _SMALLEST_SIDE:
            features.append(nn.MaxPool2d(2))
            side //= 2
    model = SmallCNN(nn.Sequential(*features), channels, num_classes, dropout=dropout)
    initialize_convolutions(model)
    return model
