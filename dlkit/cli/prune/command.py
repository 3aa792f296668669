"""`dlkit prune`: masks that set weights to zero, or a network that is really smaller, and the proof of what that changed."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from dlkit.cli.options import (
    ArchName,
    AsJson,
    DataOption,
    Device,
    Force,
    ImageSize,
    ModelFile,
    Network,
    NoLatency,
    NumClasses,
)
from dlkit.cli.plain_help import PlainCommand
from dlkit.cli.prune.options import (
    AmountText,
    Count,
    Dim,
    Distill,
    Finetune,
    FloorText,
    Iterations,
    Lr,
    Method,
    NormText,
    Output,
    Plan,
    Recal,
    Rewind,
    RoundTo,
    Scan,
    Schedule,
    Scope,
    Seconds,
    Seed,
    Shrink,
    Skip,
    Structured,
    TargetText,
    parse_norm,
)
from dlkit.errors import UsageError
from dlkit.signals import stopped_by_signals

if TYPE_CHECKING:
    from dlkit.core.opening import Naming
    from dlkit.events import Emit
    from dlkit.prune import Amount, OpenedModel, PruneRequest

EPILOG = """Writes MODEL.pruned.pt and MODEL.pruned.report.json beside the model, or nothing at all."""

Show = Callable[[], None]


app = typer.Typer()


@app.command("prune", cls=PlainCommand, epilog=EPILOG, no_args_is_help=True)
def prune(
    model: ModelFile, amount: AmountText = None, count: Count = None, target: TargetText = None, method: Method = None,
    scope: Scope = "layer", structured: Structured = False, n: NormText = None, dim: Dim = None, shrink: Shrink = False,
    round_to: RoundTo = None, min_keep: FloorText = None, iterations: Iterations = 1, schedule: Schedule = "agp",
    finetune: Finetune = None, lr: Lr = None, distill: Distill = False, bn_recal: Recal = None, rewind: Rewind = None,
    skip: Skip = None, plan: Plan = False, scan: Scan = False, data: DataOption = None, arch: ArchName = None,
    num_classes: NumClasses = None, image_size: ImageSize = None, network: Network = None, device: Device = "auto",
    seconds: Seconds = 1.5, no_latency: NoLatency = False, output: Output = None, force: Force = False, seed: Seed = 0,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Remove weights or whole channels, recover with training, and measure what that changed."""
    from dlkit.core.opening import Naming
    from dlkit.prune import PruneRequest, parse_floor, parse_target

    with stopped_by_signals("nothing was written"):
        request = PruneRequest(
            amount=_pick_amount(amount, count, is_needed=target is None and not (plan or scan)),
            method=method,
            scope=scope,
            is_structured=structured or shrink or target is not None,
            is_shrunk=shrink or target is not None,
            norm=None if n is None else parse_norm(n),
            dim=dim,
            round_to=round_to,
            min_keep=None if min_keep is None else parse_floor(min_keep),
            iterations=iterations,
            schedule=schedule,
            epochs=finetune,
            lr=lr,
            is_distilled=distill,
            num_recal=bn_recal,
            rewind=rewind,
            skip=tuple(skip or ()),
            seed=seed,
            seconds=None if no_latency else seconds,
            target=None if target is None else parse_target(target),
        )
        named = Named(model, Naming(arch, num_classes, image_size, network), data, device, output, force, as_json)
        show = _run(named, request, only_plans=plan, only_scans=scan)
    show()


@dataclass(frozen=True)
class Named:
    """What the command line names: the model, its network and its data, where it runs, and where results go."""

    model: Path
    naming: "Naming"
    data: str | None
    device: str
    output: Path | None
    may_replace: bool
    as_json: bool


def _pick_amount(share: str | None, count: int | None, *, is_needed: bool) -> "Amount | None":
    from dlkit.prune import parse_amount

    return parse_amount(share, count) if is_needed or share is not None or count is not None else None


def _run(named: Named, request: "PruneRequest", *, only_plans: bool, only_scans: bool) -> Show:
    """Do what was asked; returns what shows the result."""
    from dlkit.cli.display import open_display, prints_aside
    from dlkit.prune import check_request

    if only_plans and only_scans:
        raise UsageError("--plan and --scan show different things; give one of them")
    if only_scans and (request.amount is not None or request.target is not None):
        raise UsageError(
            "--scan tries several amounts of each part by itself; leave --amount, --count and --target out"
        )
    check_request(request, needs_amount=not (only_plans or only_scans))
    work = _scan if only_scans else _plan if only_plans else _prune
    with prints_aside(), open_display(quiet=named.as_json, verbose=False, as_json=False) as display:
        return work(named, request, display.emit)


def _open(named: Named, emit: "Emit", *, needs_data: bool) -> "OpenedModel":
    from dlkit.config import load_data_option
    from dlkit.core.opening import open_model
    from dlkit.prune import open_for_pruning

    loaded = load_data_option(named.data) if named.data else None
    file = open_model(named.model, named.naming, data=loaded, emit=emit)
    return open_for_pruning(
        file, data=loaded, needs_data=needs_data, model=named.naming.model, device=named.device, emit=emit
    )


def _prune(named: Named, request: "PruneRequest", emit: "Emit") -> Show:
    from dlkit.cli.prune.show import show_report
    from dlkit.prune import plan_paths, prune_model

    paths = plan_paths(named.model, named.output, may_replace=named.may_replace)
    made = prune_model(_open(named, emit, needs_data=request.needs_data), request, paths, emit=emit)
    return lambda: show_report(made, as_json=named.as_json)


def _plan(named: Named, request: "PruneRequest", emit: "Emit") -> Show:
    from dlkit.cli.prune.show import show_mask_plan, show_shrink_plan
    from dlkit.prune import plan_mask_rows, plan_shrink_sizes

    opened = _open(named, emit, needs_data=request.needs_data)
    if request.is_shrunk:
        sizes = plan_shrink_sizes(opened, request, emit=emit)
        return lambda: show_shrink_plan(sizes, request, named.model, as_json=named.as_json)
    rows = plan_mask_rows(opened, request)
    return lambda: show_mask_plan(rows, request, named.model, as_json=named.as_json)


def _scan(named: Named, request: "PruneRequest", emit: "Emit") -> Show:
    from dlkit.cli.prune.show import show_scan
    from dlkit.prune import plan_picture, save_scan_picture, scan_model

    path = plan_picture(named.model, named.output, may_replace=named.may_replace)
    scan = scan_model(_open(named, emit, needs_data=True), request, emit=emit)
    save_scan_picture(path, scan, f"{named.model}: one part pruned at a time, {request.picked_method}")
    return lambda: show_scan(scan, named.model, path, as_json=named.as_json)
