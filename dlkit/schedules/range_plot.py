"""The text of `lr-find`: loss over log(lr) with a band, the suggestions below it, and the override to paste."""

import math
from collections.abc import Sequence

from dlkit.schedules.canvas import Canvas, Scale
from dlkit.schedules.plot_axes import Look, axis_line, label_line, plot_lines, rate_text, wrapped
from dlkit.schedules.rate_range import RangeTest, Suggestion
from dlkit.schedules.sweep import DivergenceTest

_DOT_SPACING = 3  # the edges of the band are dotted: every third column of dots


def draw_range_test(test: RangeTest, title: str, notes: Sequence[str], look: Look) -> list[str]:
    """Title, plot, suggestions, where the loss rises, notes, and the override for the recommended rate."""
    lines = wrapped(title, look.width)
    if test.band:
        lines += [*_plot(test, look), *_rate_axis(test, look.num_columns)]
    lines += _suggestion_lines(test)
    lines += wrapped(_ending_text(test), look.width)
    for note in notes:
        lines += wrapped(f"⚠ {note}", look.width)
    best = test.recommended
    if best is not None:
        doubt = "" if best.is_reliable else "   (unreliable)"
        lines += ["", f" take {best.name}:  {override_text(best)}{doubt}"]
    return look.encode(lines)


def override_text(suggestion: Suggestion) -> str:
    """The override to paste, with two digits.

    >>> override_text(Suggestion("steepest", 0.0032741, (0.0032741,), is_reliable=True))
    'optimizer.lr=0.0033'
    """
    return f"optimizer.lr={suggestion.lr:.2g}"


def _plot(test: RangeTest, look: Look) -> list[str]:
    canvas = Canvas(look.num_columns, look.height, is_ascii=look.is_ascii)
    scale = _loss_scale(test)
    if len(test.judged) > 1:
        for edge in (0, 2):
            canvas.draw(_dotted([row[edge] for row in test.band], canvas.num_columns), scale, letter=".")
    canvas.draw([row[1] for row in test.band], scale)
    return plot_lines(canvas, scale)


def _loss_scale(test: RangeTest) -> Scale:
    """From the lowest loss to the first, or to where a sweep counts as diverged: the last steps go off the scale."""
    divergence = DivergenceTest(test.plan.threshold)
    for _, mean, _ in test.band:
        divergence.is_over(mean)
    low = min(row[0] for row in test.band)
    top = max(row[2] for row in test.band)
    high = min(top, max(divergence.limit, test.band[0][2]))
    return Scale(low, high if high > low else low + (abs(low) or 1.0))


def _dotted(values: Sequence[float], num_columns: int) -> list[float]:
    return [
        values[column * len(values) // num_columns] if column % _DOT_SPACING == 0 else math.nan
        for column in range(num_columns)
    ]


def _rate_axis(test: RangeTest, num_columns: int) -> list[str]:
    """The line below the plot, a letter for every suggestion, and the decades."""
    scale = Scale(test.plan.lo, test.plan.lrs[max(len(test.band) - 1, 1)], is_log=True)

    def column(lr: float) -> int:
        return round(scale.share(lr) * (num_columns - 1))

    decades = [exponent for exponent in range(-30, 31) if scale.low * 0.999 <= 10.0**exponent <= scale.high * 1.001]
    labels = {column(10.0**exponent): f"1e{exponent}" for exponent in decades}
    if len(labels) < 2:
        labels = {0: rate_text(scale.low), num_columns - 1: rate_text(scale.high)}
    letters = {column(each.lr): _letter(each) for each in reversed(test.suggestions)}  # the preferred one is drawn last
    return [axis_line(labels, num_columns), label_line("", letters, num_columns), label_line("lr", labels, num_columns)]


def _letter(suggestion: Suggestion) -> str:
    return suggestion.name[0].upper()


def _suggestion_lines(test: RangeTest) -> list[str]:
    return [
        f" {_letter(each)} {each.name:10}  {rate_text(each.lr):>7}{_band_text(each)}{'' if each.is_reliable else '  unreliable'}"
        for each in test.suggestions
    ]


def _band_text(suggestion: Suggestion) -> str:
    if len(suggestion.repeats) < 2:
        return ""
    return f"   {rate_text(min(suggestion.repeats))} to {rate_text(max(suggestion.repeats))}"


def _ending_text(test: RangeTest) -> str:
    if not test.band:
        return "the very first loss was not finite" if test.judged else "stopped before the first step"
    lowest = min(row[1] for row in test.band)
    words = [f"loss {rate_text(test.band[0][1])} at first, {rate_text(lowest)} at its lowest"]
    if test.rises_from is not None:
        words.append(f"rises for good from lr {rate_text(test.rises_from)}")
    ends = sorted({(sweep.ended_at, sweep.ended) for sweep in test.judged if sweep.ended != "finished"})
    if ends:
        words.append(f"ended at {' '.join(dict.fromkeys(rate_text(lr) for lr, _ in ends))} ({_reasons(ends)})")
    return " · ".join(words)


def _reasons(ends: Sequence[tuple[float, str]]) -> str:
    words = {"diverged": "diverged", "not_finite": "loss not finite", "interrupted": "interrupted"}
    return ", ".join(dict.fromkeys(words[how] for _, how in ends))
