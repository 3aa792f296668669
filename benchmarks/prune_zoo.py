"""Does pruning that removes channels work on networks that nobody adapted to it?

Claim: over torchvision's classifiers, 30 % of the channels are removed, the result is proven equal to the masked network
(or, where norms go over channels, every channel is proven to arrive where it belongs), the file loads without running
code and gives bit-equal outputs; or dlkit refuses with a reason. It never gives an output of another shape. Random
weights, batch norms measured, small images. Each network has a process of its own, and reading back another one.
torch-pruning beside it, with the classifier protected by hand, as its page tells.

    pip install torch-pruning && python benchmarks/prune_zoo.py [NAME...] [--json FILE] [--without-peer]
"""

import argparse
import json
import multiprocessing
import os
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from dlkit import load_model
from dlkit.core.data import DataInfo
from dlkit.core.modelfile import ModelSpec, save_model_file
from dlkit.core.models import Arch, build_model
from dlkit.prune import ChannelLimits, choose, describe_sizes, find_groups, shrink_verified, unit_importance

AMOUNT = 0.3
LIMIT_S = 1800
SIDES = {"inception_v3": 96, "maxvit_t": 224, "vit_h_14": 56}
SIDE = 64
PROCESSES = multiprocessing.get_context("forkserver")


def build(name: str) -> tuple[nn.Module, ModelSpec]:
    """A classifier with random weights and measured batch norms, and its description."""
    side = SIDES.get(name, SIDE)
    options: dict[str, Any] = {"num_classes": 1000, "in_channels": 3}
    if name.startswith("vit_"):
        options["image_size"] = side
    arch = Arch("torchvision", name, options)
    torch.manual_seed(0)
    network = build_model(arch)
    measure_batch_norms(network, torch.randn(8, 3, side, side))
    classes = tuple(str(number) for number in range(1000))
    info = DataInfo("classification", "image", (3, side, side), 1000, classes, None, None)
    return network.eval(), ModelSpec(arch, info)


def measure_batch_norms(network: nn.Module, x: Tensor) -> None:
    """Give running statistics that keep signals alive."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
            module.reset_running_stats()
    network.train()
    with torch.no_grad():
        network(x)


def prune_one(name: str, folder: Path) -> dict[str, Any]:
    """Prune one of torchvision's classifiers, save it, and tell what came out."""
    return prune_network(*build(name), folder)


def prune_network(network: nn.Module, spec: ModelSpec, folder: Path) -> dict[str, Any]:
    """Prune a network, save it, and tell what came out."""
    example = torch.randn(2, *spec.info.input_size)
    start = time.perf_counter()
    groups = find_groups(network, example)
    keep = choose(groups, unit_importance(network, groups, "l1"), AMOUNT, limits=ChannelLimits())
    verified = shrink_verified(network, groups, keep, example)
    seconds = time.perf_counter() - start
    before = sum(parameter.numel() for parameter in network.parameters())
    row = {
        "groups": len(groups),
        "cut": len(verified.keep),
        "exact": sum(kind == "exact" for kind in verified.kinds.values()),
        "params": verified.num_parameters / before,
        "delta": verified.max_delta / verified.max_output if verified.max_output else 0.0,
        "seconds": seconds,
        "rolled_back": dict(verified.rolled_back),
        "refused": {group.id: group.refusal for group in groups if group.refusal},
    }
    if not verified.keep:
        return row | {"verdict": "refused"}
    entry = describe_sizes(network, verified.network)
    small = verified.network.eval()
    with torch.no_grad():
        output = small(example)
    right_shape = output.shape == network(example).shape
    save_model_file(folder / "model.pt", ModelSpec(spec.arch, spec.info, transforms=(entry,)), small.state_dict())
    torch.save({"x": example, "y": output}, folder / "io.pt")
    return row | {"trains": trains(small, example), "right_shape": right_shape}


def trains(network: nn.Module, x: Tensor) -> bool:
    """Whether a backward pass reaches every parameter."""
    network.train()
    network(torch.cat([x, -x])).square().mean().backward()
    return all(parameter.grad is not None for parameter in network.parameters())


