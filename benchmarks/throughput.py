"""Claim: training small images by dlkit is faster than torchvision's reference loop, Lightning and timm's loader, and no slower than
the best loop by hand.

Six ways train the same small_cnn (94k parameters) on the real FashionMNIST with crop and flip, batch 128, AdamW, float32, in turn, in one
process: `dlkit`'s fit; a loop by hand over uint8 images in memory with batched augmentation, in channels_last and in NCHW; a loop
as torchvision's references/classification, with its transforms on PIL images in a DataLoader; Lightning on that DataLoader; and timm's
loader with timm's transforms. Each DataLoader runs with 0 and with 2 workers, and the better one counts. Prints images per second,
and how many times as fast dlkit is, round by round with the spread.

    python benchmarks/throughput.py [--rounds 5] [--steps 60] [--width 27]      (pip install lightning timm)
"""

import argparse
import gzip
import logging
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from dlkit.config import load_mapping
from dlkit.core.models import small_cnn
from dlkit.core.stopping import StopRequest
from dlkit.core.training import Job, NoRecords, build_job, fit
from dlkit.events import ignore

BATCH, LR, PADDING, MEAN, STD = 128, 0.004, 2, 0.286, 0.353
WARM_UP = 5  # steps that are not counted: threads and loader processes start in them
Net = Callable[[], nn.Module]
Steps = Iterator[Any]  # one training step for each `next`


def build_dlkit(width: int, steps: int, *, amp: str = "off", device: str = "cpu") -> Job:
    """A job whose epoch is as long as one measurement."""
    transforms = [{"name": "RandomCrop", "size": 28, "padding": PADDING}, "RandomHorizontalFlip"]
    data = {"name": "fashion_mnist", "batch_size": BATCH, "val": "none", "transforms": transforms}
    values = {
        "data": data,
        "model": {"name": "small_cnn", "width": width, "dropout": 0},
        "optimizer": {"name": "adamw", "lr": LR},
        "train": {"epochs": 1000, "max_steps": steps, "amp": amp},
        "runtime": {"device": device},
    }
    return build_job(load_mapping(values), emit=ignore)


def train_by_hand(images: Tensor, targets: Tensor, model: nn.Module, layout: torch.memory_format) -> Steps:
    """The best loop that we know to write by hand."""
    model = model.to(memory_format=layout).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, fused=True)
    padded = F.pad(images, (PADDING,) * 4)
    rows = torch.arange(28)
    while True:
        for chosen in torch.randperm(len(images)).split(BATCH):
            top, left = torch.randint(0, 2 * PADDING + 1, (2, len(chosen), 1))
            columns = torch.where(torch.rand(len(chosen), 1) < 0.5, rows.flip(0), rows) + left
            batch = padded[chosen[:, None, None], 0, (rows + top)[:, :, None], columns[:, None, :]]
            inputs = batch[:, None].float().sub_(255 * MEAN).div_(255 * STD).contiguous(memory_format=layout)
            yield _step(model, optimizer, inputs, targets[chosen])


def train_like_torchvision(loader: DataLoader[Any], model: nn.Module) -> Steps:
    """As references/classification/train.py without its reports."""
    optimizer = torch.optim.AdamW(model.train().parameters(), lr=LR)
    while True:
        for inputs, targets in loader:
            yield _step(model, optimizer, inputs, targets)


def _step(model: nn.Module, optimizer: torch.optim.Optimizer, inputs: Tensor, targets: Tensor) -> Tensor:
    loss = F.cross_entropy(model(inputs), targets)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss


class Pictures(Dataset[tuple[Any, int]]):
    """What torchvision's FashionMNIST gives: PIL images, transformed, and classes."""

    def __init__(self, images: Tensor, targets: Tensor) -> None:
        self.images, self.targets = images, targets
        self.transform: Any = None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.transform(Image.fromarray(self.images[index, 0].numpy())), int(self.targets[index])


def torchvision_loader(pictures: Pictures, workers: int) -> DataLoader[Any]:
    """A plain DataLoader with torchvision's transforms on PIL images."""
    crop = [v2.RandomCrop(28, padding=PADDING), v2.RandomHorizontalFlip()]
    last = [v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([MEAN], [STD])]
    pictures.transform = v2.Compose([*crop, *last])
    return DataLoader(pictures, BATCH, shuffle=True, num_workers=workers, drop_last=True)


