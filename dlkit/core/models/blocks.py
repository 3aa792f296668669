"""What our own networks are made of: normalization by name, one convolution with what follows it, initialization."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from dlkit.core.components import ComponentError
from dlkit.core.models.activations import build_activation
from dlkit.suggestions import did_you_mean

Activation = str | Mapping[str, Any]
NORMS = ("batch", "group", "layer", "none")


def build_norm(norm: str, channels: int) -> nn.Module:
    """Normalization of images (N, channels, H, W). `layer` is group norm with one group: over channels and places
    together.
    """
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    if norm == "group":
        return nn.GroupNorm(_num_groups(channels), channels)
    if norm == "layer":
        return nn.GroupNorm(1, channels)
    if norm == "none":
        return nn.Identity()
    raise ComponentError(
        f"no norm {norm!r}.{did_you_mean(str(norm), NORMS)} It is one of {', '.join(NORMS)}", option="norm"
    )


def _num_groups(channels: int) -> int:
    # 16 channels a group do best in Wu & He (2018), table 3; fewer where that does not divide
    return next(channels // size for size in (16, 8, 4, 2, 1) if channels % size == 0)


class ConvBlock(nn.Module):
    """Convolution of odd kernel that keeps the size (or halves it), normalization, activation: (N, C, H, W) to (N,
    channels, H', W').
    """

    def __init__(
        self, in_channels: int, channels: int, *, kernel: int = 3, stride: int = 1, activation: Activation, norm: str
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, kernel, stride, kernel // 2, bias=norm == "none")
        self.norm = build_norm(norm, channels)
        self.act = build_activation(activation)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the three in turn."""
        out: Tensor = self.act(self.norm(self.conv(x)))
        return out


def initialize_convolutions(model: nn.Module) -> None:
    """He initialization by fan-out, as torchvision's ResNet (He et al., 2015)."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def check_number(name: str, value: object, *, least: float, most: float, whole: bool = True) -> None:
    """Raise ComponentError with the option's name unless the value is a number in [least, most]."""
    kinds = (int,) if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not least <= value <= most:
        word = "a whole number" if whole else "a number"
        raise ComponentError(f"{name} must be {word} from {least:g} to {most:g}, got {value!r}", option=name)
