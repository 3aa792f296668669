"""Which of torchvision's classifiers become int8, how near to their float output, and do their files load again?

Claim: every classifier of torchvision is quantized statically or refused with a reason; its int8 outputs are finite; a saved
file gives the same outputs bit for bit after loading. Networks have random weights, batch norms have seen random images, and
inputs are as small as the network takes, so the numbers speak of the machinery and not of accuracy on real data: random
networks amplify noise. How much so is in the column `noise`: what is left of the float output's 40 dB when the input has noise
40 dB below it. Int8 rounds at every layer at about that level.

    python benchmarks/quantize_zoo.py [NAME...] [--backend x86] [--out benchmarks/results/quantize_zoo] [--no-onnx]
    python benchmarks/quantize_zoo.py --join PART.json... [--out benchmarks/results/quantize_zoo]

Every network runs in a process of its own, one at a time. Writes tables (.md) and all numbers (.json); --join makes one of
several runs over parts of the list.
"""

import argparse
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from dlkit.core.data import DataInfo
from dlkit.core.export import export_onnx
from dlkit.core.modelfile import ModelSpec, load_model
from dlkit.core.models import Arch, build_model, plan_torchvision_size
from dlkit.errors import DlkitError
from dlkit.quantize import (
    Recipe,
    convert,
    count_int8_kernels,
    layer_statuses,
    observe_network,
    pick_backend,
    pick_reduce,
    quantize_dynamic,
    save_quantized,
)

NUM_CLASSES = 10
TIMEOUT_S = 1800
COLUMNS = (
    "static",
    "noise",
    "SQNR dB",
    "cosine",
    "int8",
    "float",
    "reload",
    "ONNX",
    "dynamic",
    "dyn. SQNR dB",
    "dyn. reload",
    "s",
    "GiB",
)


def classifiers() -> list[str]:
    """All classification builders of torchvision."""
    return torchvision.models.list_models(module=torchvision.models)


def smallest_size(name: str) -> int:
    """Side of the smallest square images that suit a network."""
    if name.startswith("maxvit"):
        return 224
    if name.startswith("vit_"):
        return 4 * int(name.rsplit("_", 1)[1])
    return 96 if name == "inception_v3" else 64


def build(name: str, size: int) -> tuple[Arch, nn.Module]:
    """A network in evaluation mode whose batch norms have seen random images."""
    options = {**plan_torchvision_size(name, (3, size, size)), "num_classes": NUM_CLASSES, "in_channels": 3}
    arch = Arch("torchvision", name, options)
    network = build_model(arch).eval()
    wake_heads(network)
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.momentum = None  # plain means over all that is seen
        norm.train()
    for _ in range(2 if norms else 0):
        network(images(8, size))
    return arch, network.eval()


def wake_heads(network: nn.Module) -> None:
    """Give weights to heads of zeros, with which vision transformers begin."""
    for module in network.modules():
        if isinstance(module, nn.Linear) and not module.weight.any():
            nn.init.normal_(module.weight, std=0.1)


