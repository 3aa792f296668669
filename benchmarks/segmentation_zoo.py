"""Do torchvision's six networks for segmentation go through every command?

Claim: each has the MACs that torch's own counter finds, becomes int8 statically and loads again bit for bit, loses 30 % of its
channels and is verified, and is written as ONNX, float and int8, with free sizes; or is refused with a reason. Random weights,
batch norms that have seen random images, pictures of 64x64: the numbers speak of the machinery and not of accuracy. `alike` is
the share of pixels to which int8 and float give the same class.

    python benchmarks/segmentation_zoo.py [NAME...] [--out benchmarks/results/segmentation_zoo.md]

Every network runs in a process of its own.
"""

import argparse
import json
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
from torch.utils.flop_counter import FlopCounterMode

from dlkit.core.data import DataInfo
from dlkit.core.export import export_onnx, find_free_size
from dlkit.core.modelfile import ModelSpec, load_model
from dlkit.core.models import Arch, build_model
from dlkit.core.profile import InputSpec, profile_model
from dlkit.errors import DlkitError
from dlkit.prune import ChannelLimits, choose, find_groups, shrink_verified, unit_importance
from dlkit.quantities import counted
from dlkit.quantize import (
    Recipe,
    convert,
    layer_statuses,
    observe_network,
    pick_backend,
    pick_reduce,
    save_quantized,
)

SIDE, NUM_CLASSES, AMOUNT, LIMIT_S = 64, 5, 0.3, 1200
EXPLAINED = """random weights, batch norms that have seen random images. *Equal* are the MACs to those of
torch's own counter. *Alike* is the share of pixels to which int8 and float give the same class: random networks amplify what int8 rounds at
every layer, so that it says little of trained ones. What is pruned differs by *off by* of the largest output from the network with the same
channels at zero. ONNX files have free heights and widths and were compared with the network at three sizes: *off by* is the largest
difference from end to end, of the largest output, and *steps* the largest difference of any layer on equal input, in codes of int8, which
decides. Two steps are possible where runtimes round once more, before a sum or an activation."""
COLUMNS = ("GMACs", "static int8", "prune 30 %", "ONNX float", "ONNX int8", "s")


def build(name: str) -> tuple[nn.Module, ModelSpec]:
    """A network in evaluation mode whose batch norms have seen random images."""
    torch.manual_seed(0)
    arch = Arch("torchvision", name, {"num_classes": NUM_CLASSES, "in_channels": 3})
    network = build_model(arch).eval()
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = None  # plain means over all that is seen
            module.train()
    with torch.no_grad():
        for _ in range(2):
            network(images(4))
    info = DataInfo("segmentation", "image", (3, SIDE, SIDE), NUM_CLASSES, None, None, None)
    return network.eval(), ModelSpec(arch, info)


