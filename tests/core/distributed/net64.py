"""A network in float64, so that what several processes compute can be held against one at 1e-12."""

import torch
from torch import nn


class Net(nn.Module):
    """Convolution, optionally batch norm and dropout, linear; the outputs are float64 whatever the inputs."""

    def __init__(self, num_classes: int, in_channels: int, norm: bool = False, drop: float = 0.0) -> None:
        super().__init__()
        layers = [
            nn.Conv2d(in_channels, 6, 3, bias=not norm),
            nn.BatchNorm2d(6) if norm else nn.Identity(),
            nn.Tanh(),
            nn.Flatten(),
        ]
        self.body = nn.Sequential(*layers, nn.Dropout(drop), nn.Linear(6 * 36, num_classes)).double()

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.body(inputs.double())


class Labels:
    """Pictures of noise, each with its own of several labels."""

    def __init__(self, num_samples: int, shape: list[int], num_classes: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.inputs = torch.rand(num_samples, *shape, generator=generator)
        self.rows = (torch.rand(num_samples, num_classes, generator=generator) < 0.4).long()

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.inputs[index], self.rows[index]


class MapNet(nn.Module):
    """A class for each pixel, in float64."""

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        layers = nn.Conv2d(in_channels, 5, 3, padding=1), nn.Tanh(), nn.Conv2d(5, num_classes, 1)
        self.body = nn.Sequential(*layers).double()

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.body(inputs.double())


class Maps:
    """Pictures of noise with masks, of which from no pixel to nearly all are not counted, and of every ninth none."""

    def __init__(self, num_samples: int, shape: list[int], num_classes: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.inputs = torch.rand(num_samples, *shape, generator=generator)
        self.masks = torch.randint(0, num_classes, (num_samples, *shape[1:]), generator=generator)
        shares = torch.rand(num_samples, 1, 1, generator=generator)
        self.masks[torch.rand(self.masks.shape, generator=generator) < shares] = 255
        self.masks[::9] = 255
        self.classes = [f"class {number}" for number in range(num_classes)]

    def __len__(self) -> int:
        return len(self.masks)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.inputs[index], self.masks[index]


class HalfUsed(Net):
    """Has a layer that no sample passes through."""

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__(num_classes, in_channels)
        self.unused = nn.Linear(3, 3).double()
