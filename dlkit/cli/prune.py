"""`dlkit prune`: masks that set weights to zero, or a network that is really smaller, and the proof of what that changed."""

from typing import TYPE_CHECKING

from dlkit.cli.options import ArchName, DataOption, Device, ImageSize, ModelFile, Network, NumClasses
from dlkit.cli.prune_options import (
    AmountText,
    AsJson,
    CountNumber,
    Dim,
    Finetune,
    Force,
    Iterations,
    Lr,
    Method,
    MinKeep,
    NoLatency,
    Norm,
    Options,
    Output,
    Plan,
    PruneSeed,
    Recal,
    Rewind,
    RoundTo,
    ScanFlag,
    Schedule,
    ScheduleChoice,
    Scope,
    ScopeChoice,
    Seconds,
    Shrink,
    Skip,
    Structured,
    Target,
)
from dlkit.errors import UsageError

if TYPE_CHECKING:
    from dlkit.cli.display import Display
    from dlkit.prune import OpenedModel, PruneRequest

EPILOG = """Writes MODEL.pruned.pt and MODEL.pruned.report.json beside the model, or nothing at all."""


def prune(
    model: ModelFile,
    amount: AmountText = None,
    count: CountNumber = None,
    target: Target = None,
    method: Method = None,
    scope: Scope = ScopeChoice.layer,
    structured: Structured = False,
    n: Norm = None,
    dim: Dim = None,
    shrink: Shrink = False,
    round_to: RoundTo = None,
    min_keep: MinKeep = None,
    iterations: Iterations = 1,
    schedule: Schedule = ScheduleChoice.agp,
    finetune: Finetune = None,
    lr: Lr = None,
    bn_recal: Recal = None,
    rewind: Rewind = None,
    skip: Skip = None,
    plan: Plan = False,
    scan: ScanFlag = False,
    data: DataOption = None,
    arch: ArchName = None,
    num_classes: NumClasses = None,
    image_size: ImageSize = None,
    network: Network = None,
    device: Device = "auto",
    seconds: Seconds = 1.5,
    no_latency: NoLatency = False,
    output: Output = None,
    force: Force = False,
    seed: PruneSeed = 0,
    as_json: AsJson = False,
) -> None:
    """Remove weights or whole channels, recover with training, and measure what that changed."""
    _run(Options(**locals()))  # the parameters, and nothing else yet


def _run(options: Options) -> None:
    from dlkit.cli.display import open_display

    if options.plan and options.scan:
        raise UsageError("--plan and --scan show different things; give one of them")
    request = options.to_request()
    with open_display(quiet=options.as_json, verbose=False, as_json=False) as display:
        if options.scan:
            _scan(options, request, display)
        elif options.plan:
            _plan(options, request, display)
        else:
            _prune(options, request, display)


def _open(options: Options, request: "PruneRequest", display: "Display", *, needs_data: bool) -> "OpenedModel":
    from dlkit.config import load_data_option
    from dlkit.core.opening import open_model
    from dlkit.prune import open_for_pruning

    loaded = load_data_option(options.data) if options.data else None
    file = open_model(
        options.model,
        arch=options.arch,
        num_classes=options.num_classes,
        image_size=options.image_size,
        data=loaded,
        model=options.network,
    )
    return open_for_pruning(
        file, data=loaded, needs_data=needs_data, model=options.network, device=options.device, emit=display.emit
    )


def _prune(options: Options, request: "PruneRequest", display: "Display") -> None:
    from dlkit.cli.display import prints_aside
    from dlkit.cli.show_prune import show_report
    from dlkit.prune import plan_paths, prune_model

    paths = plan_paths(options.model, options.output, may_replace=options.force)
    with prints_aside():
        opened = _open(options, request, display, needs_data=request.needs_data)
        made = prune_model(opened, request, paths, emit=display.emit)
    display.close()
    show_report(made, as_json=options.as_json)


def _plan(options: Options, request: "PruneRequest", display: "Display") -> None:
    from dlkit.cli.display import prints_aside
    from dlkit.cli.show_prune import show_mask_plan, show_shrink_plan
    from dlkit.prune import plan_mask_rows, plan_shrink_sizes

    with prints_aside():
        opened = _open(options, request, display, needs_data=request.needs_data)
    if request.is_shrunk:
        with prints_aside():
            sizes = plan_shrink_sizes(opened, request, emit=display.emit)
        show_shrink_plan(sizes, request, options.model, as_json=options.as_json)
    else:
        with prints_aside():
            rows = plan_mask_rows(opened, request)
        show_mask_plan(rows, request, options.model, as_json=options.as_json)


def _scan(options: Options, request: "PruneRequest", display: "Display") -> None:
    from dlkit.cli.display import prints_aside
    from dlkit.cli.show_prune import show_scan
    from dlkit.prune import plan_picture, save_scan_picture, scan_model

    path = plan_picture(options.model, options.output, may_replace=options.force)
    with prints_aside():
        opened = _open(options, request, display, needs_data=True)
        scan = scan_model(opened, request, emit=display.emit)
    save_scan_picture(path, scan, f"{options.model}: one part pruned at a time, {request.picked_method}")
    display.close()
    show_scan(scan, options.model, path, as_json=options.as_json)
