"""How `dlkit prune` looks: the plan, the scan, and the report of a finished run."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from dlkit.cli.console import show_lines, show_table
from dlkit.shapes import size_text

if TYPE_CHECKING:
    from dlkit.prune import GroupRow, LayerSparsity, PlannedLayer, PruneReport, PruneRequest, Scan, ShrinkSizes

SCHEMA = "dlkit.prune/1"
BLOCKS = "▁▂▃▄▅▆▇█"


def _echo(facts: dict[str, Any]) -> None:
    from dlkit.files import to_json

    typer.echo(to_json(facts))


def show_report(made: "PruneReport", *, as_json: bool) -> None:
    """A finished run: layers, before and after, latency, and what to make of it."""
    if as_json:
        _echo(made.to_dict())
        return
    from dlkit.core.evaluation import comparison_rows

    show_lines([f"dlkit prune · {made.model} · {_words(made.request)}", ""])
    if made.layers:
        _show_layers(made.layers)
    if made.groups:
        _show_groups(made.groups)
    split = made.comparison.after.scores
    title = f"on {split.num_samples:,} {split.split} samples" if split.num_samples else None
    show_table(("", "before", "after", "change"), [*comparison_rows(made.comparison), *_speed_rows(made)], title=title)
    if made.sentences:
        show_lines(["", *(f"- {sentence}" for sentence in made.sentences)])
    checks = ["its file gives the same outputs bit for bit, read with weights_only=True"]
    if made.max_delta is not None:
        checks.append(
            f"before recovery its outputs differed by at most {made.max_delta:.2g} from the full network with the same channels "
            "set to zero"
        )
    show_lines(["", f"model {made.output}", *checks])


def _words(request: "PruneRequest") -> str:
    from dlkit.prune import describe_request

    return describe_request(request)


def _show_layers(layers: Sequence["LayerSparsity"]) -> None:
    from dlkit.prune import total_sparsity

    rows = [
        (
            layer.name,
            layer.kind,
            size_text(layer.shape),
            f"{layer.num_zero:,} of {layer.num_weights:,}",
            f"{layer.share:.1%}",
            f"{layer.num_zero_channels} of {layer.shape[0]}",
        )
        for layer in layers
    ]
    zeros, total = sum(layer.num_zero for layer in layers), sum(layer.num_weights for layer in layers)
    rows.append(("all", "", "", f"{zeros:,} of {total:,}", f"{total_sparsity(layers):.1%}", ""))
    show_table(("layer", "kind", "shape", "zero", "sparsity", "empty channels"), rows, left=3)
    show_lines([""])


def _show_groups(groups: Sequence["GroupRow"]) -> None:
    rows = [
        (
            group.id,
            group.role,
            _layers_word(group.layers),
            f"{group.num_channels} -> {group.num_kept}"
            if group.num_kept < group.num_channels
            else f"{group.num_channels}",
            f"{group.num_kept / group.num_channels:.1%}",
            group.kind,
            group.note,
        )
        for group in groups
    ]
    show_table(("group", "role", "layers", "channels", "kept", "kind", "note"), rows, left=7)
    show_lines([""])


def _layers_word(layers: Sequence[str]) -> str:
    return layers[0] if len(layers) == 1 else f"{layers[0]} and {len(layers) - 1} more"


def _speed_rows(made: "PruneReport") -> list[tuple[str, str, str, str]]:
    speeds = made.comparison.speeds
    rows = []
    for batch in speeds.batches if speeds else ():
        before, after = (speeds.row(name, "eager", batch) for name in ("before", "after")) if speeds else (None, None)
        if before and after:
            old, new = (f"{row.latency.median_ms:.2f} ms" for row in (before, after))
            rows.append((f"latency, batch {batch}", old, new, str(after.to_baseline)))
    return rows


def show_mask_plan(rows: Sequence["PlannedLayer"], request: "PruneRequest", model: Path, *, as_json: bool) -> None:
    """What masks would do."""
    if as_json:
        layers = [asdict(row) | {"shape": list(row.shape)} for row in rows]
        _echo({"schema": SCHEMA, "kind": "plan", "model": str(model), "layers": layers})
        return
    show_lines([f"dlkit prune · {model} · {_words(request)} · plan", ""])
    cells = [
        (
            row.name,
            row.kind,
            size_text(row.shape),
            f"{row.num_weights:,}",
            row.note or f"{row.num_removed:,}",
            "" if row.note else f"{row.num_removed / row.num_weights:.1%}",
        )
        for row in rows
    ]
    removed, total = sum(row.num_removed for row in rows), sum(row.num_weights for row in rows)
    cells.append(("all", "", "", f"{total:,}", f"{removed:,}", f"{removed / total:.1%}"))
    show_table(("layer", "kind", "shape", "weights", "set to zero", "share"), cells, left=3)
    show_lines(["", *_plan_end(request)])


def show_shrink_plan(sizes: "ShrinkSizes", request: "PruneRequest", model: Path, *, as_json: bool) -> None:
    """What shrinking would do."""
    if as_json:
        _echo({"schema": SCHEMA, "kind": "plan", "model": str(model), **asdict(sizes)})
        return
    show_lines([f"dlkit prune · {model} · {_words(request)} · plan", ""])
    _show_groups(sizes.groups)
    rows = [
        (name, f"{before:,}", f"{after:,}", f"{after / before:.1%}")
        for name, (before, after) in (("parameters", sizes.num_parameters), ("MACs", sizes.macs))
        if before and after
    ]
    show_table(("", "before", "after", "change"), rows)
    show_lines(["", *_plan_end(request)])


def _plan_end(request: "PruneRequest") -> list[str]:
    """Without an amount the plan lists what there is; then how to see what would go."""
    has_amount = request.amount is not None or request.target is not None
    hint = "" if has_amount else " Say how much, for example --amount 50%, to see what would be removed."
    return [f"Nothing was written.{hint}"]


def show_scan(scan: "Scan", model: Path, picture: Path, *, as_json: bool) -> None:
    """The loss with one part pruned at a time, by ratio, the most sensitive parts last."""
    if as_json:
        _echo({"schema": SCHEMA, "kind": "scan", "model": str(model), "picture": str(picture), **asdict(scan)})
        return
    show_lines([f"dlkit prune · {model} · loss on {scan.num_samples:,} samples with one part pruned at a time", ""])
    highest = max(max(part.losses) for part in scan.parts)
    rows = [
        (
            part.name,
            _blocks(part.losses, scan.loss, highest),
            f"{part.size:,}",
            *(f"{loss:.4f}" for loss in part.losses),
        )
        for part in scan.parts
    ]
    rows.append(("nothing pruned", "", "", f"{scan.loss:.4f}", *("" for _ in scan.ratios[1:])))
    show_table(("part", "", "size", *(f"{ratio:.0%}" for ratio in scan.ratios)), rows, left=2)
    show_lines(["", f"picture {picture}"])


def _blocks(losses: Sequence[float], lowest: float, highest: float) -> str:
    """The losses as a row of blocks, on a logarithmic scale that all parts share."""
    import math

    low, high = math.log(max(lowest, 1e-9)), math.log(max(highest, 1e-9))
    heights = [(math.log(max(loss, 1e-9)) - low) / max(high - low, 1e-9) for loss in losses]
    return "".join(BLOCKS[round(min(max(height, 0.0), 1.0) * (len(BLOCKS) - 1))] for height in heights)
