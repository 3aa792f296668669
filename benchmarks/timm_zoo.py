"""Do timm's networks go through every task of dlkit?

Claim: the smallest architectures of 60 of timm's families (its modules; the 60 whose smallest network has the fewest parameters, timm's
own `test_` networks left out) are trained for two steps, their MACs equal those of torch's FlopCounterMode, they become static int8,
lose 30 % of their channels, and go to ONNX; each is right, or is refused with a reason. Random weights, batch norms that have seen
random pictures, the smallest input that each network takes. Every cell has a process of its own with a time limit.

    python benchmarks/timm_zoo.py [NAME...] [--out benchmarks/results/timm_zoo]
    python benchmarks/timm_zoo.py --pick     # the list of networks again, from the timm that is installed
"""

import argparse
import json
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
import torch
from prune_zoo import in_process, measure_batch_norms, prune_network, reload_one
from quantize_zoo import amplified_noise_db, examine_mode, images, wake_heads
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from dlkit.config import Model
from dlkit.core.data import DataInfo
from dlkit.core.export import export_onnx
from dlkit.core.modelfile import ModelSpec
from dlkit.core.models import Arch, build_model, build_on_meta, output_shape, plan_arch
from dlkit.core.profile import InputSpec, profile_model
from dlkit.errors import DlkitError
from dlkit.quantize import Recipe, pick_backend, pick_reduce

NUM_CLASSES = 10
SIZES = (32, 64, 96, 128, 160, 192, 224, 240, 256, 299, 331, 384)
COLUMNS = ("trains", "MACs", "int8", "prune", "ONNX")
NAMES = Path(__file__).parent.joinpath("nets", "timm_zoo.txt").read_text(encoding="utf-8").split()


def pick(count: int = 60) -> list[str]:
    """The smallest network of each family, by parameters, of the families that have the smallest."""
    smallest = []
    for family in timm.list_modules():
        names = [name for name in timm.list_models(module=family) if not name.startswith("test_")]
        sizes = [(size, name) for name in names if (size := count_parameters(name)) is not None]
        smallest += [min(sizes)] if sizes else []
    return [name for _, name in sorted(smallest)[:count]]


def count_parameters(name: str) -> int | None:
    """Parameters as published; None for a network that cannot be built without memory."""
    try:
        network = build_on_meta(Arch("timm", name, {}))
    except DlkitError:
        return None
    return sum(parameter.numel() for parameter in network.parameters())


def plan(name: str) -> tuple[Arch, int]:
    """The architecture for the smallest square pictures that it takes, and their side."""
    for size in SIZES:
        try:
            arch = plan_arch(Model(name=f"timm/{name}"), input_size=(3, size, size), num_outputs=NUM_CLASSES)
            if output_shape(build_on_meta(arch), (3, size, size)) == (NUM_CLASSES,):
                return arch, size
        except Exception:  # whatever a network raises for pictures that are too small
            continue
    raise ValueError("takes no square pictures of up to 384 pixels")


def build(name: str) -> tuple[nn.Module, ModelSpec, int]:
    """The network in evaluation mode, its description and the side of its pictures."""
    warnings.simplefilter("ignore")
    arch, size = plan(name)
    torch.manual_seed(0)
    network = build_model(arch)
    wake_heads(network)
    measure_batch_norms(network, images(8, size))
    info = DataInfo("classification", "image", (3, size, size), NUM_CLASSES, None, None, None)
    return network.eval(), ModelSpec(arch, info), size


def train_two_steps(name: str) -> dict[str, Any]:
    """Whether two steps of SGD change every parameter that takes part, by finite gradients."""
    network, _, size = build(name)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3)
    losses = []
    for _ in range(2):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(network.train()(images(4, size)), torch.arange(4))
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    gradients = [parameter.grad for parameter in network.parameters()]
    idle = sum(gradient is None for gradient in gradients)
    is_finite = all(bool(gradient.isfinite().all()) for gradient in gradients if gradient is not None)
    return {
        "status": "ok" if is_finite and idle < len(gradients) / 10 else "WRONG",
        "losses": losses,
        "idle": idle,
        "size": size,
    }


def compare_macs(name: str) -> dict[str, Any]:
    """MACs by dlkit, and half of the FLOPs that torch counts while the network runs."""
    network, spec, size = build(name)
    network.requires_grad_(False)  # torch's counter asks parameters of gradients for functions that no_grad leaves out
    profile = profile_model(build_on_meta(spec.arch), [InputSpec((3, size, size))])
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(images(1, size))
    torchs = counter.get_total_flops() / 2
    is_equal = profile.macs == torchs and not profile.uncounted
    return {
        "status": "ok" if is_equal else "WRONG",
        "ours": profile.macs,
        "torch": torchs,
        "uncounted": dict(profile.uncounted),
    }


