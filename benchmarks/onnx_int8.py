"""Claims: int8 ONNX files of dlkit compute what the int8 network of torch does, and run as fast as those that ONNX Runtime's own
quantizer makes of the same float network, at a quarter of the float file's size.

    python benchmarks/onnx_int8.py parity [NAME...]     random weights, small images: every layer against torch's, in steps of its grid
    python benchmarks/onnx_int8.py speed [NAME...]      ONNX Runtime, batch 1, 224x224: our file, ONNX Runtime's quantizer, float
    python benchmarks/onnx_int8.py accuracy MODEL...    trained model files on their own test split: torch float, torch int8, the file

The peer is onnxruntime.quantization.quantize_static (QDQ, per channel, uint8 activations and int8 weights, its fastest on x86)
after quant_pre_process. Runs alternate in one process; times are medians.
"""

import argparse
import platform
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor, nn

from dlkit.core.data import build_eval_split
from dlkit.core.export import export_onnx, parity_of, start_session
from dlkit.core.modelfile import build_from_file, read_model_file
from dlkit.core.models import Arch, build_model, plan_torchvision_size
from dlkit.core.trained_config import own_config
from dlkit.errors import DlkitError
from dlkit.quantize import Recipe, convert, observe_network, pick_backend, pick_reduce

VARIED = [
    "resnet18",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "shufflenet_v2_x0_5",
    "squeezenet1_1",
    "densenet121",
    "googlenet",
    "inception_v3",
    "efficientnet_b0",
    "regnet_y_400mf",
    "convnext_tiny",
    "swin_t",
    "vit_b_16",
]
TIMED = ("resnet18", "mobilenet_v2", "mobilenet_v3_small", "efficientnet_b0")
CALIBRATION, ROUNDS, REPEATS = 4, 30, 3


def build(name: str, size: int, num_classes: int) -> nn.Module:
    """A classifier in evaluation mode whose norms have seen random images and whose vectors are no constants."""
    options = plan_torchvision_size(name, (3, size, size)) | {"num_classes": num_classes}
    network = build_model(Arch("torchvision", name, options)).train()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim < 2:
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
            elif not parameter.any():
                parameter.normal_(std=0.05)
        for _ in range(3):
            network(torch.randn(4, 3, size, size))
    return network.eval()


def quantize(network: nn.Module, batches: list[Tensor]) -> nn.Module:
    """What `dlkit quantize --static` makes here, without its remedies."""
    backend = pick_backend("auto")
    recipe = Recipe("static", backend, reduce=pick_reduce(backend))
    return convert(observe_network(network, recipe, batches), recipe)


def show_parity(names: list[str]) -> None:
    """One line per classifier."""
    print(
        f"{'network':20} {'layers differ by':>17} {'outputs':>9} {'same class':>10} {'of float file':>13} {'float kernels left'}"
    )
    for name in names:
        torch.manual_seed(0)
        size = 224 if name.startswith("maxvit") else 64 if name.startswith("vit") else 96
        network = build(name, size, 50)
        batches = [torch.randn(2, 3, size, size) for _ in range(CALIBRATION)]
        int8 = quantize(network, batches)
        with tempfile.TemporaryDirectory() as folder:
            ours, plain = Path(folder) / "int8.onnx", Path(folder) / "float.onnx"
            try:
                parity = export_onnx(int8, ours, batches[0], inputs=torch.randn(8, 3, size, size))
                export_onnx(network, plain, batches[0])
            except DlkitError as error:
                print(f"{name:20} refused: {error}", flush=True)
                continue
            left = {
                kind: count for kind, count in kernels(ours).items() if kind in ("Conv", "FusedConv", "Gemm", "MatMul")
            }
            print(
                f"{name:20} {parity.layer_steps:>12} steps {parity.max_abs / parity.output_max:>9.1e} {parity.agreement:>10.0%} "
                f"{ours.stat().st_size / plain.stat().st_size:>13.1%} {left or 'none'}",
                flush=True,
            )


def kernels(path: Path) -> Counter[str]:
    """The operators that ONNX Runtime runs after its optimizations."""
    with tempfile.TemporaryDirectory() as folder:
        optimized = Path(folder) / "optimized.onnx"
        start_session(path, optimized_path=optimized)
        return Counter(node.op_type for node in onnx.load(str(optimized)).graph.node)


class Reader(CalibrationDataReader):
    """Batches for ONNX Runtime's quantizer."""

    def __init__(self, batches: list[Tensor]) -> None:
        self.batches: Iterator[Tensor] = iter(batches)

    def get_next(self) -> dict[str, Any] | None:
        """The next batch, or None."""
        batch = next(self.batches, None)
        return None if batch is None else {"input": batch.numpy()}