def timm_loader(pictures: Pictures, workers: int) -> Any:
    """timm's loader with its own transforms, random resized crop and flip, as its train.py makes it for a CPU."""
    from timm.data import create_loader

    return create_loader(
        pictures,
        (1, 28, 28),
        BATCH,
        is_training=True,
        use_prefetcher=False,
        color_jitter=0.0,
        mean=(MEAN,),
        std=(STD,),
        num_workers=workers,
        device=torch.device("cpu"),
    )


def time_steps(steps: Steps, count: int) -> float:
    """Images per second of so many steps after the warm-up."""
    for _ in range(WARM_UP):
        next(steps)
    started = time.perf_counter()
    for _ in range(count):
        next(steps)
    return BATCH * count / (time.perf_counter() - started)


def time_lightning(loader: DataLoader[Any], model: nn.Module, count: int) -> float:
    """The same, of Lightning's trainer without loggers and progress bar."""
    import lightning

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model, self.times = model, [0.0]

        def training_step(self, batch: tuple[Tensor, Tensor], number: int) -> Tensor:
            self.times.append(time.perf_counter())
            return F.cross_entropy(self.model(batch[0]), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters(), lr=LR)

    module = Module()
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_steps=WARM_UP + count + 1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, loader)
    return BATCH * count / (module.times[WARM_UP + count + 1] - module.times[WARM_UP + 1])


class Times(NoRecords):
    """When each step was done."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def add_step(self, learner: Any, result: Any) -> None:
        """Note the time."""
        self.times.append(time.perf_counter())


def time_dlkit(width: int, count: int) -> float:
    """The same, of `fit`."""
    job, records = build_dlkit(width, WARM_UP + count), Times()
    fit(job.learner, job.data, job.plan, records, stop=StopRequest(), emit=ignore)
    return BATCH * count / (records.times[-1] - records.times[WARM_UP - 1])


def read_fashion_mnist(folder: Path) -> tuple[Tensor, Tensor]:
    """Images (60000, 1, 28, 28) of uint8 and classes (60000,)."""

    def read(name: str, header: int) -> Tensor:
        return torch.frombuffer(bytearray(gzip.decompress((folder / name).read_bytes())[header:]), dtype=torch.uint8)

    images, targets = read("train-images-idx3-ubyte.gz", 16), read("train-labels-idx1-ubyte.gz", 8)
    return images.view(-1, 1, 28, 28), targets.long()


def build_ways(folder: Path, width: int, count: int) -> dict[str, Callable[[], float]]:
    """What is measured, by name."""
    images, targets = read_fashion_mnist(folder)

    def net() -> nn.Module:
        return small_cnn(1, 10, input_size=(1, 28, 28), width=width, dropout=0.0)

    ways: dict[str, Callable[[], float]] = {"dlkit": lambda: time_dlkit(width, count)}
    for name, layout in (("channels_last", torch.channels_last), ("NCHW", torch.contiguous_format)):
        ways[f"by hand, {name}"] = partial(_time_by_hand, images, targets, net, layout, count)
    for workers in (0, 2):
        ending = f", {workers} workers"
        ways["torchvision" + ending] = partial(
            _time_loop, torchvision_loader, Pictures(images, targets), workers, net, count
        )
        ways["Lightning" + ending] = partial(_time_lightning_on, Pictures(images, targets), workers, net, count)
        ways["timm" + ending] = partial(_time_loop, timm_loader, Pictures(images, targets), workers, net, count)
    return ways


def _time_by_hand(images: Tensor, targets: Tensor, net: Net, layout: torch.memory_format, count: int) -> float:
    return time_steps(train_by_hand(images, targets, net(), layout), count)


def _time_loop(build_loader: Callable[..., Any], pictures: Pictures, workers: int, net: Net, count: int) -> float:
    return time_steps(train_like_torchvision(build_loader(pictures, workers), net()), count)


def _time_lightning_on(pictures: Pictures, workers: int, net: Net, count: int) -> float:
    return time_lightning(torchvision_loader(pictures, workers), net(), count)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--width", type=int, default=27)
    parser.add_argument("--only", default="", help="measure ways with this in their name, and dlkit")
    parser.add_argument("--folder", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    ways = build_ways(arguments.folder, arguments.width, arguments.steps)
    ways = {name: way for name, way in ways.items() if arguments.only in name or name == "dlkit"}
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}")
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(arguments.rounds):
        for name, way in ways.items():
            speeds[name].append(way())
    for name, found in speeds.items():
        ratios = [own / other for own, other in zip(speeds["dlkit"], found, strict=True)]
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        print(f"{name:24} {statistics.median(found):6.0f} images/s   dlkit is {spread} times as fast", flush=True)


if __name__ == "__main__":
    main()
