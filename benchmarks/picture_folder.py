"""Claim: pictures from a folder come as fast as from the best plain DataLoader with the same transforms, and with `data.cache: disk` from
the second epoch on faster by as much as decoding takes.

Makes JPEG files of 256 px and reads epochs of them, without a network: torchvision's ImageFolder with v2 transforms in a plain
DataLoader, dlkit's loader, and dlkit's loader over decoded files, each with 0, 1 and 2 loader processes. Prints pictures per second of
one epoch (of decoded files, after the first), and ratios round by round to the best plain DataLoader.

    python benchmarks/picture_folder.py [--pictures 5000] [--rounds 3] [--folder FOLDER]
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from dlkit.config import load_mapping
from dlkit.core.data import build_data

BATCH = 64
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
CROPS = [v2.RandomResizedCrop(224, antialias=True), v2.RandomHorizontalFlip()]
RESIZED = [v2.Resize((128, 128), antialias=True), v2.RandomHorizontalFlip()]
RECIPES: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "random resized crops of 224": (
        CROPS,
        {"transforms": [{"name": "RandomResizedCrop", "size": 224}, "RandomHorizontalFlip"], "image_size": 224},
    ),
    "resized to 128": (RESIZED, {"transforms": ["RandomHorizontalFlip"], "image_size": 128}),
}


def make_pictures(folder: Path, count: int) -> None:
    """Smooth noise in 10 classes, as JPEG of 256 px and quality 90."""
    generator = np.random.default_rng(0)
    for number in range(count):
        path = folder / f"class{number % 10}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = Image.fromarray(generator.integers(0, 256, (64, 64, 3), dtype=np.uint8)).resize((256, 256))
        noise.filter(ImageFilter.GaussianBlur(1)).save(path, quality=90)


def plain_epochs(folder: Path, transforms: list[Any], workers: int) -> Iterator[int]:
    """One epoch for each `next`, of a plain DataLoader."""
    prepare = v2.Compose([v2.ToImage(), *transforms, v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)])
    loader = DataLoader(
        ImageFolder(str(folder), prepare), BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0
    )
    while True:
        yield sum(len(targets) for _, targets in loader)


def dlkit_epochs(folder: Path, options: dict[str, Any], workers: int, cache: Path | None) -> Iterator[int]:
    """The same of dlkit's."""
    data = {
        "name": "imagefolder", "path": str(folder), "batch_size": BATCH, "num_workers": workers, "val": "none", "test": "none",
        "normalize": {"mean": MEAN, "std": STD}, "scan": "off", "cache": "none", **options,
    }  # fmt: skip
    if cache is not None:
        data |= {"cache": "disk", "cache_dir": str(cache)}
    splits = build_data(load_mapping({"data": data, "model": "small_cnn"}), device=torch.device("cpu"), seed=0)
    for epoch in range(1_000_000):
        yield sum(len(batch.targets) for batch in splits.train.batches(epoch))


def measure(ways: dict[str, Callable[[], Iterator[int]]], rounds: int) -> dict[str, list[float]]:
    """Pictures per second of each way, an epoch of each in turn; the first, which starts loader processes, does not count."""
    running = {name: way() for name, way in ways.items()}
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, epochs in running.items():
            started = time.perf_counter()
            count = next(epochs)
            if number:
                speeds[name].append(count / (time.perf_counter() - started))
    return speeds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = arguments.folder or Path(made) / "pictures"
        if not folder.exists():
            make_pictures(folder, arguments.pictures)
        for title, (transforms, options) in RECIPES.items():
            ways: dict[str, Callable[[], Iterator[int]]] = {}
            for workers in (0, 1, 2):
                ways[f"DataLoader, {workers}"] = partial(plain_epochs, folder, transforms, workers)
                ways[f"dlkit, {workers}"] = partial(dlkit_epochs, folder, options, workers, None)
                ways[f"decoded, {workers}"] = partial(dlkit_epochs, folder, options, workers, Path(made) / "cache")
            speeds = measure(ways, arguments.rounds)
            plain = [statistics.median(speeds[f"DataLoader, {workers}"]) for workers in (0, 1, 2)]
            best = f"DataLoader, {plain.index(max(plain))}"
            print(
                f"\n{title}; torch {torch.__version__}, {torch.get_num_threads()} threads; ratios to {best} processes"
            )
            for name, found in speeds.items():
                ratios = [mine / other for mine, other in zip(found, speeds[best], strict=True)]
                spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
                print(f"{name:14} {statistics.median(found):7.0f} pictures/s, {spread}", flush=True)


if __name__ == "__main__":
    main()