def show_speed(names: list[str], threads: int) -> None:
    """Medians, ratios and kernels."""
    print(
        f"ONNX Runtime {onnxruntime.__version__}, torch {torch.__version__}, {platform.machine()}, {threads} threads, batch 1"
    )
    for name in names:
        torch.manual_seed(0)
        network = build(name, 224, 1000)
        batches = [torch.randn(2, 3, 224, 224) for _ in range(CALIBRATION)]
        with tempfile.TemporaryDirectory() as folder:
            files = write_all(network, batches, Path(folder))
            times = measure({kind: start_session(path, threads=threads) for kind, path in files.items()})
            sizes = {kind: path.stat().st_size for kind, path in files.items()}
            print(f"\n{name}")
            for kind, values in times.items():
                low, high = statistics.quantiles(values, n=10)[0], statistics.quantiles(values, n=10)[-1]
                print(
                    f"  {kind:8} {statistics.median(values):7.2f} ms ({low:.2f} to {high:.2f})  {sizes[kind] / 2**20:6.2f} MiB "
                    f"({sizes[kind] / sizes['float']:.1%})  {dict(kernels(files[kind])) if kind != 'float' else ''}"
                )
            ratios = [theirs / ours for theirs, ours in zip(times["ORT's"], times["ours"], strict=True)]
            print(f"  speed of ours / ORT's own quantizer: {statistics.median(ratios):.3f}", flush=True)


def write_all(network: nn.Module, batches: list[Tensor], folder: Path) -> dict[str, Path]:
    """Our int8 file, that of ONNX Runtime's quantizer, and the float file that it began with."""
    files = {"ours": folder / "ours.onnx", "ORT's": folder / "theirs.onnx", "float": folder / "float.onnx"}
    int8 = quantize(network, batches)
    export_onnx(int8, files["ours"], batches[0])
    export_onnx(network, files["float"], batches[0])
    prepared = folder / "prepared.onnx"
    quant_pre_process(str(files["float"]), str(prepared))
    quantize_static(
        str(prepared),
        str(files["ORT's"]),
        Reader(batches),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    return files


def measure(sessions: dict[str, Any]) -> dict[str, list[float]]:
    """Milliseconds of a run, sessions taking turns."""
    image = torch.randn(1, 3, 224, 224).numpy()
    times: dict[str, list[float]] = {kind: [] for kind in sessions}
    for number in range(ROUNDS + 2):
        for kind, session in sessions.items():
            session.run(None, {"input": image})
            start = time.perf_counter()
            for _ in range(REPEATS):
                session.run(None, {"input": image})
            if number >= 2:  # the first rounds warm up
                times[kind].append((time.perf_counter() - start) / REPEATS * 1e3)
    return times


def show_accuracy(paths: list[Path]) -> None:
    """Accuracies, and how often the file and torch's int8 network name the same class."""
    for path in paths:
        file = read_model_file(path)
        loaded = own_config(file)
        splits = {
            name: build_eval_split(loaded, file.spec.info, split=name, device=torch.device("cpu"))
            for name in ("train", "test")
        }
        calibration = [batch.inputs for batch, _ in zip(splits["train"].batches(), range(8), strict=False)]
        network = build_from_file(file)
        int8 = quantize(network, calibration)
        with tempfile.TemporaryDirectory() as folder:
            onnx_path = Path(folder) / "int8.onnx"
            parity = export_onnx(int8, onnx_path, calibration[0], inputs=calibration[1])
            session = start_session(onnx_path)
        runs = {
            "float": network,
            "int8": int8,
            "file": partial(run_file, session),
        }
        outputs = {kind: predict(run, splits["test"]) for kind, run in runs.items()}
        targets = splits["test"].sample_targets()
        whole = parity_of(outputs["file"], outputs["int8"])
        scores = ", ".join(
            f"{kind} {(found.argmax(1) == targets).float().mean():.2%}" for kind, found in outputs.items()
        )
        print(
            f"{path.parent.name}: {scores}; file and int8 agree on {whole.agreement:.2%}, outputs differ by at most "
            f"{whole.max_abs:.3f} of {whole.output_max:.2f}, layers by {parity.layer_steps} steps",
            flush=True,
        )


def run_file(session: Any, inputs: Tensor) -> Tensor:
    """The outputs of an ONNX Runtime session."""
    return torch.from_numpy(session.run(None, {"input": inputs.numpy()})[0])


def predict(run: Callable[[Tensor], Tensor], split: Any) -> Tensor:
    """Outputs for every sample of a split, by its place there."""
    with torch.no_grad():
        parts = [(batch.indices, run(batch.inputs)) for batch in split.batches()]
    order = torch.cat([indices for indices, _ in parts]).argsort()
    return torch.cat([outputs for _, outputs in parts])[order]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("parity", "speed", "accuracy"))
    parser.add_argument("names", nargs="*")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    if arguments.what == "parity":
        show_parity(arguments.names or VARIED)
    elif arguments.what == "speed":
        show_speed(arguments.names or list(TIMED), arguments.threads)
    else:
        show_accuracy([Path(name) for name in arguments.names])


if __name__ == "__main__":
    main()
