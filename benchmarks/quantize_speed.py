"""Claim: the best of dlkit's int8 engines is within 5 % of the fastest int8 here, and frozen never slower than torch.ao's FX frozen.

Networks of torchvision at 224x224 with random weights (speed does not depend on them), calibrated on the same random inputs, batch 1
and 16. All ways run in turn, round by round, in one process; ratios are taken per round and given with their 10 % and 90 % points.
Peers: torch float32 (eager, channels_last, compile, frozen TorchScript), ONNX Runtime and OpenVINO in float32, torch.ao's FX
quantization as long as torch has it, ONNX Runtime's own static quantizer at what its documentation recommends (quant_pre_process,
QDQ, per channel, U8S8), and NNCF with OpenVINO where both are installed.

On a machine that does other work too, `--threads 1 --cpu-time` measures the CPU time of the process, which waiting for a
core does not add to.

    python benchmarks/quantize_speed.py [--seconds 60] [--threads N] [--networks resnet18,mobilenet_v2] [--skip compile]
"""

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
import torchvision
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor, nn

from dlkit.core.benchmark import (
    EngineUnavailable,
    Latency,
    describe_machine,
    measure_interleaved,
    speedup,
    start_engine,
    start_onnx_file,
    start_openvino_file,
)
from dlkit.core.devices import torch_settings
from dlkit.core.export import export_onnx
from dlkit.quantize import Recipe, convert, observe_network, pick_backend, pick_reduce

SIZE, CALIBRATION_BATCHES = (3, 224, 224), 4
BATCHES = (1, 16)
FLOAT_ENGINES = ("eager", "channels_last", "compile", "frozen")
OUR_ENGINES = ("eager", "channels_last", "frozen", "compile", "aoti")
PEER, FX = "int8 onnx by ONNX Runtime", "int8 FX frozen"
Run = Callable[[Tensor], Tensor]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60.0, help="for each network and batch size")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--networks", default="resnet18,mobilenet_v2")
    parser.add_argument("--batches", default="1,16")
    parser.add_argument("--skip", default="", help="engines to leave out, joined by commas")
    parser.add_argument(
        "--cpu-time", action="store_true", help="CPU time instead of time on the wall; needs --threads 1"
    )
    arguments = parser.parse_args()
    if arguments.cpu_time and arguments.threads != 1:
        parser.error("--cpu-time adds up the time of all threads; give --threads 1")
    clock = time.process_time if arguments.cpu_time else time.perf_counter
    with torch_settings(threads=arguments.threads):
        print(describe_machine(torch.device("cpu")), "torchvision", torchvision.__version__)
        batches = [int(part) for part in arguments.batches.split(",")]
        for name in arguments.networks.split(","):
            compare(name, batches, arguments.seconds, clock=clock, skip=set(arguments.skip.split(",")))


def compare(name: str, batches: list[int], seconds: float, *, clock: Callable[[], float], skip: set[str]) -> None:
    """One network by all ways."""
    network = build_network(name)
    inputs = {batch: torch.randn(batch, *SIZE, generator=torch.Generator().manual_seed(batch)) for batch in batches}
    with tempfile.TemporaryDirectory() as folder:
        runs, sizes = start_ways(network, list(inputs.values()), Path(folder), skip)
        runs = {way: run for way, run in runs.items() if way not in skip}
    print(f"\n{name}: ONNX files " + ", ".join(f"{way} {size / 2**20:.2f} MiB" for way, size in sizes.items()))
    if "ours" in sizes:
        print(f"our int8 ONNX file is {sizes['ours'] / sizes['float']:.1%} of the float one (target: 27 % at most)")
    for batch, x in inputs.items():
        calls = {way: (lambda run=run, x=x: run(x)) for way, run in runs.items()}
        found = measure_interleaved(calls, batch=batch, seconds=seconds, emit=print_note, clock=clock)
        print_table(name, batch, found)


def build_network(name: str) -> nn.Module:
    """A network with random weights whose running statistics fit them, so that activations keep a sound size."""
    torch.manual_seed(0)
    network = torchvision.models.get_model(name).train()
    has_statistics = any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    with torch.no_grad():
        for _ in range(20 if has_statistics else 0):
            network(torch.randn(8, 3, 64, 64))
    return network.eval()


