"""A comparison as the rows of a table and as sentences that say what it means."""

from collections.abc import Iterator, Sequence

from dlkit.core.benchmark import Ratio, SpeedRow, Speeds
from dlkit.core.evaluation.comparison import Comparison, Side
from dlkit.event_lines import metric_value
from dlkit.quantities import bytes_text

Row = tuple[str, str, str, str]
SPEED_COLUMNS = ("model", "engine", "ms", "p10-p90", "x base", "p10-p90", "x float", "samples/s")
SPEED_LEGEND = (
    "ms: median of one call; x base: how many times as fast as the baseline, from the ratios of single rounds; "
    "x float: as fast as the baseline model's best engine"
)
SLOWER, WORTH_HAVING = 0.95, 1.05
WORTH_SAYING = 1.2  # MACs that fell by so much more than latency need a word
WHY_NO_FASTER = (
    "layers that move much and compute little (norms, activations, small or depthwise convolutions) and each layer's fixed "
    "cost do not shrink with MACs; channel counts that are multiples of 8 or 16 run best"
)


def comparison_rows(comparison: Comparison) -> list[Row]:
    """(what, before, after, change) for metrics, agreement, sizes, parameters and MACs."""
    before, after = comparison.before, comparison.after
    rows = [_metric_row(name, before, after) for name in before.scores.metrics if name in after.scores.metrics]
    agreement = comparison.agreement
    shares = {"class": agreement.same_top1, "labels": agreement.same_labels, "pixels": agreement.same_pixels}
    rows += [(f"same {what}", "", f"{share:.2%}", "") for what, share in shares.items() if share is not None]
    if agreement.mean_absolute_difference is not None:
        rows.append(("mean difference", "", f"{agreement.mean_absolute_difference:.4g}", ""))
    return [*rows, *_cost_rows(before, after)]


def _metric_row(name: str, before: Side, after: Side) -> Row:
    old, new = before.scores.metrics[name], after.scores.metrics[name]
    old_text, new_text = metric_value(name, old), metric_value(name, new)
    change = f"{100 * (new - old):+.2f} points" if old_text.endswith("%") else f"{new - old:+.4f}"
    return name, old_text, new_text, change


def _cost_rows(before: Side, after: Side) -> Iterator[Row]:
    old, new = before.costs, after.costs
    if old.sizes and new.sizes:
        yield "file", bytes_text(old.sizes.bytes), bytes_text(new.sizes.bytes), _share(old.sizes.bytes, new.sizes.bytes)
        packed = old.sizes.gzip_bytes, new.sizes.gzip_bytes
        yield "file, gzip", bytes_text(packed[0]), bytes_text(packed[1]), _share(*packed)
    counts = (("parameters", old.num_parameters, new.num_parameters), ("MACs", old.macs, new.macs))
    for name, one, other in counts:
        if one is not None:
            yield name, f"{one:,}", "" if other is None else f"{other:,}", "" if other is None else _share(one, other)


def _share(before: int, after: int) -> str:
    return f"{after / before:.1%}" if before else ""


def speed_rows(speeds: Speeds, batch: int) -> list[tuple[str, ...]]:
    """Returns a row for every network and engine at a batch size; the columns are SPEED_COLUMNS, two of them text.

    Ratios are explained by SPEED_LEGEND; the spreads are the 10 % and 90 % points.
    """
    return [_speed_row(speeds, row) for row in speeds.rows if row.latency.batch == batch]


def _speed_row(speeds: Speeds, row: SpeedRow) -> tuple[str, ...]:
    latency, is_baseline = row.latency, (row.model, row.engine) == speeds.baseline
    return (
        row.model,
        row.engine,
        f"{latency.median_ms:.2f}",
        f"{latency.p10_ms:.2f}-{latency.p90_ms:.2f}",
        f"{row.to_baseline.median:.2f}",
        "" if is_baseline else f"{row.to_baseline.p10:.2f}-{row.to_baseline.p90:.2f}",
        f"{row.to_fastest_float.median:.2f}" if row.to_fastest_float else "",
        f"{latency.samples_per_s:,.0f}",
    )


def pruning_sentences(comparison: Comparison) -> list[str]:
    """Returns what became of the MACs that were saved: a sentence for each batch size, of the quickest engine of each network.

    Where latency fell by less, the last of these says why.
    """
    old, new = comparison.before.costs.macs, comparison.after.costs.macs
    if comparison.speeds is None or not old or not new:
        return []
    sentences: list[str] = []
    unmet = None
    for batch, fewer in ((batch, old / new) for batch in _batches(comparison.speeds)):
        before = comparison.speeds.fastest(comparison.before.name, batch)
        after = comparison.speeds.fastest(comparison.after.name, batch)
        if before is None or after is None or after.to_fastest_float is None:
            continue
        faster = after.to_fastest_float.median
        if fewer > WORTH_SAYING * max(faster, 1.0):
            unmet = len(sentences)
        said = _macs_and_latency(fewer, faster, is_met=unmet != len(sentences))
        sentences.append(f"batch {batch}: {said} ({after.engine} against {before.engine})")
    if unmet is not None:
        sentences[unmet] += f": {WHY_NO_FASTER}"
    return sentences


def _macs_and_latency(fewer: float, faster: float, *, is_met: bool) -> str:
    if is_met:
        return f"MACs fell {fewer:.1f}x, latency {faster:.1f}x"
    how = f"latency only {faster:.1f}x" if faster > SLOWER else f"it is slower, {faster:.2f} times as fast"
    return f"MACs fell {fewer:.1f}x but {how}"


def quantization_sentences(comparison: Comparison) -> list[str]:
    """Returns whether int8 pays, against eager and against the best float engine: a sentence for each batch size."""
    return int8_sentences(comparison.speeds, comparison.after.name) if comparison.speeds else []


def int8_sentences(speeds: Speeds, model: str) -> list[str]:
    """Returns the same of one int8 network among several; empty where the baseline is no float network."""
    sentences = []
    for batch in _batches(speeds):
        best = speeds.fastest(model, batch)
        if best is None or best.to_fastest_float is None:
            continue
        rival = f"the fastest float engine here, {speeds.fastest_float[batch]}"
        said = f"batch {batch}: int8 by {best.engine} is {_times(best.to_baseline)} as fast as float32 {speeds.baseline[1]}"
        sentences.append(f"{said}{_against(rival, best.to_fastest_float)}")
    return sentences


def _against(rival: str, ratio: Ratio) -> str:
    """Faster in nine rounds of ten and not by a hair, no faster, or lost in the noise."""
    if ratio.median <= WORTH_HAVING:
        return f", but no faster than {rival} ({_times(ratio)})"
    if ratio.p10 > 1.0:
        return f" and {_times(ratio)} as fast as {rival}"
    return f"; whether it beats {rival}, is lost in the noise: {ratio} times as fast. Measure on a quiet machine"


def _batches(speeds: Speeds) -> Sequence[int]:
    return speeds.batches


def _times(ratio: Ratio) -> str:
    return f"{ratio.median:.2f} times"
