"""The text of `lr-plot`: a plot with its axes, the figures below it, and the table of a comparison. Strings only."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dlkit.schedules.audit import Finding
from dlkit.schedules.canvas import Canvas, Scale, fit_scale
from dlkit.schedules.trace import Marker, Summary, Trace, find_markers, summarize

GUTTER = 9  # characters in front of the axis
PLAIN = {"·": "-", "┤": "|", "└": "+", "┬": "+", "─": "-", "▲": "^", "⚠": "!", "…": "..."}
LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Look:
    """How to draw: characters across, rows of the main plot, plain ASCII, logarithmic rates."""

    width: int = 80
    height: int = 12
    is_ascii: bool = False
    is_log: bool = False

    def plain(self, text: str) -> str:
        """The text, in ASCII if that is asked for."""
        if not self.is_ascii:
            return text
        for symbol, letter in PLAIN.items():
            text = text.replace(symbol, letter)
        return text.encode("ascii", "replace").decode()


def draw_trace(trace: Trace, findings: Iterable[Finding], look: Look) -> list[str]:
    """Everything about one schedule: title, plot, momentum or metric below it, figures, remarks."""
    summary = summarize(trace)
    lines = _title(trace, summary, look.width)
    lines += _plot([trace.lrs], look, rows=look.height, is_log=look.is_log)
    markers = find_markers(trace)
    lines += _step_axis(trace, look.width, markers)
    for label, values in (("momentum", trace.momenta), ("metric", trace.metrics)):
        if values:
            lines += [f"{'':{GUTTER}} {label}", *_plot([values], look, rows=4, from_zero=False)]
    lines += _wrapped(_figures(summary), look.width, hang=3)
    lines += _wrapped(trace.schedule.describe(), look.width, hang=3)
    if markers:
        lines += _wrapped(f"▲ {_marker_words(markers)}", look.width, hang=3)
    lines += draw_findings(findings, look.width)
    return [look.plain(line) for line in lines]


def draw_comparison(traces: Sequence[Trace], findings: Sequence[Iterable[Finding]], look: Look) -> list[str]:
    """Several schedules on one plot, letters for lines, and a table of their figures."""
    letters = LETTERS[: len(traces)]
    first = traces[0]
    lines = [f" lr-plot · {len(traces)} schedules · {_run_words(first)}"]
    lines += _plot([trace.lrs for trace in traces], look, rows=look.height, is_log=look.is_log, letters=letters)
    lines += _step_axis(first, look.width, [])
    lines += compare_table([(letter, trace) for letter, trace in zip(letters, traces, strict=True)])
    for letter, trace, remarks in zip(letters, traces, findings, strict=True):
        lines += draw_findings(remarks, look.width, prefix=f"{letter} {trace.name}: ")
    return [look.plain(line) for line in lines]


def compare_table(traces: Sequence[tuple[str, Trace]]) -> list[str]:
    """One row per schedule: peak, where it is, mean, area, first, last used, share of steps under 1 % of the peak."""
    width = max(len(trace.name) for _, trace in traces) + 2
    rows = [f" {'':{width}}{'peak':>8}{'at':>7}{'mean':>8}{'area':>8}{'first':>8}{'last':>8}{'<1%':>6}"]
    for letter, trace in traces:
        summary = summarize(trace)
        figures = "".join(f"{say(value):>8}" for value in (summary.mean, summary.area, summary.first, summary.last))
        name = f" {letter} {trace.name:{width - 2}}"
        rows.append(f"{name}{say(summary.peak):>8}{say_count(summary.peak_step):>7}{figures}{summary.tiny_share:>6.0%}")
    return rows


def draw_findings(findings: Iterable[Finding], width: int, *, prefix: str = "") -> list[str]:
    """Remarks, wrapped."""
    return [line for finding in findings for line in _wrapped(f"⚠ {prefix}{finding.message}", width, hang=3)]


def _title(trace: Trace, summary: Summary, width: int) -> list[str]:
    warmup = f"warm-up {trace.schedule.warmup_steps:,} + " if trace.schedule.warmup_steps else ""
    left = f" lr-plot · {warmup}{trace.name} · {_run_words(trace)}"
    right = f"peak {say(summary.peak)} @ {summary.peak_step:,}"
    if len(left) + 2 + len(right) > width:
        return [*_wrapped(left.strip(), width, hang=3), f"{right:>{width}}"]
    return [f"{left}{right:>{width - len(left)}}"]


def _run_words(trace: Trace) -> str:
    schedule = trace.schedule
    steps = f"{schedule.total_steps:,} steps"
    if schedule.steps_per_epoch == 1:
        return steps
    epochs = schedule.total_steps / schedule.steps_per_epoch
    return f"{steps}, {epochs:.4g} epochs"


def _plot(
    series: Sequence[Sequence[float]],
    look: Look,
    *,
    rows: int,
    is_log: bool = False,
    from_zero: bool = True,
    letters: str = "*",
) -> list[str]:
    scale = fit_scale(series, is_log=is_log, from_zero=from_zero)
    canvas = Canvas(look.width - GUTTER - 3, rows, is_ascii=look.is_ascii or len(series) > 1)
    for values, letter in zip(series, letters, strict=True):
        canvas.draw(values, scale, letter=letter)
    ticks = _value_ticks(scale, rows)
    return [f"{ticks.get(row, ''):>{GUTTER}} ┤{line}" for row, line in enumerate(canvas.lines())]


def _value_ticks(scale: Scale, rows: int) -> dict[int, str]:
    """Labels by row: the top, the bottom, and the middle of a tall plot."""
    shown = {0: 1.0, rows - 1: 0.0}
    if rows >= 7:
        shown[rows // 2] = 1 - (rows // 2) / (rows - 1)
    return {row: say(scale.value(share)) for row, share in shown.items()}


def _step_axis(trace: Trace, width: int, markers: Sequence[Marker]) -> list[str]:
    """The line below the plot, markers, steps, and epochs where they differ from steps."""
    schedule = trace.schedule
    columns = width - GUTTER - 3
    total = schedule.total_steps
    places = {round(share * (columns - 1)): round(share * (total - 1)) for share in (0.0, 0.25, 0.5, 0.75, 1.0)}
    line = "".join("┬" if column in places else "─" for column in range(columns))
    lines = [f"{'':{GUTTER}} └{line}"]
    if markers:
        marked = {min(marker.step * columns // total, columns - 1) for marker in markers}
        lines.append(
            " " * (GUTTER + 2) + "".join("▲" if column in marked else " " for column in range(columns)).rstrip()
        )
    lines.append(_labels("step", {column: say_count(step) for column, step in places.items()}, columns))
    if schedule.steps_per_epoch > 1:
        epochs = {column: f"{step / schedule.steps_per_epoch:.3g}" for column, step in places.items()}
        lines.append(_labels("epoch", epochs, columns))
    return lines


def _labels(name: str, labels: dict[int, str], columns: int) -> str:
    """Labels centred below their columns, kept inside."""
    text = [" "] * columns
    for column, label in labels.items():
        start = min(max(column - len(label) // 2, 0), columns - len(label))
        text[start : start + len(label)] = label
    return f"{name:>{GUTTER}}  {''.join(text)}".rstrip()


def _figures(summary: Summary) -> str:
    tiny = f"steps below 1 % of peak: {summary.tiny_share:.1%}"
    return f"first {say(summary.first)} · last used {say(summary.last)} · mean {say(summary.mean)} · {tiny}"


def _marker_words(markers: Sequence[Marker]) -> str:
    """`warm-up ends 500 · milestone 30, 60, 80`."""
    grouped: dict[str, list[str]] = {}
    for marker in markers:
        grouped.setdefault(marker.label, []).append(f"{marker.step:,}")
    return " · ".join(
        f"{label} at step {' '.join(steps[:8])}{' …' if len(steps) > 8 else ''}" for label, steps in grouped.items()
    )


def _wrapped(text: str, width: int, *, hang: int) -> list[str]:
    from textwrap import wrap

    return wrap(text, width, initial_indent=" ", subsequent_indent=" " * hang)


def say(value: float) -> str:
    """A rate in few characters: `0.1`, `3.0e-4`, `0`.

    >>> say(0.1), say(3e-4), say(0.0123), say(0)
    ('0.1', '3.0e-4', '0.0123', '0')
    """
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    if 1e-3 <= abs(value) < 1e5:
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    digits, exponent = f"{value:.1e}".split("e")
    return f"{digits}e{int(exponent)}"


def say_count(count: int) -> str:
    """A count in few characters.

    >>> say_count(999), say_count(35190), say_count(2_500_000)
    ('999', '35.2k', '2.5M')
    """
    if count < 10_000:
        return str(count)
    return f"{count / 1000:.3g}k" if count < 1_000_000 else f"{count / 1e6:.3g}M"
