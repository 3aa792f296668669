"""The residual network of He et al. (2016), section 4.2, for images of 16x16 to 64x64."""

from torch import Tensor, nn

from dlkit.core.components import ComponentError
from dlkit.core.models.activations import build_activation
from dlkit.core.models.blocks import Activation, build_norm, check_number, initialize_convolutions


class SmallResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut, which is a 1x1 convolution where the shape changes."""

    def __init__(self, in_channels: int, channels: int, *, stride: int, activation: Activation, norm: str) -> None:
        super().__init__()
        bias = norm == "none"
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=bias)
        self.bn1 = build_norm(norm, channels)
        self.act1 = build_activation(activation)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=bias)
        self.bn2 = build_norm(norm, channels)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or in_channels != channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=bias), build_norm(norm, channels)
            )
        self.act2 = build_activation(activation)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, in_channels, H, W) to (N, channels, H / stride, W / stride)."""
        out = self.act1(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        added: Tensor = self.act2(out + self.downsample(x))
        return added


class SmallResNet(nn.Module):
    """A 3x3 stem and three layers of residual blocks with 1, 2 and 4 times the width, at 1, 1/2 and 1/4 of the size."""

    def __init__(
        self, in_channels: int, num_classes: int, *, num_blocks: int, width: int, activation: Activation, norm: str
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, 1, 1, bias=norm == "none")
        self.bn1 = build_norm(norm, width)
        self.act1 = build_activation(activation)
        self.layer1 = _build_layer(width, width, num_blocks, activation=activation, norm=norm)
        self.layer2 = _build_layer(width, 2 * width, num_blocks, activation=activation, norm=norm)
        self.layer3 = _build_layer(2 * width, 4 * width, num_blocks, activation=activation, norm=norm)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(4 * width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, in_channels, H, W) to logits (N, num_classes)."""
        x = self.act1(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        out: Tensor = self.fc(self.flatten(self.avgpool(x)))
        return out


def _build_layer(
    in_channels: int, channels: int, num_blocks: int, *, activation: Activation, norm: str
) -> nn.Sequential:
    stride = 1 if in_channels == channels else 2
    first = SmallResidualBlock(in_channels, channels, stride=stride, activation=activation, norm=norm)
    rest = [
        SmallResidualBlock(channels, channels, stride=1, activation=activation, norm=norm)
        for _ in range(num_blocks - 1)
    ]
    return nn.Sequential(first, *rest)


def resnet_small(
    in_channels: int,
    num_classes: int,
    *,
    depth: int = 20,
    width: int = 16,
    activation: Activation = "relu",
    norm: str = "batch",
    zero_init_residual: bool = False,
) -> SmallResNet:
    """Returns a CIFAR-style ResNet of `depth` = 6n + 2 layers: 8, 14, 20, 32, 44, 56 ... `norm` is batch, group, layer or none.

    `zero_init_residual` begins every block as the identity: its last norm (or, without norms, its last convolution)
    starts at zero.
    """
    check_number("depth", depth, least=8, most=1202)
    check_number("width", width, least=1, most=4096)
    if depth % 6 != 2:
        lower = depth - (depth - 2) % 6
        raise ComponentError(
            f"depth must be 6n + 2, got {depth}; the nearest are {lower} and {lower + 6}", option="depth"
        )
    model = SmallResNet(
        in_channels, num_classes, num_blocks=(depth - 2) // 6, width=width, activation=activation, norm=norm
    )
    initialize_convolutions(model)
    if zero_init_residual:
        for block in (module for module in model.modules() if isinstance(module, SmallResidualBlock)):
            last = block.conv2 if norm == "none" else block.bn2
            nn.init.zeros_(last.weight)  # type: ignore[arg-type]
    return model
