"""Claim: on a CPU, `train.channels_last: auto` (on for convolutions) and native bf16 make training steps of small_cnn faster.

Runs the four combinations in turn, again and again, in one process, and prints images per second with the spread over rounds
and the ratio to float32 in the ordinary layout, round by round.

    python benchmarks/channels_last.py [--rounds 7] [--width 32]
"""

import argparse
import platform
import statistics
import time

import torch
import torch.nn.functional as F

from dlkit.core.models import small_cnn
from dlkit.core.scoring import has_native_bf16

BATCH, STEPS = 128, 6


def measure(model: torch.nn.Module, inputs: torch.Tensor, targets: torch.Tensor, *, bf16: bool) -> float:
    """Images per second over a few training steps."""
    optimizer = torch.optim.AdamW(model.parameters())
    started = time.perf_counter()
    for _ in range(STEPS):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            loss = F.cross_entropy(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return BATCH * STEPS / (time.perf_counter() - started)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--width", type=int, default=32)
    arguments = parser.parse_args()
    print(
        f"torch {torch.__version__}, {platform.machine()}, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"
    )
    plain = small_cnn(1, 10, input_size=(1, 28, 28), width=arguments.width)
    last = small_cnn(1, 10, input_size=(1, 28, 28), width=arguments.width).to(memory_format=torch.channels_last)
    inputs, targets = torch.randn(BATCH, 1, 28, 28), torch.randint(0, 10, (BATCH,))
    cases = {
        "NCHW fp32": (plain, inputs, False),
        "channels_last fp32": (last, inputs.contiguous(memory_format=torch.channels_last), False),
    }
    if has_native_bf16():
        cases |= {f"{name.split()[0]} bf16": (model, x, True) for name, (model, x, _) in cases.items()}
    speeds: dict[str, list[float]] = {name: [] for name in cases}
    for round_number in range(arguments.rounds + 1):
        for name, (model, x, bf16) in cases.items():
            speed = measure(model, x, targets, bf16=bf16)
            if round_number:  # the first round warms up
                speeds[name].append(speed)
    for name, found in speeds.items():
        ratios = [speed / base for speed, base in zip(found, speeds["NCHW fp32"], strict=True)]
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        print(f"{name:20} {statistics.median(found):7.0f} images/s   ratio {spread}")


if __name__ == "__main__":
    main()
