"""Claim, NOT YET MEASURED for want of a machine: on one GPU FashionMNIST reaches 94 % within 15 s of training, small images train at
least 10 times as fast as in torchvision's reference loop and at 0.95 of the best loop by hand, and runs over several GPUs (nccl, DDP and
FSDP) train and resume.

    python benchmarks/gpu.py                       the best loop by hand, torchvision's loop, dlkit: images per second, in turns
    python benchmarks/gpu.py --accuracy            examples/fashion_mnist_best.yaml on the GPU, seeds 0, 1 and 2
    python benchmarks/gpu.py --processes 2         two epochs with DDP and with FSDP over nccl, stopped after the first and resumed

Ends with 3 and says so where there is no such GPU.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from throughput import BATCH, LR, MEAN, PADDING, STD, Pictures, build_dlkit, read_fashion_mnist, torchvision_loader
from torch import Tensor, nn
from training_loop import train_with_dlkit

from dlkit.core.models import small_cnn

ROOT = Path(__file__).resolve().parent.parent
NO_GPU = 3


def images_per_s(train: Callable[[int], None], count: int) -> float:
    """Of so many steps after a warm-up."""
    train(20)
    torch.cuda.synchronize()
    started = time.perf_counter()
    train(count)
    torch.cuda.synchronize()
    return BATCH * count / (time.perf_counter() - started)


def build_net() -> nn.Module:
    """The network of all ways, in channels_last."""
    model = small_cnn(1, 10, input_size=(1, 28, 28), width=27, dropout=0.0)
    return model.to("cuda", memory_format=torch.channels_last).train()


def train_by_hand(images: Tensor, targets: Tensor, count: int) -> None:
    """Images stay on the GPU as bytes and are cropped and mirrored there; bf16, compiled."""
    model = build_net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, fused=True)
    padded, rows = F.pad(images, (PADDING,) * 4), torch.arange(28, device="cuda")

    @torch.compile(mode="max-autotune-no-cudagraphs")
    def loss_of(inputs: Tensor, wanted: Tensor) -> Tensor:
        with torch.autocast("cuda", torch.bfloat16):
            return F.cross_entropy(model(inputs.contiguous(memory_format=torch.channels_last)), wanted)

    for _ in range(count):
        chosen = torch.randint(len(images), (BATCH,), device="cuda")
        top, left = torch.randint(0, 2 * PADDING + 1, (2, BATCH, 1), device="cuda")
        columns = torch.where(torch.rand(BATCH, 1, device="cuda") < 0.5, rows.flip(0), rows) + left
        batch = padded[chosen[:, None, None], 0, (rows + top)[:, :, None], columns[:, None, :]]
        loss_of((batch[:, None].float() - 255 * MEAN) / (255 * STD), targets[chosen]).backward()
        optimizer.step()
        optimizer.zero_grad()


def train_like_torchvision(pictures: Pictures, count: int) -> None:
    """torchvision's reference loop with --amp."""
    model = build_net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR)
    batches = iter(torchvision_loader(pictures, 8))
    for _ in range(count):
        inputs, wanted = (part.to("cuda", non_blocking=True) for part in next(batches))
        with torch.autocast("cuda", torch.bfloat16):
            loss = F.cross_entropy(model(inputs), wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def train_by_dlkit(count: int) -> None:
    """`fit` as a config has it."""
    train_with_dlkit(build_dlkit(27, count, amp="bf16", device="cuda"))


def measure(rounds: int, count: int) -> None:
    """Images per second by every way."""
    images, targets = read_fashion_mnist(Path("/usr/share/datasets/fashion-mnist"))
    pictures = Pictures(images, targets)
    ways: dict[str, Callable[[int], None]] = {
        "dlkit": train_by_dlkit,
        "by hand": partial(train_by_hand, images.cuda(), targets.cuda()),
        "torchvision": partial(train_like_torchvision, pictures),
    }
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, train in ways.items():
            found[name].append(images_per_s(train, count))
    for name, speeds in found.items():
        ratios = [own / other for own, other in zip(found["dlkit"], speeds, strict=True)]
        print(
            f"{name:12} {statistics.median(speeds):8.0f} images/s, dlkit is {statistics.median(ratios):.2f} ({min(ratios):.2f} to "
            f"{max(ratios):.2f}) times as fast"
        )


def train(*overrides: str, out: Path) -> dict[str, object]:
    """`dlkit train` on the best example; its summary."""
    command = [sys.executable, "-m", "dlkit", "train", str(ROOT / "examples" / "fashion_mnist_best.yaml"), *overrides]
    subprocess.run([*command, "--out", str(out), "--quiet"], check=True)
    summary: dict[str, object] = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    return summary


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--accuracy", action="store_true")
    parser.add_argument("--processes", type=int, default=0)
    arguments = parser.parse_args()
    if torch.cuda.device_count() < max(1, arguments.processes):
        print(f"not measured: {torch.cuda.device_count()} GPUs here, {max(1, arguments.processes)} needed")
        sys.exit(NO_GPU)
    print(f"torch {torch.__version__}, CUDA {torch.version.cuda}, {torch.cuda.get_device_name()}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if arguments.accuracy:
            for seed in range(3):
                summary = train(f"seed={seed}", "runtime.device=cuda", out=folder / str(seed))
                print(f"seed {seed}: {summary['test']} in {summary['train_s']} s")
        elif arguments.processes:
            for way in ("ddp", "fsdp"):
                out, processes = folder / way, f"--nproc={arguments.processes}"
                train(f"runtime.parallel={way}", "train.epochs=1", processes, out=out)
                longer = ("train.epochs=2", processes, f"--resume={out}", "--extend=stretch")
                summary = train(f"runtime.parallel={way}", *longer, out=out)
                print(f"{way}: {summary['test']}, {summary['epochs']} epochs")
        else:
            measure(arguments.rounds, arguments.steps)


if __name__ == "__main__":
    main()