def start_ways(
    network: nn.Module, examples: list[Tensor], folder: Path, skip: set[str]
) -> tuple[dict[str, Run], dict[str, int]]:
    """All ways to run a network by their names, and the sizes of the ONNX files in bytes."""
    calibration = [
        torch.randn(4, *SIZE, generator=torch.Generator().manual_seed(seed)) for seed in range(CALIBRATION_BATCHES)
    ]
    backend = pick_backend("auto")
    recipe = Recipe("static", backend, reduce=pick_reduce(backend))
    converted = convert(observe_network(network, recipe, calibration), recipe)
    runs: dict[str, Run] = {}
    for engine in FLOAT_ENGINES:
        add_engine(runs, f"fp32 {engine}", engine, network, examples, skip)
    for engine in OUR_ENGINES:
        add_engine(runs, f"int8 {engine}", engine, converted, examples, skip)
    runs[FX] = quantize_by_fx(network, examples[0], calibration)
    float_path, peer_path, our_path = folder / "float.onnx", folder / "peer.onnx", folder / "ours.onnx"
    export_float(network, examples[0], float_path)
    quantize_by_onnxruntime(float_path, peer_path, calibration)
    runs |= {"fp32 onnx": start_onnx_file(float_path), PEER: start_onnx_file(peer_path)}
    sizes = {"float": float_path.stat().st_size, "ONNX Runtime's int8": peer_path.stat().st_size}
    export_onnx(converted, our_path, examples[0])
    runs["int8 onnx by dlkit"] = start_onnx_file(our_path)
    sizes["ours"] = our_path.stat().st_size
    if find_spec("openvino"):
        runs["fp32 openvino"] = start_openvino_file(float_path)
        runs["int8 openvino by dlkit"] = start_openvino_file(our_path)
    if find_spec("openvino") and find_spec("nncf"):
        runs["int8 openvino by NNCF"] = start_openvino_file(quantize_by_nncf(float_path, calibration))
    return runs, sizes


def quantize_by_fx(network: nn.Module, example: Tensor, batches: list[Tensor]) -> Run:
    """torch.ao's FX quantization with its x86 settings, traced and frozen."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch.ao.quantization import get_default_qconfig_mapping
        from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

        prepared = prepare_fx(network, get_default_qconfig_mapping("x86"), (example,))
        with torch.no_grad():
            for batch in batches:
                prepared(batch)
            frozen: Run = torch.jit.freeze(torch.jit.trace(convert_fx(prepared), example, check_trace=False))
    return frozen


def quantize_by_nncf(path: Path, batches: list[Tensor]) -> Path:
    """NNCF's default post-training quantization of a float ONNX file: the file that OpenVINO runs."""
    import nncf
    import openvino

    model = openvino.Core().read_model(path)
    quantized = nncf.quantize(model, nncf.Dataset([batch.numpy() for batch in batches]))
    openvino.save_model(quantized, found := path.with_name("nncf.xml"))
    return found


def add_engine(
    runs: dict[str, Run], way: str, engine: str, network: nn.Module, examples: list[Tensor], skip: set[str]
) -> None:
    """Start an engine, or say why not."""
    if engine in skip:
        return
    try:
        runs[way] = start_engine(engine, network, examples[0], more_examples=examples[1:]).run
    except EngineUnavailable as error:
        print(f"{way}: {error.reason}")


def export_float(network: nn.Module, example: Tensor, path: Path) -> None:
    """torch's own exporter, with a free batch."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (torch.cat([example, example]),),
            str(path),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            external_data=False,
            verbose=False,
        )


class Calibration(CalibrationDataReader):
    """The batches of a list, as ONNX Runtime asks for them."""

    def __init__(self, name: str, batches: list[Tensor]) -> None:
        self._name = name
        self._left: Iterator[Tensor] = iter(batches)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next batch by the input's name, None after the last."""
        batch = next(self._left, None)
        return None if batch is None else {self._name: batch.numpy()}


def quantize_by_onnxruntime(path: Path, quantized: Path, batches: list[Tensor]) -> None:
    """ONNX Runtime's static quantizer: preprocessed, QDQ, per channel, activations U8 and weights S8 as advised for x86."""
    import onnx

    prepared = path.with_name("prepared.onnx")
    quant_pre_process(str(path), str(prepared))
    name = onnx.load(str(prepared)).graph.input[0].name
    quantize_static(
        str(prepared),
        str(quantized),
        Calibration(name, batches),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )


def print_note(event: object) -> None:
    """What is worth knowing of a measurement."""
    if hasattr(event, "text"):
        print(f"note: {event.text}")


def print_table(name: str, batch: int, found: dict[str, Latency]) -> None:
    """Milliseconds, and how many times as fast each way is as float32 eager and as the peers."""
    floats = [way for way in found if way.startswith("fp32")]
    best_float = min(floats, key=lambda way: found[way].median_ms)
    fastest = min((way for way in found if way.startswith("int8")), key=lambda way: found[way].median_ms)
    print(f"{name}, batch {batch}: {next(iter(found.values())).runs} rounds; best float: {best_float}")
    print(f"fastest int8: {fastest}")
    print(f"{'':27}{'ms':>8}  {'p10-p90':>15}  {'x best float':>18}  {'x FX frozen':>18}  {'x fastest int8':>18}")
    for way, latency in found.items():
        ratios = [speedup(found[other], latency) for other in (best_float, FX, fastest)]
        spread = f"{latency.p10_ms:.2f}-{latency.p90_ms:.2f}"
        print(f"{way:27}{latency.median_ms:8.2f}  {spread:>15}  " + "  ".join(f"{ratio!s:>18}" for ratio in ratios))


if __name__ == "__main__":
    main()
