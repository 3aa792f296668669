"""Claim: training from YAML costs no more per step than a loop written by hand over the same tensors, and a data path with
per-sample transforms in a DataLoader, as torchvision's reference scripts have it, is several times slower on small images.

Three ways train the same small_cnn on the same random 28x28 images (crop and flip) for the same number of steps, in turn, in
one process: `dlkit`'s fit with its in-memory data path, a plain loop over the same batches, and a plain loop over a DataLoader.
Prints images per second, and ratios round by round with their spread.

    python benchmarks/training_loop.py [--rounds 5] [--samples 4096] [--width 16]
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from dlkit.config import load_mapping
from dlkit.core.stopping import StopRequest
from dlkit.core.training import Job, NoRecords, build_job, fit
from dlkit.events import ignore

BATCH = 128


def build(samples: int, width: int) -> Job:
    """A job on random images with crop and flip."""
    transforms = [{"name": "RandomCrop", "size": 28, "padding": 2}, "RandomHorizontalFlip"]
    data = {
        "name": "fake",
        "num_samples": samples,
        "shape": [1, 28, 28],
        "batch_size": BATCH,
        "val": "none",
        "transforms": transforms,
    }
    values = {"data": data, "model": {"name": "small_cnn", "width": width}, "train": {"epochs": 1}}
    return build_job(load_mapping(values), emit=ignore)


def train_with_dlkit(job: Job) -> None:
    """One epoch by `fit`."""
    job.learner.position.epoch = 0
    fit(job.learner, job.data, job.plan, NoRecords(), stop=StopRequest(), emit=ignore)
    job.learner.position.step = 0


def train_by_hand(job: Job) -> None:
    """One epoch of the plainest loop over the same batches."""
    model, optimizer = job.learner.model, job.learner.optimizer
    model.train()
    for batch in job.data.train.batches():
        loss = F.cross_entropy(model(job.learner.scoring.arrange(batch.inputs)), batch.targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


class PerSample(Dataset[tuple[torch.Tensor, int]]):
    """The same kind of images, transformed one by one."""

    def __init__(self, samples: int) -> None:
        self.images = torch.randint(0, 256, (samples, 1, 28, 28), dtype=torch.uint8)
        normalize = v2.Normalize([0.5], [0.25])
        self.transform = v2.Compose(
            [v2.RandomCrop(28, padding=2), v2.RandomHorizontalFlip(), v2.ToDtype(torch.float32, scale=True), normalize]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(self.images[index]), index % 10


def train_with_loader(job: Job, loader: DataLoader[tuple[torch.Tensor, int]]) -> None:
    """One epoch over a DataLoader."""
    model, optimizer = job.learner.model, job.learner.optimizer
    model.train()
    for inputs, targets in loader:
        loss = F.cross_entropy(model(job.learner.scoring.arrange(inputs)), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--samples", type=int, default=4096)
    parser.add_argument("--width", type=int, default=16)
    arguments = parser.parse_args()
    job = build(arguments.samples, arguments.width)
    loader = DataLoader(PerSample(arguments.samples), batch_size=BATCH, shuffle=True)
    ways: dict[str, Callable[[], None]] = {
        "by hand": lambda: train_by_hand(job),
        "dlkit": lambda: train_with_dlkit(job),
        "DataLoader": lambda: train_with_loader(job, loader),
    }
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, {arguments.samples} images of 28x28, width {arguments.width}"
    )
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for round_number in range(arguments.rounds + 1):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            if round_number:  # the first round warms up
                seconds[name].append(time.perf_counter() - started)
    for name, found in seconds.items():
        ratios = [mine / hand for mine, hand in zip(found, seconds["by hand"], strict=True)]
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        print(f"{name:12} {arguments.samples / statistics.median(found):7.0f} images/s   time against by hand {spread}")


if __name__ == "__main__":
    main()
