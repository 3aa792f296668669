"""Points on three intertwined spirals: a data set is a class with `__len__` and `__getitem__`."""

import math

import torch
from torch import Tensor
from torch.utils.data import Dataset


class Spirals(Dataset[tuple[Tensor, int]]):
    """Two coordinates each, and the arm that a point lies on."""

    classes = ("red", "green", "blue")

    def __init__(self, num_samples: int = 1200, noise: float = 0.15) -> None:
        generator = torch.Generator().manual_seed(7)
        self.targets = [index % 3 for index in range(num_samples)]
        radius = torch.rand(num_samples, generator=generator)
        angle = (
            4 * radius
            + 2 * math.pi / 3 * torch.tensor(self.targets)
            + noise * torch.randn(num_samples, generator=generator)
        )
        self.points = torch.stack([radius * angle.cos(), radius * angle.sin()], 1)

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.points[index], self.targets[index]