def reload_one(folder: Path) -> dict[str, Any]:
    """Read the file back, by dlkit and by torch alone; whether outputs are bit-equal."""
    torch.load(folder / "model.pt", weights_only=True)
    saved = torch.load(folder / "io.pt", weights_only=True)
    with torch.no_grad():
        return {"reloads": torch.equal(load_model(folder / "model.pt")(saved["x"]), saved["y"])}


def prune_with_peer(name: str) -> dict[str, Any]:
    """torch-pruning at 30 % by L1 norm, its classifier protected."""
    import torch_pruning

    warnings.simplefilter("ignore")
    network, spec = build(name)
    example = torch.randn(2, *spec.info.input_size)
    last = [layer for layer in network.modules() if getattr(layer, "out_features", None) == 1000]
    importance = torch_pruning.importance.MagnitudeImportance(p=1)
    start = time.perf_counter()
    try:
        pruner = torch_pruning.pruner.MetaPruner(
            network, example, importance=importance, pruning_ratio=AMOUNT, ignored_layers=last, round_to=8
        )
        pruner.step()
        shape = tuple(network(example).shape)
    except Exception as error:
        return {"peer": f"fails: {type(error).__name__}"}
    verdict = "runs" if shape == (2, 1000) else f"wrong output {shape}"
    return {"peer": verdict, "peer_seconds": time.perf_counter() - start}


def in_process(work: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """Run one part in a process of its own, forked from one that has imported everything and done nothing."""
    receiver, sender = PROCESSES.Pipe(duplex=False)
    process = PROCESSES.Process(target=send_result, args=(sender, work, arguments))
    process.start()
    sender.close()
    try:
        found: dict[str, Any] = receiver.recv() if receiver.poll(LIMIT_S) else {"error": f"longer than {LIMIT_S} s"}
    except EOFError:
        process.join()
        found = {"error": f"exit code {process.exitcode}"}
    process.kill()
    process.join()
    return found


def send_result(sender: Any, work: Callable[..., dict[str, Any]], arguments: tuple[Any, ...]) -> None:
    """What a child process does."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))
    try:
        sender.send(work(*arguments))
    except Exception as error:  # whatever a network raises is its row in the table
        sender.send({"error": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"})


def judge(name: str, *, with_peer: bool) -> dict[str, Any]:
    """One row of the table."""
    with tempfile.TemporaryDirectory() as folder:
        row = {"name": name} | in_process(prune_one, name, Path(folder))
        if "verdict" not in row and "error" not in row:
            row |= in_process(reload_one, Path(folder))
            is_right = row.get("right_shape") and row.get("trains") and row.get("reloads")
            row["verdict"] = "verified" if is_right else "WRONG"
        row.setdefault("verdict", "error")
        if with_peer:
            peer = in_process(prune_with_peer, name)
            row |= {"peer": f"fails: {peer['error']}"} if "error" in peer else peer
    return row


def line(row: dict[str, Any]) -> str:
    """One row as Markdown."""
    if row["verdict"] == "error":
        cells = ["", "", "", "", "", row["error"][:60]]
    else:
        kept_whole = len(row["refused"]) + len(row["rolled_back"])
        cells = [
            f"{row['cut']} / {row['groups']}",
            str(row["exact"]),
            f"{100 * row['params']:.1f} %",
            f"{row['delta']:.0e}",
            f"{row['seconds']:.0f}",
            f"{kept_whole} whole",
        ]
    return "| " + " | ".join([row["name"], row["verdict"], *cells, row.get("peer", "")]) + " |"


def main() -> None:
    """Judge the named classifiers, or all, and print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--without-peer", action="store_true")
    arguments = parser.parse_args()
    names = arguments.names or torchvision.models.list_models(module=torchvision.models)
    print("| model | verdict | groups cut | exact | parameters | max difference | seconds | not cut | torch-pruning |")
    print("|---|---|---|---|---|---|---|---|---|")
    rows = []
    for name in names:
        rows.append(judge(name, with_peer=not arguments.without_peer))
        print(line(rows[-1]), flush=True)
        if arguments.json:
            arguments.json.write_text(json.dumps(rows, indent=1))
    counts = {verdict: sum(row["verdict"] == verdict for row in rows) for verdict in ("verified", "refused")}
    runs = sum(row.get("peer") == "runs" for row in rows)
    print(f"\n{counts['verified']} of {len(rows)} verified, {counts['refused']} refused; torch-pruning: {runs} run")


if __name__ == "__main__":
    main()
