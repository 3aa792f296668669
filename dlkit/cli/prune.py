"""`dlkit prune`: masks that set weights to zero, or a network that is really smaller, and the proof of what that changed."""

from typing import TYPE_CHECKING

from dlkit.cli import prune_options as o
from dlkit.cli.options import ArchName, DataOption, Device, ImageSize, ModelFile, Network, NumClasses
from dlkit.errors import UsageError

if TYPE_CHECKING:
    from dlkit.cli.display import Display
    from dlkit.prune.request import Request
    from dlkit.prune.subject import Subject

EPILOG = """Writes MODEL.pruned.pt and MODEL.pruned.report.json beside the model, or nothing at all."""


def prune(
    model: ModelFile,
    amount: o.AmountText = None,
    count: o.CountNumber = None,
    target: o.Target = None,
    method: o.Method = None,
    scope: o.Scope = o.ScopeChoice.layer,
    structured: o.Structured = False,
    n: o.Norm = None,
    dim: o.Dim = None,
    shrink: o.Shrink = False,
    round_to: o.RoundTo = None,
    min_keep: o.MinKeep = None,
    iterations: o.Iterations = 1,
    schedule: o.Schedule = o.ScheduleChoice.agp,
    finetune: o.Finetune = None,
    lr: o.Lr = None,
    bn_recal: o.Recal = None,
    rewind: o.Rewind = None,
    skip: o.Skip = None,
    plan: o.Plan = False,
    scan: o.ScanFlag = False,
    data: DataOption = None,
    arch: ArchName = None,
    num_classes: NumClasses = None,
    image_size: ImageSize = None,
    network: Network = None,
    device: Device = "auto",
    seconds: o.Seconds = 1.5,
    no_latency: o.NoLatency = False,
    output: o.Output = None,
    force: o.Force = False,
    seed: o.PruneSeed = 0,
    as_json: o.AsJson = False,
) -> None:
    """Remove weights or whole channels, recover with training, and measure what that changed."""
    _run(o.Options(**locals()))  # the parameters, and nothing else yet


def _run(options: o.Options) -> None:
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


def _open(options: o.Options, request: "Request", display: "Display", *, needed_for: str | None) -> "Subject":
    from dlkit.config import load_data_option
    from dlkit.core.opening import open_model
    from dlkit.prune.subject import open_subject

    loaded = load_data_option(options.data) if options.data else None
    file = open_model(
        options.model,
        arch=options.arch,
        num_classes=options.num_classes,
        image_size=options.image_size,
        data=loaded,
        model=options.network,
    )
    return open_subject(
        file, data=loaded, needed_for=needed_for, model=options.network, device=options.device, report=display.report
    )


def _prune(options: o.Options, request: "Request", display: "Display") -> None:
    from dlkit.cli.show_prune import show_report
    from dlkit.prune.artifact import plan_paths
    from dlkit.prune.run import prune_model

    paths = plan_paths(options.model, options.output, may_replace=options.force)
    subject = _open(options, request, display, needed_for=request.needs_data_for)
    made = prune_model(subject, request, paths, report=display.report)
    display.close()
    show_report(made, as_json=options.as_json)


def _plan(options: o.Options, request: "Request", display: "Display") -> None:
    from dlkit.cli.show_prune import show_mask_plan, show_shrink_plan
    from dlkit.prune.planning import plan_mask_rows, plan_shrink_sizes

    subject = _open(options, request, display, needed_for=request.needs_data_for)
    if request.is_shrunk:
        sizes = plan_shrink_sizes(subject, request, report=display.report)
        show_shrink_plan(sizes, request, options.model, as_json=options.as_json)
    else:
        rows = plan_mask_rows(subject, request)
        show_mask_plan(rows, request, options.model, as_json=options.as_json)


def _scan(options: o.Options, request: "Request", display: "Display") -> None:
    from dlkit.cli.show_prune import show_scan
    from dlkit.prune.artifact import plan_picture
    from dlkit.prune.picture import save_scan_picture
    from dlkit.prune.run import scan_model

    path = plan_picture(options.model, options.output, may_replace=options.force)
    subject = _open(options, request, display, needed_for="--scan")
    scan = scan_model(subject, request, report=display.report)
    save_scan_picture(path, scan, f"{options.model}: one part pruned at a time, {request.picked_method}")
    display.close()
    show_scan(scan, options.model, path, as_json=options.as_json)