def make_int8(name: str) -> dict[str, Any]:
    """Static int8 with its signal to noise, and whether its file gives the same bits."""
    network, spec, size = build(name)
    torch.set_grad_enabled(False)
    picked = pick_backend("auto")
    row = {"noise_db": amplified_noise_db(network, size)}
    anew = build_model(
        spec.arch
    ).eval()  # as from a file: some networks keep something of their first run, and are traced in another way
    anew.load_state_dict(network.state_dict())
    row |= examine_mode(anew, spec.arch, Recipe("static", picked, reduce=pick_reduce(picked)), size)
    # int8 rounds at every layer at about the level of that noise; far below it something is wrong
    is_right = row["status"] == "ok" and row["reload"] == "equal" and row["sqnr_db"] > min(row["noise_db"], 20) - 20
    return row | ({"status": "WRONG"} if row["status"] != "refused" and not is_right else {})


def shrink(name: str) -> dict[str, Any]:
    """30 % of the channels removed, verified, and read back in another process."""
    network, spec, _ = build(name)
    with tempfile.TemporaryDirectory() as folder:
        row = prune_network(network, spec, Path(folder))
        if row.get("verdict") == "refused":
            return row | {
                "status": "refused",
                "reason": next(iter({**row["rolled_back"], **row["refused"]}.values()), "no group"),
            }
        row |= reload_one(Path(folder))
    return row | {"status": "ok" if row["right_shape"] and row["trains"] and row["reloads"] else "WRONG"}


def to_onnx(name: str) -> dict[str, Any]:
    """The file, which is compared with the network in ONNX Runtime before it is written."""
    network, spec, size = build(name)
    with tempfile.TemporaryDirectory() as folder:
        parity = export_onnx(network, Path(folder) / "model.onnx", images(2, size), inputs=images(4, size), spec=spec)
    return {"status": "ok", "difference": parity.max_abs / parity.output_max}


TASKS: dict[str, Callable[[str], dict[str, Any]]] = dict(
    zip(COLUMNS, (train_two_steps, compare_macs, make_int8, shrink, to_onnx), strict=True)
)


def run_task(column: str, name: str) -> dict[str, Any]:
    """One cell; an error of dlkit's is a refusal with its reason."""
    start = time.perf_counter()
    try:
        return TASKS[column](name) | {"seconds": round(time.perf_counter() - start, 1)}
    except DlkitError as error:
        return {"status": "refused", "reason": str(error)}


def judge(name: str, columns: tuple[str, ...]) -> dict[str, Any]:
    """One row of the table."""
    cells = {column: in_process(run_task, column, name) for column in columns}
    for found in cells.values():
        found.setdefault("status", "fails")
    return {"name": name, "family": timm.models.model_entrypoint(name).__module__.rpartition(".")[2], **cells}


def cell(column: str, found: dict[str, Any]) -> str:
    """One cell in words."""
    if found["status"] != "ok":
        return str(found["status"])
    texts = {
        "trains": lambda: "ok",
        "MACs": lambda: f"{found['ours'] / 1e6:.1f} M",
        "int8": lambda: f"{found['sqnr_db']:.0f} dB ({found['noise_db']:.0f})",
        "prune": lambda: f"{100 * found['params']:.0f} %",
        "ONNX": lambda: f"{found['difference']:.0e}",
    }
    return texts[column]()


def table(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> str:
    """The rows as Markdown, with the count of what works in each column, and the reasons of what does not."""
    counts = [f"{column} {sum(row[column]['status'] == 'ok' for row in rows)}" for column in columns]
    lines = [f"Of {len(rows)} networks: {', '.join(counts)}. timm {timm.__version__}, torch {torch.__version__}", ""]
    lines += ["| family | network | side | " + " | ".join(columns) + " |", "|---|---|" + "---|" * (len(columns) + 1)]
    for row in rows:
        cells = [cell(column, row[column]) for column in columns]
        lines.append(
            f"| {row['family']} | {row['name']} | {row.get('trains', {}).get('size', '')} | {' | '.join(cells)} |"
        )
    return "\n".join([*lines, "", *reasons(rows, columns)]) + "\n"


def reasons(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> list[str]:
    """A line for each cell that does not work."""
    return [
        f"- {row['name']}, {column}, {row[column]['status']}: {row[column].get('reason') or row[column].get('error') or row[column]}"
        for row in rows
        for column in columns
        if row[column]["status"] != "ok"
    ]


def main() -> None:
    """Judge the named networks, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--columns", nargs="+", choices=COLUMNS, default=list(COLUMNS))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "timm_zoo")
    parser.add_argument("--pick", action="store_true", help="only print the list of networks")
    arguments = parser.parse_args()
    if arguments.pick:
        print(pick())
        return
    columns, rows = tuple(arguments.columns), []
    for name in arguments.names or NAMES:
        rows.append(judge(name, columns))
        print(
            name,
            {column: cell(column, rows[-1][column]) for column in columns},
            *reasons(rows[-1:], columns),
            flush=True,
        )
        arguments.out.with_suffix(".json").write_text(json.dumps(rows, indent=1, default=str) + "\n", encoding="utf-8")
        arguments.out.with_suffix(".md").write_text(table(rows, columns), encoding="utf-8")


if __name__ == "__main__":
    main()
