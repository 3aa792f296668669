"""Question: how are the weights of a network updated fastest on a CPU?

torch's SGD, Adam and AdamW have three ways: one operation after the other for each parameter (single), each operation for all parameters
(foreach), and one pass over each parameter (fused). Steps of each are timed in turn, on networks in both memory layouts.

    python benchmarks/optimizers.py [--rounds 7]
"""

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torchvision
from torch import nn

from dlkit.core.models import Arch, build_model

WAYS: Mapping[str, dict[str, bool]] = {
    "single": {"foreach": False},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
}
OPTIMIZERS: Mapping[str, tuple[type[torch.optim.Optimizer], dict[str, Any]]] = {
    "AdamW": (torch.optim.AdamW, {}),
    "SGD, momentum": (torch.optim.SGD, {"momentum": 0.9}),
}
NETWORKS: Mapping[str, Callable[[], nn.Module]] = {
    "mlp": lambda: build_model(Arch("dlkit", "mlp", {"input_size": [1, 8, 8], "num_classes": 10})),
    "small_cnn, width 27": lambda: build_model(
        Arch("dlkit", "small_cnn", {"in_channels": 1, "num_classes": 10, "input_size": [1, 28, 28], "width": 27})
    ),
    "MobileNetV3 small": torchvision.models.mobilenet_v3_small,
    "ResNet-18": torchvision.models.resnet18,
}


def measure(network: nn.Module, name: str, rounds: int) -> dict[str, list[float]]:
    """Microseconds of a step of each way, round by round."""
    kind, options = OPTIMIZERS[name]
    parameters = list(network.parameters())
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter)
    ways = {way: kind(parameters, lr=1e-4, **options, **how) for way, how in WAYS.items()}
    steps = max(3, min(50, 20_000_000 // sum(parameter.numel() for parameter in parameters)))
    found: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(rounds + 1):
        for way, optimizer in ways.items():
            started = time.perf_counter()
            for _ in range(steps):
                optimizer.step()
            if number:  # the first round makes the state
                found[way].append((time.perf_counter() - started) / steps * 1e6)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}")
    for layout in (torch.contiguous_format, torch.channels_last):
        for title, build in NETWORKS.items():
            network = build().to(memory_format=layout)
            for name in OPTIMIZERS:
                found = measure(network, name, arguments.rounds)
                ratios = [single / fused for single, fused in zip(found["single"], found["fused"], strict=True)]
                times = "  ".join(f"{way} {statistics.median(speeds):.0f} us" for way, speeds in found.items())
                spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
                print(
                    f"{str(layout).removeprefix('torch.')}, {title}, {name}: {times}; fused against single {spread}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
