"""What the data tests share: configs from mappings, image folders, statistics of two samples."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from dlkit.config import Config, LoadedConfig

Load = Callable[..., LoadedConfig]
CPU = torch.device("cpu")


@pytest.fixture
def load() -> Load:
    """A loaded config from a data section (a name or a mapping) and other sections as keywords."""

    def make(data: str | Mapping[str, Any], **sections: Any) -> LoadedConfig:
        values = {"data": data, "model": "small_cnn", **sections}
        return LoadedConfig(Config.model_validate(values), values)

    return make


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    """Two classes of small images whose sizes and modes differ."""
    generator = torch.Generator().manual_seed(0)
    for number, name in enumerate(("cat", "dog")):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for index in range(6):
            height, width = 20 + 3 * index, 24 + number
            pixels = torch.randint(0, 256, (height, width, 3), dtype=torch.uint8, generator=generator).numpy()
            Image.fromarray(pixels).save(tmp_path / "pictures" / name / f"{index}.png")
    return tmp_path / "pictures"


def chi_square(counts: torch.Tensor, expected: torch.Tensor) -> float:
    """Pearson's statistic of counts against expected counts."""
    return float(((counts - expected) ** 2 / expected).sum())


@pytest.fixture
def same_distribution() -> Callable[[torch.Tensor, torch.Tensor], bool]:
    """Whether two samples of whole numbers could come from one distribution, at about one in a million."""

    def compare(first: torch.Tensor, second: torch.Tensor) -> bool:
        values = torch.cat([first, second]).unique()
        a = (first[:, None] == values).sum(0).double()
        b = (second[:, None] == values).sum(0).double()
        both = (a + b) / (len(first) + len(second))
        statistic = chi_square(a, both * len(first)) + chi_square(b, both * len(second))
        freedom = max(1, len(values) - 1)
        # Wilson and Hilferty's approximation of the chi-square quantile at 4.75 standard deviations
        return statistic < freedom * (1 - 2 / (9 * freedom) + 4.75 * (2 / (9 * freedom)) ** 0.5) ** 3

    return compare
