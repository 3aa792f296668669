"""Claim: kernels on plain tensors run the layers of ResNet-18 and MobileNetV2 as fast as torch.ao's quantized operations.

Every convolution and linear layer of both networks at 224x224, by each set of kernels that runs here, and by the operation that
torch.ao's x86 engine calls, which is spared the way into and out of quantized tensors (its neighbours hand them on). Weights of 7
bits, a ReLU in every convolution, channels last, layouts for the shape that comes. All ways run in turn, round by round, in one
process; ratios (above 1: faster than torch.ao) are medians of the ratios of each round, with their 10 % and 90 % points. The last
rows add up the medians, each as often as the network has the layer.

    python benchmarks/int8_kernels.py [--seconds 1] [--threads 1] [--networks resnet18,mobilenet_v2] [--batches 1,16] [--cpu-time]
"""

import argparse
import importlib
import time
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from dlkit.core.benchmark import Latency, describe_machine, measure_interleaved, speedup
from dlkit.core.devices import torch_settings

# by its name, because the door of dlkit.quantize does not hand this wing on before the command stands on it
int8: Any = importlib.import_module("dlkit.quantize.int8")
X, Y = int8.Affine(0.02, 10), int8.Affine(0.05, 0)
PEER = "torch.ao"


@dataclass(frozen=True)
class Shape:
    """One kind of layer of a network and the size of its input, without the batch."""

    channels: tuple[int, int]
    image: tuple[int, ...]
    kernel: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    groups: int = 1

    def __str__(self) -> str:
        """As a row of the table names it."""
        into, out = self.channels
        if not self.kernel:
            return f"linear {into} to {out}"
        kind = f" groups {self.groups}" if self.groups > 1 else ""
        return f"{into} to {out}, {self.kernel[0]}x{self.kernel[1]} /{self.stride[0]} at {self.image[-1]}{kind}"

    def float_layer(self) -> nn.Module:
        """The layer with random weights."""
        if not self.kernel:
            return nn.Linear(*self.channels)
        places = {"stride": self.stride, "padding": self.padding, "groups": self.groups}
        return nn.Conv2d(*self.channels, self.kernel, **places)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=1.0, help="for each layer and batch size")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--networks", default="resnet18,mobilenet_v2")
    parser.add_argument("--batches", default="1,16")
    parser.add_argument("--skip", default="qnnpack", help="kernels to leave out, joined by commas")
    parser.add_argument("--limit", type=int, default=None, help="only so many layers of each network")
    parser.add_argument("--cpu-time", action="store_true", help="CPU time instead of time on the wall")
    arguments = parser.parse_args()
    clock = time.process_time if arguments.cpu_time else time.perf_counter
    skip = {"reference", "plain", *arguments.skip.split(",")}
    names = [kernels.name for kernels in int8.available_kernels() if kernels.name not in skip]
    with torch_settings(threads=arguments.threads):
        print(describe_machine(torch.device("cpu")), "torchvision", torchvision.__version__)
        for network in arguments.networks.split(","):
            shapes = layer_shapes(network)
            for batch in map(int, arguments.batches.split(",")):
                print_network(network, shapes, batch, names, (arguments.limit, arguments.seconds, clock))


def layer_shapes(name: str) -> Counter[Shape]:
    """The layers of a network and how often it has each."""
    network, shapes = torchvision.models.get_model(name).eval(), Counter[Shape]()

    def note(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        image = tuple(inputs[0].shape[1:])
        if isinstance(layer, nn.Conv2d):
            channels = layer.in_channels, layer.out_channels
            shapes[Shape(channels, image, layer.kernel_size, layer.stride, layer.padding, layer.groups)] += 1
        else:
            shapes[Shape((layer.in_features, layer.out_features), image)] += 1

    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_pre_hook(note)
    with torch.no_grad():
        network(torch.randn(1, 3, 224, 224))
    return shapes


def print_network(
    name: str,
    shapes: Counter[Shape],
    batch: int,
    names: list[str],
    plan: tuple[int | None, float, Callable[[], float]],
) -> None:
    """A row for each layer, and the sums."""
    limit, seconds, clock = plan
    print(f"\n{name}, batch {batch}\n{'':36}{'times':>6}{PEER + ' ms':>13}  " + "".join(f"{one:>20}" for one in names))
    sums: Counter[str] = Counter()
    for shape, count in list(shapes.items())[:limit]:
        found = measure_shape(shape, batch, names, seconds, clock)
        sums.update({way: latency.median_ms * count for way, latency in found.items()})
        ratios = "".join(f"{speedup(found[PEER], found[way])!s:>20}" for way in names)
        print(f"{shape!s:36}{count:6}{found[PEER].median_ms:13.4f}  {ratios}", flush=True)
    print(f"{'sum':42}{sums[PEER]:13.4f}  " + "".join(f"{sums[PEER] / sums[way]:20.2f}" for way in names))
    print(f"{'sum, ms':42}{sums[PEER]:13.4f}  " + "".join(f"{sums[way]:20.4f}" for way in names))


def measure_shape(
    shape: Shape, batch: int, names: list[str], seconds: float, clock: Callable[[], float]
) -> dict[str, Latency]:
    """One layer by all ways."""
    torch.manual_seed(0)
    x = torch.randint(0, 256, (batch, *shape.image), dtype=torch.uint8)
    x = x.contiguous(memory_format=torch.channels_last) if shape.kernel else x
    epilogue = int8.Epilogue(Y, "relu" if shape.kernel else "none")
    build = int8.Int8Conv2d if shape.kernel else int8.Int8Linear
    calls = {}
    for kernels in int8.available_kernels():
        if kernels.name in names:
            layer = build.from_float(shape.float_layer(), x=X, epilogue=epilogue, bits=7)
            layer.expected_shape = tuple(x.shape)
            layer.bind(kernels)
            calls[kernels.name] = lambda layer=layer: layer(x)
    calls[PEER] = start_peer(layer, x)
    return measure_interleaved(calls, batch=batch, seconds=seconds, clock=clock)


def start_peer(layer: Any, x: Tensor) -> Callable[[], object]:
    """The operation of torch.ao's x86 engine, on a quantized tensor."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        zeros, scales = torch.zeros(len(layer.weight), dtype=torch.int64), layer.channel_scale().double()
        weight = torch._make_per_channel_quantized_tensor(layer.weight, scales, zeros, 0)
        quantized = torch._make_per_tensor_quantized_tensor(x, X.scale, X.zero_point)
        torch.backends.quantized.engine = "x86"
        if isinstance(layer, int8.Int8Linear):
            packed = torch.ops.quantized.linear_prepack(weight, layer.bias)
            return lambda: torch.ops.quantized.linear(quantized, packed, Y.scale, Y.zero_point)
        places = [list(part) for part in (layer.stride, layer.padding, layer.dilation)]
        packed = torch.ops.quantized.conv2d_prepack(weight, layer.bias, *places, layer.groups)
        return lambda: torch.ops.quantized.conv2d_relu(quantized, packed, Y.scale, Y.zero_point)


if __name__ == "__main__":
    main()
