"""The text of `lr-plot`: a plot, the figures below it, and the table of a comparison."""

from collections.abc import Iterable, Sequence

from dlkit.schedules.auditing import Finding
from dlkit.schedules.plot_axes import Look, axis_line, heading_line, label_line, plot_series, rate_text, wrapped
from dlkit.schedules.schedule_trace import Marker, Summary, Trace, find_markers, summarize

_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def draw_trace(trace: Trace, findings: Iterable[Finding], look: Look) -> list[str]:
    """Everything about one schedule: title, plot, momentum or metric below it, figures, findings."""
    summary, markers = summarize(trace), find_markers(trace)
    lines = _title(trace, summary, look.width)
    lines += plot_series([trace.lrs], look, rows=look.height, is_log=look.is_log)
    lines += _step_axis(trace, look.num_columns, markers)
    for label, values in (("momentum", trace.momenta), ("metric", trace.metrics)):
        if values:
            lines += [heading_line(label), *plot_series([values], look, rows=4, from_zero=False)]
    lines += wrapped(_figures(summary), look.width)
    lines += wrapped(trace.schedule.describe(), look.width)
    if markers:
        lines += wrapped(f"▲ {_markers_text(markers)}", look.width)
    lines += _finding_lines(findings, look.width)
    return look.encode(lines)


def draw_comparison(traces: Sequence[Trace], findings: Sequence[Iterable[Finding]], look: Look) -> list[str]:
    """Several schedules in one plot, each drawn with a letter, and a table of their figures."""
    letters = _LETTERS[: len(traces)]
    first = traces[0]
    lines = [f" lr-plot · {len(traces)} schedules · {_run_text(first)}"]
    lines += plot_series([trace.lrs for trace in traces], look, rows=look.height, is_log=look.is_log, letters=letters)
    lines += _step_axis(first, look.num_columns, [])
    lines += _comparison_table(letters, traces)
    for letter, trace, of_trace in zip(letters, traces, findings, strict=True):
        lines += _finding_lines(of_trace, look.width, prefix=f"{letter} {trace.name}: ")
    return look.encode(lines)


def _comparison_table(letters: str, traces: Sequence[Trace]) -> list[str]:
    """A row per schedule: peak, its step, mean, area, first, last used, share of steps under 1 % of the peak."""
    width = max(len(trace.name) for trace in traces) + 2
    rows = [f" {'':{width}}{'peak':>8}{'at':>7}{'mean':>8}{'area':>8}{'first':>8}{'last':>8}{'<1%':>6}"]
    for letter, trace in zip(letters, traces, strict=True):
        summary = summarize(trace)
        figures = "".join(
            f"{rate_text(value):>8}" for value in (summary.mean, summary.area, summary.first, summary.last)
        )
        peak = f"{rate_text(summary.peak):>8}{_steps_text(summary.peak_step):>7}"
        rows.append(f" {letter} {trace.name:{width - 2}}{peak}{figures}{summary.tiny_share:>6.0%}")
    return rows


def _finding_lines(findings: Iterable[Finding], width: int, *, prefix: str = "") -> list[str]:
    return [line for finding in findings for line in wrapped(f"⚠ {prefix}{finding.message}", width)]


def _title(trace: Trace, summary: Summary, width: int) -> list[str]:
    warmup = f"warm-up {trace.schedule.warmup_steps:,} + " if trace.schedule.warmup_steps else ""
    left = f" lr-plot · {warmup}{trace.name} · {_run_text(trace)}"
    right = f"peak {rate_text(summary.peak)} @ {summary.peak_step:,}"
    if len(left) + 2 + len(right) > width:
        return [*wrapped(left.strip(), width), f"{right:>{width}}"]
    return [f"{left}{right:>{width - len(left)}}"]


def _run_text(trace: Trace) -> str:
    schedule = trace.schedule
    steps = f"{schedule.total_steps:,} steps"
    if schedule.steps_per_epoch == 1:
        return steps
    epochs = schedule.total_steps / schedule.steps_per_epoch
    return f"{steps}, {epochs:.4g} epochs"


def _step_axis(trace: Trace, num_columns: int, markers: Sequence[Marker]) -> list[str]:
    """The line below the plot, markers, steps, and epochs unless an epoch is one step."""
    schedule = trace.schedule
    total = schedule.total_steps
    ticks = {round(share * (num_columns - 1)): round(share * (total - 1)) for share in (0.0, 0.25, 0.5, 0.75, 1.0)}
    lines = [axis_line(ticks, num_columns)]
    if markers:
        marked = {min(marker.step * num_columns // total, num_columns - 1) for marker in markers}
        lines.append(label_line("", dict.fromkeys(marked, "▲"), num_columns))
    lines.append(label_line("step", {column: _steps_text(step) for column, step in ticks.items()}, num_columns))
    if schedule.steps_per_epoch > 1:
        epochs = {column: f"{step / schedule.steps_per_epoch:.3g}" for column, step in ticks.items()}
        lines.append(label_line("epoch", epochs, num_columns))
    return lines


def _figures(summary: Summary) -> str:
    tiny = f"steps below 1 % of peak: {summary.tiny_share:.1%}"
    first, last, mean = (rate_text(value) for value in (summary.first, summary.last, summary.mean))
    return f"first {first} · last used {last} · mean {mean} · {tiny}"


def _markers_text(markers: Sequence[Marker]) -> str:
    """`warm-up ends at step 500 · milestone at step 30 60 80`."""
    grouped: dict[str, list[str]] = {}
    for marker in markers:
        grouped.setdefault(marker.label, []).append(f"{marker.step:,}")
    return " · ".join(
        f"{label} at step {' '.join(steps[:8])}{' …' if len(steps) > 8 else ''}" for label, steps in grouped.items()
    )


def _steps_text(count: int) -> str:
    """A number of steps in few characters: `999`, `35.2k`, `2.5M`."""
    if count < 10_000:
        return str(count)
    return f"{count / 1000:.3g}k" if count < 1_000_000 else f"{count / 1e6:.3g}M"
