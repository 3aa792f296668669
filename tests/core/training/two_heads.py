"""A small network of maps with an auxiliary head, dropout and batch norm, as a user would write it."""

import torch
from torch import nn

from dlkit.core.models import AuxiliaryOutputs


class TwoHeads(nn.Module):
    """Logits of each pixel, and while it trains those of a second head that looks at an earlier layer."""

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(in_channels, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.ReLU(), nn.Dropout(0.2))
        self.head, self.auxiliary = nn.Conv2d(6, num_classes, 1), nn.Conv2d(6, num_classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor | AuxiliaryOutputs:
        early = self.stem(x)
        maps = self.head(self.body(early))
        return AuxiliaryOutputs(maps, self.auxiliary(early), 0.4) if self.training else maps
