"""Claim: several processes by `dlkit train --nproc` train as fast as a DistributedDataParallel loop written by hand.

The same small_cnn on the same random 28x28 images (crop and flip), the same samples in each update: by one process with one
thread, by one process with a thread for each core, by one process for each core (`dlkit train --nproc`), and by as many with
the plainest loop over DistributedDataParallel and the same batches. So it also shows what processes are worth against threads.
One epoch each in turn, round by round. Prints images per second and ratios with their spread; efficiency is the speed-up over
one thread by the number of processes.

    python benchmarks/scaling.py [--rounds 7] [--samples 8192] [--width 16] [--batch 256] [--nproc 2]
"""

import argparse
import copy
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.nn.parallel import DistributedDataParallel

from dlkit.config import Runtime, load_mapping
from dlkit.core.distributed import World, joined
from dlkit.core.stopping import StopRequest
from dlkit.core.training import Job, NoRecords, build_job, fit
from dlkit.events import ignore


def main() -> None:
    """Measure and print, or work for the process that does."""
    arguments = parse()
    if arguments.worker:
        work(arguments)
        return
    with tempfile.TemporaryDirectory() as folder:
        several = [start(arguments, rank, arguments.nproc, folder) for rank in range(arguments.nproc)]
        alone = [start(arguments, 0, 1, folder)]
        ways = {
            "1 process, 1 thread": (alone, "dlkit 1"),
            f"1 process, {arguments.nproc} threads": (alone, f"dlkit {arguments.nproc}"),
            f"{arguments.nproc} processes, dlkit": (several, "dlkit 1"),
            f"{arguments.nproc} processes, by hand": (several, "hand 1"),
        }
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for round_number in range(arguments.rounds + 1):
            for name, (workers, command) in ways.items():
                took = order(workers, command)
                if round_number:  # the first round warms up
                    seconds[name].append(took)
        for worker in several + alone:
            worker.communicate("quit\n")
    show(seconds, arguments)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--samples", type=int, default=8192)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--batch", type=int, default=256, help="samples in an update, over all processes")
    parser.add_argument("--nproc", type=int, default=2)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def start(arguments: argparse.Namespace, rank: int, size: int, folder: str) -> "subprocess.Popen[str]":
    """A process that waits for orders."""
    place = {"RANK": rank, "WORLD_SIZE": size, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": size}
    environment = os.environ | {name: str(value) for name, value in place.items()} | {"DLKIT_STORE": f"{folder}/store"}
    options = [f"--{name}={getattr(arguments, name)}" for name in ("samples", "width", "batch", "nproc")]
    return subprocess.Popen(
        [sys.executable, str(Path(__file__).resolve()), "--worker", *options],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def order(workers: "list[subprocess.Popen[str]]", command: str) -> float:
    """Seconds of one epoch, by the slowest."""
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write(command + "\n")
        worker.stdin.flush()
    return max(float(worker.stdout.readline()) for worker in workers if worker.stdout is not None)


def work(arguments: argparse.Namespace) -> None:
    """Train an epoch for each line of stdin, and print the seconds that it took."""
    with joined(Runtime(device="cpu", timeout=600.0)) as world:
        job = build(arguments, world)
        by_hand = copy.deepcopy(job.learner.model)
        ddp = None if world.is_alone else DistributedDataParallel(by_hand)
        optimizer = torch.optim.AdamW(by_hand.parameters(), lr=0.001)
        for line in sys.stdin:
            way, _, threads = line.strip().partition(" ")
            if way == "quit":
                break
            torch.set_num_threads(int(threads))
            world.wait()
            started = time.perf_counter()
            if way == "hand" and ddp is not None:
                train_by_hand(job, ddp, optimizer)
            else:
                train_with_dlkit(job, world)
            print(time.perf_counter() - started, flush=True)


def build(arguments: argparse.Namespace, world: World) -> Job:
    """A job on random images with crop and flip."""
    data = {
        "name": "fake",
        "num_samples": arguments.samples,
        "shape": [1, 28, 28],
        "batch_size": arguments.batch // world.size,
        "val": "none",
        "transforms": [{"name": "RandomCrop", "size": 28, "padding": 2}, "RandomHorizontalFlip"],
    }
    values = {"data": data, "model": {"name": "small_cnn", "width": arguments.width}, "train": {"epochs": 1}}
    return build_job(load_mapping(values | {"optimizer": {"lr": 0.001}}), world=world, emit=ignore)


def train_with_dlkit(job: Job, world: World) -> None:
    """One epoch by `fit`."""
    job.learner.position.epoch = 0
    stop = StopRequest(is_shared=not world.is_alone)
    fit(job.learner, job.data, job.plan, NoRecords(), stop=stop, emit=ignore)
    job.learner.position.step = 0


def train_by_hand(job: Job, ddp: DistributedDataParallel, optimizer: torch.optim.Optimizer) -> None:
    """One epoch of the plainest loop over the same batches."""
    ddp.train()
    for batch in job.data.train.batches():
        loss = F.cross_entropy(ddp(job.learner.scoring.arrange(batch.inputs)), batch.targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def show(seconds: dict[str, list[float]], arguments: argparse.Namespace) -> None:
    """A table in markdown."""
    single, threads, dlkit, by_hand = seconds
    print(
        f"torch {torch.__version__}, {arguments.samples} images of 28x28, small_cnn of width {arguments.width}, "
        f"{arguments.batch} images in an update, {arguments.rounds} rounds\n"
    )
    print("| way | images/s | times as fast as 1 thread |\n|---|---|---|")
    for name, found in seconds.items():
        print(f"| {name} | {arguments.samples / statistics.median(found):,.0f} | {ratio(seconds[single], found)} |")
    print(
        f"\n{arguments.nproc} processes against {arguments.nproc} threads: {ratio(seconds[threads], seconds[dlkit])} times as fast"
    )
    print(f"dlkit against the loop by hand: {ratio(seconds[dlkit], seconds[by_hand])} times the time")
    efficiency = (
        statistics.median(one / both for one, both in zip(seconds[single], seconds[dlkit], strict=True))
        / arguments.nproc
    )
    print(f"efficiency of {arguments.nproc} processes: {efficiency:.0%}")


def ratio(first: list[float], second: list[float]) -> str:
    """Median of the ratios round by round, with least and most."""
    found = [one / two for one, two in zip(first, second, strict=True)]
    return f"{statistics.median(found):.2f} ({min(found):.2f} to {max(found):.2f})"


if __name__ == "__main__":
    main()
