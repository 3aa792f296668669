"""Claim: kernels on plain tensors run the layers of ResNet-18 and MobileNetV2 as fast as torch.ao's quantized operations.

Every convolution and linear layer of both networks at 224x224, by each set of kernels that runs here, and by the operation that
torch.ao's x86 engine calls, which is spared the way into and out of quantized tensors (its neighbours hand them on). Weights of 7
bits, a ReLU in every convolution, channels last, layouts for the shape that comes. All ways run in turn, round by round, in one
process; ratios (above 1: faster than torch.ao) are medians of the ratios of each round, with their 10 % and 90 % points. The last
rows add up the medians, each as often as the network has the layer.

With --whole the networks run as a whole, built by hand from int8 layers: as they are, frozen by torch.jit, and compiled if --compile
is given; ratios are to torch.ao's network of the x86 engine, frozen.

    python benchmarks/int8_kernels.py [--seconds 1] [--threads 1] [--networks resnet18,mobilenet_v2] [--batches 1,16] [--cpu-time]
                                      [--whole] [--compile]
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
from torch.nn.utils.fusion import fuse_conv_bn_eval

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
    parser.add_argument("--whole", action="store_true", help="whole networks")
    parser.add_argument("--compile", action="store_true", help="whole networks by torch.compile, too")
    arguments = parser.parse_args()
    clock = time.process_time if arguments.cpu_time else time.perf_counter
    skip = {"reference", "plain", *arguments.skip.split(",")}
    names = [kernels.name for kernels in int8.available_kernels() if kernels.name not in skip]
    with torch_settings(threads=arguments.threads):
        print(describe_machine(torch.device("cpu")), "torchvision", torchvision.__version__)
        for network in arguments.networks.split(","):
            shapes = layer_shapes(network)
            for batch in map(int, arguments.batches.split(",")):
                if arguments.whole:
                    print_whole(network, batch, arguments.seconds, compiles=arguments.compile)
                    continue
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


class Unit(nn.Module):
    """A convolution or linear layer with its norm folded in, a sum and an activation."""

    def __init__(self, product: Any, norm: Any = None, activation: str = "none") -> None:
        super().__init__()
        self.product = product if norm is None else fuse_conv_bn_eval(product, norm)
        self.activation = activation

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """In float32."""
        y: Tensor = self.product(x)
        y = y if residual is None else y + residual
        return y.relu() if self.activation == "relu" else y.clamp(0, 6) if self.activation == "relu6" else y


class Block(nn.Module):
    """Units in a row; the last one may add what went in, or what a shortcut makes of it."""

    def __init__(self, units: list[nn.Module], *, adds: bool, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.first, self.last = nn.Sequential(*units[:-1]), units[-1]
        self.adds, self.shortcut = adds, shortcut

    def forward(self, x: Tensor) -> Tensor:
        """In float32, or in codes once the units are int8 layers."""
        y = self.first(x)
        if not self.adds:
            return self.last(y)  # type: ignore[no-any-return]
        return self.last(y, x if self.shortcut is None else self.shortcut(x))  # type: ignore[no-any-return]


class Whole(nn.Module):
    """An image network."""

    def __init__(self, blocks: list[nn.Module], head: Unit) -> None:
        super().__init__()
        self.enter, self.blocks, self.mean, self.head = (
            nn.Identity(), nn.Sequential(*blocks), nn.AdaptiveAvgPool2d(1), head
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Scores of classes."""
        return self.head(self.mean(self.blocks(self.enter(x))).flatten(1))  # type: ignore[no-any-return]


def fuse_mobilenet_v2(network: Any) -> Whole:
    """With ReLU6 and sums in the convolutions."""
    first, *rest, last = network.features
    blocks: list[nn.Module] = [Unit(first[0], first[1], "relu6")]
    for block in rest:
        *inner, product, norm = block.conv
        units = [Unit(part[0], part[1], "relu6") for part in inner]
        blocks.append(Block([*units, Unit(product, norm)], adds=block.use_res_connect))
    return Whole([*blocks, Unit(last[0], last[1], "relu6")], Unit(network.classifier[1]))