def images(count: int, size: int) -> Tensor:
    """Random images with structure: noise of several coarseness added up."""
    parts = [torch.randn(count, 3, size // step, size // step) for step in (1, 4, 16)]
    return sum(nn.functional.interpolate(part, size=(size, size)) for part in parts) / math.sqrt(len(parts))


def examine(name: str, backend: str, *, use_onnx: bool) -> dict[str, Any]:
    """One row: static, then dynamic."""
    torch.manual_seed(0)
    torch.set_grad_enabled(False)
    start = time.perf_counter()
    size = smallest_size(name)
    arch, network = build(name, size)
    row: dict[str, Any] = {"name": name, "size": size, "noise_db": amplified_noise_db(network, size)}
    row |= examine_mode(
        network, arch, Recipe("static", pick_backend(backend), reduce=pick_reduce(pick_backend(backend))), size
    )
    dynamic = examine_mode(network, arch, Recipe("dynamic", pick_backend(backend)), size)
    row |= {f"dynamic_{key}": value for key, value in dynamic.items()}
    if use_onnx and row["status"] == "ok":
        row["onnx"] = onnx_parity(network, backend, size)
    row["seconds"] = round(time.perf_counter() - start, 1)
    row["gib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)
    return row


def amplified_noise_db(network: nn.Module, size: int) -> float:
    """Signal to noise of the float outputs for inputs with 40 dB."""
    inputs = images(4, size)
    noise = torch.randn_like(inputs) * inputs.square().mean().sqrt() / 100
    return sqnr_db(network(inputs), network(inputs + noise))


def examine_mode(network: nn.Module, arch: Arch, recipe: Recipe, size: int) -> dict[str, Any]:
    """Quantize, compare, save and load; an error of ours is a refusal with its reason."""
    example, fresh = images(4, size), images(4, size)
    try:
        quantized = quantize(network, recipe, example, size)
        statuses = layer_statuses(network, quantized, recipe)
    except DlkitError as error:
        return {"status": "refused", "reason": str(error)}
    expected, found = network(fresh), quantized(fresh)
    return {
        "status": "ok" if bool(found.isfinite().all()) else "not finite",
        "sqnr_db": sqnr_db(expected, found),
        "cosine": round(float(nn.functional.cosine_similarity(expected, found).mean()), 4),
        "int8_layers": sum(status.is_int8 for status in statuses),
        "float_layers": reasons(statuses),
        "kernels": count_int8_kernels(quantized, fresh),
        "reload": "equal" if reloads(quantized, arch, recipe, fresh) else "DIFFERS",
    }


def quantize(network: nn.Module, recipe: Recipe, example: Tensor, size: int) -> nn.Module:
    """The int8 network, calibrated on four batches."""
    if recipe.mode == "dynamic":
        return quantize_dynamic(network, recipe, example=example)
    return convert(observe_network(network, recipe, [images(4, size) for _ in range(4)]), recipe)


def reasons(statuses: Any) -> dict[str, int]:
    """How many layers are float, by reason."""
    found: dict[str, int] = {}
    for status in statuses:
        if not status.is_int8:
            found[f"{status.type}: {status.reason}"] = found.get(f"{status.type}: {status.reason}", 0) + 1
    return found


def sqnr_db(expected: Tensor, found: Tensor) -> float:
    """Signal to quantization noise of outputs."""
    return round(float(20 * torch.log10(expected.norm() / (expected - found).norm())), 1)


def reloads(quantized: nn.Module, arch: Arch, recipe: Recipe, inputs: Tensor) -> bool:
    """Whether the network's file gives the same outputs, bit for bit."""
    info = DataInfo("classification", "image", tuple(inputs.shape[1:]), NUM_CLASSES, None, None, None)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.pt"
        save_quantized(path, ModelSpec(arch, info), quantized, recipe=recipe, example=inputs)
        return torch.equal(load_model(path)(inputs), quantized(inputs))


def onnx_parity(network: nn.Module, backend: str, size: int) -> str:
    """Agreement of the int8 ONNX export with the int8 network, or why there is none."""
    picked = pick_backend(backend)
    quantized = quantize(network, Recipe("static", picked, reduce=pick_reduce(picked)), images(4, size), size)
    with tempfile.TemporaryDirectory() as folder:
        try:
            parity = export_onnx(quantized, Path(folder) / "model.onnx", images(1, size), inputs=images(4, size))
        except DlkitError as error:
            return f"refused: {error}"
    whole = f"max {parity.max_abs / parity.output_max:.1e}, top-1 {parity.agreement:.0%}"
    return f"{whole}, layers within {parity.layer_steps} steps"


def run_apart(name: str, backend: str, *, use_onnx: bool) -> dict[str, Any]:
    """The row of one network, from a process of its own; a crash is a row, too."""
    command = [sys.executable, __file__, name, "--one", "--backend", backend, *([] if use_onnx else ["--no-onnx"])]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return {"name": name, "status": "failed", "reason": f"took more than {TIMEOUT_S} s"}
    if done.returncode:
        return {"name": name, "status": "failed", "reason": (done.stderr.strip().splitlines() or ["no message"])[-1]}
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return row


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    lines = ["| network | " + " | ".join(COLUMNS) + " |", "|" + "---|" * (len(COLUMNS) + 1)]
    for row in rows:
        keys = ("status", "noise_db", "sqnr_db", "cosine", "int8_layers", "float_layers", "reload", "onnx")
        keys += ("dynamic_status", "dynamic_sqnr_db", "dynamic_reload", "seconds", "gib")
        lines.append(f"| {row['name']} | " + " | ".join(cell(row.get(key)) for key in keys) + " |")
    ok = sum(row["status"] == "ok" and row["reload"] == "equal" for row in rows)
    refused = sum(row["status"] == "refused" for row in rows)
    notes = [f"- {row['name']}: {row['reason']}" for row in rows if "reason" in row]
    head = f"{ok} of {len(rows)} quantized statically and reloaded bit for bit, {refused} refused with a reason."
    versions = f"torch {torch.__version__}, torchvision {torchvision.__version__}"
    return "\n".join([head, versions, "", *families(rows), "", *lines, "", *notes]) + "\n"


def family_of(name: str) -> str:
    """resnet for resnet18, wide_resnet for wide_resnet50_2, mobilenet_v3 for mobilenet_v3_small."""
    kept = [part for part in name.split("_") if part in ("wide", "v2", "v3") or part == name.split("_")[0]]
    return "wide_resnet" if kept[0] == "wide" else "_".join([kept[0].rstrip("0123456789"), *kept[1:]])


def families(rows: list[dict[str, Any]]) -> list[str]:
    """A short table in Markdown: a row for each family of networks."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(family_of(row["name"]), []).append(row)
    lines = ["| family | networks | static | reload bit-equal | ONNX | dynamic | layers in int8 | SQNR dB | noise dB |"]
    lines.append("|" + "---|" * 9)
    for family, members in sorted(groups.items()):
        counts = [
            sum(row["status"] == "ok" for row in members),
            sum(row.get("reload") == "equal" for row in members),
            sum(str(row.get("onnx", "")).startswith("max") for row in members),
            sum(bool(row.get("dynamic_int8_layers")) and row.get("dynamic_reload") == "equal" for row in members),
        ]
        cells = [f"{span(members, int8_share)} %", span(members, sqnr_of), span(members, noise_of)]
        lines.append(f"| {family} | {len(members)} | " + " | ".join([*map(str, counts), *cells]) + " |")
    return lines


def int8_share(row: dict[str, Any]) -> float | None:
    """Layers in int8, in percent."""
    if "int8_layers" not in row:
        return None
    return 100 * row["int8_layers"] / (row["int8_layers"] + sum(row["float_layers"].values()))


def sqnr_of(row: dict[str, Any]) -> float | None:
    """Of static int8."""
    return row.get("sqnr_db")


def noise_of(row: dict[str, Any]) -> float | None:
    """What the float network makes of 40 dB."""
    return row.get("noise_db")


def span(rows: list[dict[str, Any]], value: Callable[[dict[str, Any]], float | None]) -> str:
    """The least and the greatest value."""
    found = [number for row in rows if (number := value(row)) is not None]
    if not found:
        return ""
    low, high = f"{min(found):.0f}", f"{max(found):.0f}"
    return low if low == high else f"{low} to {high}"


def cell(value: Any) -> str:
    """One value of the table."""
    if isinstance(value, dict):
        return str(sum(value.values()))
    return "" if value is None else str(value)


def main() -> None:
    """Run all or the named networks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "quantize_zoo")
    parser.add_argument("--no-onnx", action="store_true")
    parser.add_argument("--join", nargs="+", type=Path, metavar="JSON", help="only put these runs into one table")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(examine(arguments.names[0], arguments.backend, use_onnx=not arguments.no_onnx)))
        return
    if arguments.join:
        write(
            arguments.out, sorted((row for path in arguments.join for row in json.loads(path.read_text())), key=by_name)
        )
        return
    rows = []
    for name in arguments.names or classifiers():
        rows.append(run_apart(name, arguments.backend, use_onnx=not arguments.no_onnx))
        print({key: value for key, value in rows[-1].items() if key not in ("kernels", "dynamic_kernels")}, flush=True)
        write(arguments.out, rows)


def by_name(row: dict[str, Any]) -> str:
    """What rows are sorted by."""
    return str(row["name"])


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    """Tables and numbers."""
    path.with_suffix(".json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(table(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
