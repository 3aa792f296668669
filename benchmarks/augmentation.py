"""Images per second of crop, flip and normalization: dlkit's in-memory split against torchvision v2, sample by sample.

Both give the same thing: shuffled, augmented, normalized float32 batches of 256 on the CPU, from uint8 images that are
in memory already. The peer is torch's DataLoader over a dataset that calls v2.Compose([RandomCrop,
RandomHorizontalFlip, ToDtype, Normalize]) on one tensor at a time. Rounds alternate between all candidates, so that a
busy machine slows all of them.

    python benchmarks/augmentation.py [--rounds 5] [--images 20000]
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable, Iterable

import torch
import torchvision
import torchvision.transforms.v2 as v2
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from dlkit.core.data import BatchPlan, DataInfo, Finish, MemorySplit, Pipeline, TransformStep, batched_version

BATCH_SIZE = 256
SHAPES = {"1x28x28": (1, 28, 28), "3x32x32": (3, 32, 32)}


class PerSample(Dataset[tuple[Tensor, int]]):
    """Images in memory, transformed one at a time."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        size, channels = images.shape[-1], images.shape[1]
        self.images, self.labels = images, labels.tolist()
        self.transform = v2.Compose(
            [
                v2.RandomCrop(size, padding=4),
                v2.RandomHorizontalFlip(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize([0.5] * channels, [0.25] * channels),
            ]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.images[index]), self.labels[index]


def in_memory(images: Tensor, labels: Tensor) -> Callable[[int], Iterable[object]]:
    """Epochs of dlkit's in-memory split."""
    size, channels = images.shape[-1], images.shape[1]
    transforms = (v2.RandomCrop(size, padding=4), v2.RandomHorizontalFlip())
    pipeline = Pipeline(tuple(TransformStep(type(each).__name__, batched_version(each), each) for each in transforms))
    shape = tuple(images.shape[1:])
    info = DataInfo("classification", "image", shape, 10, None, (0.5,) * channels, (0.25,) * channels)
    plan = BatchPlan(len(images), BATCH_SIZE, seed=0, shuffle=True)
    finish = Finish(info, torch.device("cpu"), seed=0)
    return MemorySplit("train", images, torch.arange(len(images)), labels, plan, pipeline, finish).batches


def by_loader(images: Tensor, labels: Tensor, workers: int) -> Callable[[int], Iterable[object]]:
    """Epochs of a DataLoader whose workers, if any, have started before the clock does."""
    loader = DataLoader(
        PerSample(images, labels), BATCH_SIZE, shuffle=True, num_workers=workers, persistent_workers=workers > 0
    )
    return lambda epoch: loader


def images_per_second(epoch: Iterable[object], count: int) -> float:
    """Throughput of one pass."""
    start = time.perf_counter()
    for _ in epoch:
        pass
    return count / (time.perf_counter() - start)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=20_000)
    options = parser.parse_args()
    versions = f"torch {torch.__version__}, torchvision {torchvision.__version__}, Python {platform.python_version()}"
    print(f"{versions}, {torch.get_num_threads()} threads, {platform.processor() or platform.machine()}")
    print(f"{options.images} images, batch {BATCH_SIZE}, {options.rounds} rounds; median (least to most)")
    for name, shape in SHAPES.items():
        compare(name, shape, options.images, options.rounds)


def compare(name: str, shape: tuple[int, ...], count: int, rounds: int) -> None:
    """Print one table."""
    images = torch.randint(0, 256, (count, *shape), dtype=torch.uint8)
    labels = torch.arange(count) % 10
    candidates = {
        "dlkit, in memory": in_memory(images, labels),
        "v2 per sample, 0 workers": by_loader(images, labels, 0),
        "v2 per sample, 2 workers": by_loader(images, labels, 2),
    }
    speeds: dict[str, list[float]] = {candidate: [] for candidate in candidates}
    for number in range(rounds + 1):
        for candidate, epochs in candidates.items():
            speed = images_per_second(epochs(number), count)
            if number:  # the first round warms up
                speeds[candidate].append(speed)
    print(f"\n{name}")
    for candidate, found in speeds.items():
        ratios = [ours / theirs for ours, theirs in zip(speeds["dlkit, in memory"], found, strict=True)]
        print(
            f"  {candidate:26} {statistics.median(found):>10,.0f} images/s ({min(found):,.0f} to {max(found):,.0f})"
            f"   dlkit is {statistics.median(ratios):.1f} times as fast ({min(ratios):.1f} to {max(ratios):.1f})"
        )


if __name__ == "__main__":
    main()