def fuse_resnet18(network: Any) -> Whole:
    """With ReLU and sums in the convolutions."""
    blocks: list[nn.Module] = [Unit(network.conv1, network.bn1, "relu"), network.maxpool]
    for block in [*network.layer1, *network.layer2, *network.layer3, *network.layer4]:
        units = [Unit(block.conv1, block.bn1, "relu"), Unit(block.conv2, block.bn2, "relu")]
        shortcut = None if block.downsample is None else Unit(*block.downsample)
        blocks.append(Block(units, adds=True, shortcut=shortcut))
    return Whole(blocks, Unit(network.fc))


FUSE = {"mobilenet_v2": fuse_mobilenet_v2, "resnet18": fuse_resnet18}


def convert_whole(whole: nn.Module, x: Tensor) -> nn.Module:
    """Int8 layers in the place of float ones, with the ranges of one run."""
    kinds, found = (Unit, nn.MaxPool2d, nn.AdaptiveAvgPool2d, nn.Identity), {}

    def note(layer: nn.Module, inputs: tuple[Tensor, ...], y: Tensor) -> None:
        found[layer] = [int8.Affine(*int8.range_affine(one)) for one in (*inputs, y)]

    hooks = [layer.register_forward_hook(note) for layer in whole.modules() if isinstance(layer, kinds)]
    whole(x)
    for hook in hooks:
        hook.remove()
    for parent in list(whole.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, kinds):
                setattr(parent, name, convert_layer(layer, *found[layer]))
    return whole.eval()


def convert_layer(layer: Any, *affines: Any) -> nn.Module:
    """The int8 layer for one float layer, from the affines of its inputs and of its output."""
    x, y = affines[0], affines[-1]
    match layer:
        case nn.Identity():
            return int8.Quantize(y)  # type: ignore[no-any-return]
        case nn.AdaptiveAvgPool2d():
            return int8.Int8AdaptiveAvgPool(x, y, (1, 1))  # type: ignore[no-any-return]
        case nn.MaxPool2d():
            return int8.Int8MaxPool(x, int8.PoolGeometry((3, 3), (2, 2), (1, 1)))  # type: ignore[no-any-return]
    if isinstance(layer.product, nn.Linear):
        return int8.Int8Linear.from_float(layer.product, x=x, epilogue=int8.Epilogue(None))  # type: ignore[no-any-return]
    residual = affines[1] if len(affines) > 2 else None
    epilogue = int8.Epilogue(y, layer.activation, residual, residual is not None)
    return int8.Int8Conv2d.from_float(layer.product, x=x, epilogue=epilogue)  # type: ignore[no-any-return]


@torch.no_grad()
def print_whole(name: str, batch: int, seconds: float, *, compiles: bool) -> None:
    """A row for each way to run the network."""
    torch.manual_seed(0)
    x = torch.randn(batch, 3, 224, 224).contiguous(memory_format=torch.channels_last)
    network = torchvision.models.get_model(name).eval()
    program = convert_whole(FUSE[name](network), x[:1])
    int8.bind_kernels(program, "auto", example=x)
    peer = convert_peer(torchvision.models.get_model(name).eval().to(memory_format=torch.channels_last), x[:1])
    calls = {PEER: peer, f"{PEER} frozen": freeze(peer, x), "eager": program, "frozen": freeze(program, x)}
    if compiles:
        torch._inductor.config.freezing = True
        calls["compiled"] = torch.compile(program)
    runs = {way: lambda run=run: run(x) for way, run in calls.items()}
    found = measure_interleaved(runs, batch=batch, seconds=seconds)
    print(f"\n{name} as a whole, batch {batch}")
    for way, latency in found.items():
        print(f"{way:20}{latency.median_ms:10.3f} ms  {speedup(found[f'{PEER} frozen'], latency)}", flush=True)


def freeze(network: nn.Module, x: Tensor) -> Any:
    """By torch.jit."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        frozen = torch.jit.freeze(torch.jit.trace(network, x, check_trace=False))
        for _ in range(4):  # it is optimized while it runs
            frozen(x)
        return frozen


def convert_peer(network: nn.Module, x: Tensor) -> Any:
    """torch.ao's network of its x86 engine, with its default weights of 7 bits."""
    quantization = importlib.import_module("torch.ao.quantization")
    fx = importlib.import_module("torch.ao.quantization.quantize_fx")
    torch.backends.quantized.engine = "x86"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        prepared = fx.prepare_fx(network, quantization.get_default_qconfig_mapping("x86"), x)
        prepared(x)
        return fx.convert_fx(prepared)


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