def images(count: int) -> Tensor:
    """Random images with structure: noise of several coarseness added up."""
    parts = [torch.randn(count, 3, SIDE // step, SIDE // step) for step in (1, 4, 16)]
    return sum(nn.functional.interpolate(part, size=(SIDE, SIDE)) for part in parts) / len(parts) ** 0.5


def costs(network: nn.Module, name: str) -> str:
    """MACs beside those of torch's counter on torchvision's own network."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        theirs = torchvision.models.get_model(name, weights=None, weights_backbone=None, num_classes=NUM_CLASSES)
        theirs.eval()(torch.empty(1, 3, SIDE, SIDE))
    ours = profile_model(
        build_model(Arch("torchvision", name, {"num_classes": NUM_CLASSES, "in_channels": 3})).to("meta"),
        [InputSpec((3, SIDE, SIDE))],
        with_memory=False,
    )
    word = "equal" if 2 * ours.macs == counter.get_total_flops() and not ours.uncounted else "DIFFERENT"
    return f"{ours.macs / 1e9:.3f}, {word}"


def static(network: nn.Module, spec: ModelSpec) -> tuple[str, nn.Module]:
    """What int8 has, how alike it is, and whether its file gives the same again; and the int8 network."""
    backend = pick_backend("auto")
    recipe = Recipe("static", backend, reduce=pick_reduce(backend))
    with torch.no_grad():
        int8 = convert(observe_network(network, recipe, [images(4) for _ in range(4)]), recipe)
        fresh = images(4)
        found, wanted = int8(fresh), network(fresh)
        alike = float((found.argmax(1) == wanted.argmax(1)).double().mean())
        statuses = layer_statuses(network, int8, recipe)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.pt"
            save_quantized(path, spec, int8, recipe=recipe, example=fresh)
            reloaded = "reloads bit for bit" if torch.equal(load_model(path)(fresh), found) else "RELOADS OTHERWISE"
    in_float = ", ".join(f"{one.name} float: {one.reason}" for one in statuses if not one.is_int8)
    count = sum(one.is_int8 for one in statuses)
    return f"{count} of {len(statuses)} layers ({in_float or 'none float'}), {alike:.1%} alike, {reloaded}", int8


def prune(network: nn.Module, spec: ModelSpec) -> str:
    """How many groups are cut, and how near the result is to the network with the same channels at 0."""
    example = images(2)
    groups = find_groups(network, example)
    keep = choose(groups, unit_importance(network, groups, "l1"), AMOUNT, limits=ChannelLimits())
    found = shrink_verified(network, groups, keep, example)
    left = found.num_parameters / sum(parameter.numel() for parameter in network.parameters())
    exact = sum(kind == "exact" for kind in found.kinds.values())
    off = found.max_delta / found.max_output
    return f"{len(found.keep)} of {len(groups)} groups, {exact} exact, {left:.0%} of parameters, off by {off:.0e}"


def onnx(network: nn.Module, spec: ModelSpec) -> str:
    """How near a file with free sizes is, at the size of training; it is checked at two others as well."""
    free = find_free_size(network, spec)
    with tempfile.TemporaryDirectory() as folder:
        parity = export_onnx(network, Path(folder) / "net.onnx", images(1), inputs=images(2), free=free)
    steps = "" if parity.layer_steps is None else f", layers within {counted(parity.layer_steps, 'step')}"
    return f"off by {parity.max_abs / parity.output_max:.0e}{steps}, sides of {free.step}"


def examine(name: str) -> dict[str, str]:
    """One row."""
    start = time.perf_counter()
    network, spec = build(name)
    text, int8 = static(network, spec)
    row = {"name": name, "GMACs": costs(network, name), "static int8": text}
    row["prune 30 %"] = tried(lambda: prune(network, spec))
    row["ONNX float"] = tried(lambda: onnx(network, spec))
    row["ONNX int8"] = tried(lambda: onnx(int8, spec))
    return row | {"s": f"{time.perf_counter() - start:.0f}"}


def tried(work: Callable[[], str]) -> str:
    """What it says, or why it was refused."""
    try:
        return work()
    except DlkitError as error:
        return f"refused: {error}"


def run_apart(name: str) -> dict[str, Any]:
    """The row of one network, from a process of its own; a crash is a row, too."""
    command = [sys.executable, __file__, name, "--one"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        return {"name": name, "GMACs": f"failed: more than {LIMIT_S} s"}
    if done.returncode:
        return {"name": name, "GMACs": f"failed: {(done.stderr.strip().splitlines() or ['no message'])[-1]}"}
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return row


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    versions = f"torch {torch.__version__}, torchvision {torchvision.__version__}, {SIDE}x{SIDE}, {NUM_CLASSES} classes"
    head = f"# torchvision's networks for segmentation\n\n`python benchmarks/segmentation_zoo.py`: {EXPLAINED}\n\n{versions}"
    lines = ["| network | " + " | ".join(COLUMNS) + " |", "|" + "---|" * (len(COLUMNS) + 1)]
    lines += [f"| {row['name']} | " + " | ".join(row.get(key, "") for key in COLUMNS) + " |" for row in rows]
    return "\n".join([head, "", *lines]) + "\n"


def main() -> None:
    """Run all or the named networks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "segmentation_zoo.md")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(examine(arguments.names[0])))
        return
    rows = []
    for name in arguments.names or torchvision.models.list_models(module=torchvision.models.segmentation):
        rows.append(run_apart(name))
        print(rows[-1], flush=True)
        arguments.out.write_text(table(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
