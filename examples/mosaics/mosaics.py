"""Mosaics of the real FashionMNIST: a data set with several labels per sample.

Each picture of 56x56 pixels has two rows of two cells, each with a picture of 28x28 pixels or, one time in four, nothing; its
labels are the classes that are there. Train and test pictures stay apart.
"""

import gzip
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

DEBIAN = "/usr/share/datasets/fashion-mnist"  # apt install dataset-fashion-mnist


class Mosaics(Dataset[tuple[Tensor, Tensor]]):
    """`targets` has a 1 for each class that is there and a 0 for the others; such targets make the task multilabel."""

    classes = (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    )

    def __init__(self, train: bool, num_samples: int = 10_000, folder: str = DEBIAN) -> None:
        count = num_samples if train else num_samples // 4
        generator = torch.Generator().manual_seed(int(train))
        part = Path(folder) / ("train" if train else "t10k")
        pictures = _read(f"{part}-images-idx3-ubyte.gz", 16).view(-1, 1, 28, 28)
        labels = _read(f"{part}-labels-idx1-ubyte.gz", 8).long()
        chosen = torch.randperm(len(pictures), generator=generator)[: 4 * count].view(count, 4)
        is_there = torch.rand(count, 4, generator=generator) < 0.75
        cells = pictures[chosen] * is_there[:, :, None, None, None]
        self.pictures = cells.view(count, 2, 2, 1, 28, 28).permute(0, 3, 1, 4, 2, 5).reshape(count, 1, 56, 56)
        self.targets = torch.zeros(count, len(self.classes), dtype=torch.long)
        self.targets.scatter_reduce_(1, labels[chosen], is_there.long(), "amax")

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.pictures[index], self.targets[index]


def _read(path: str, num_header: int) -> Tensor:
    content = gzip.decompress(Path(path).read_bytes())
    return torch.frombuffer(bytearray(content[num_header:]), dtype=torch.uint8)
