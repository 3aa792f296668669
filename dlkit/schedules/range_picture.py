"""The text of `lr-find`: loss over log(lr) with a band, the suggestions below it, and the line to paste. Strings only."""

import math
from collections.abc import Sequence
from textwrap import wrap

from dlkit.schedules.canvas import Canvas, Scale
from dlkit.schedules.picture import GUTTER, Look, say
from dlkit.schedules.rate_range import RangeTest, Suggestion
from dlkit.schedules.sweep import DivergenceTest

DOTTED = 3  # every third column of dots belongs to the edge of the band


def draw_range_test(test: RangeTest, title: str, notes: Sequence[str], look: Look) -> list[str]:
    """Title, plot, suggestions, where the loss breaks, notes, and the config line of the recommended rate."""
    lines = _wrapped(title, look.width)
    if test.band:
        lines += [*_plot(test, look), *_axis(test, look.width)]
    lines += _suggestion_lines(test)
    lines += _wrapped(_ending(test), look.width)
    for note in notes:
        lines += _wrapped(f"⚠ {note}", look.width)
    best = test.recommended
    if best is not None:
        doubt = "" if best.is_reliable else "   (unreliable)"
        lines += ["", f" take {best.name}:  {config_line(best)}{doubt}"]
    return [look.plain(line) for line in lines]


def config_line(suggestion: Suggestion) -> str:
    """The override to paste, of two digits.

    >>> config_line(Suggestion("steepest", 0.0032741, (0.0032741,), is_reliable=True))
    'optimizer.lr=0.0033'
    """
    return f"optimizer.lr={suggestion.lr:.2g}"


def _plot(test: RangeTest, look: Look) -> list[str]:
    canvas = Canvas(look.width - GUTTER - 3, look.height, is_ascii=look.is_ascii)
    scale = _loss_scale(test)
    if len(test.judged) > 1:
        for edge in (0, 2):
            canvas.draw(_dotted([row[edge] for row in test.band], canvas.num_columns), scale, letter=".")
    canvas.draw([row[1] for row in test.band], scale)
    middle = look.height // 2
    ticks = {0: scale.high, look.height - 1: scale.low}
    if look.height >= 7:
        ticks[middle] = scale.value(1 - middle / (look.height - 1))
    labels = {row: say(value) for row, value in ticks.items()}
    return [f"{labels.get(row, ''):>{GUTTER}} ┤{line}" for row, line in enumerate(canvas.lines())]


def _loss_scale(test: RangeTest) -> Scale:
    """From the lowest loss up to where the sweeps began, or where they count as diverged: the last steps go off the scale."""
    divergence = DivergenceTest(test.plan.threshold)
    for _, mean, _ in test.band:
        divergence.is_over(mean)
    low = min(row[0] for row in test.band)
    top = max(row[2] for row in test.band)
    high = min(top, max(divergence.limit, test.band[0][2]))
    return Scale(low, high if high > low else low + (abs(low) or 1.0))


def _dotted(values: Sequence[float], num_columns: int) -> list[float]:
    return [
        values[column * len(values) // num_columns] if column % DOTTED == 0 else math.nan
        for column in range(num_columns)
    ]


def _axis(test: RangeTest, width: int) -> list[str]:
    """The line below the plot, a letter for every suggestion, and the decades."""
    columns = width - GUTTER - 3
    scale = Scale(test.plan.lo, test.plan.lrs[max(len(test.band) - 1, 1)], is_log=True)

    def column(lr: float) -> int:
        return round(scale.share(lr) * (columns - 1))

    decades = [exponent for exponent in range(-30, 31) if scale.low * 0.999 <= 10.0**exponent <= scale.high * 1.001]
    places = {column(10.0**exponent): f"1e{exponent}" for exponent in decades}
    if len(places) < 2:
        places = {0: say(scale.low), columns - 1: say(scale.high)}
    line = "".join("┬" if place in places else "─" for place in range(columns))
    marks, labels = [" "] * columns, [" "] * columns
    for suggestion in reversed(test.suggestions):  # the preferred one on top
        marks[column(suggestion.lr)] = _letter(suggestion)
    for place, label in places.items():
        start = min(max(place - len(label) // 2, 0), columns - len(label))
        labels[start : start + len(label)] = label
    rows = [f"{'':{GUTTER}} └{line}", f"{'':{GUTTER + 2}}{''.join(marks)}", f"{'lr':>{GUTTER}}  {''.join(labels)}"]
    return [row.rstrip() for row in rows]


def _letter(suggestion: Suggestion) -> str:
    return suggestion.name[0].upper()


def _suggestion_lines(test: RangeTest) -> list[str]:
    return [
        f" {_letter(each)} {each.name:10}  {say(each.lr):>7}{_band_words(each)}{'' if each.is_reliable else '  unreliable'}"
        for each in test.suggestions
    ]


def _band_words(suggestion: Suggestion) -> str:
    if len(suggestion.repeats) < 2:
        return ""
    return f"   {say(min(suggestion.repeats))} to {say(max(suggestion.repeats))}"


def _ending(test: RangeTest) -> str:
    if not test.band:
        return "the very first loss was not finite" if test.judged else "stopped before the first step"
    lowest = min(row[1] for row in test.band)
    words = [f"loss {say(test.band[0][1])} at first, {say(lowest)} at its lowest"]
    if test.rises_from is not None:
        words.append(f"rises for good from lr {say(test.rises_from)}")
    ends = sorted({(sweep.ended_at, sweep.ended) for sweep in test.judged if sweep.ended != "finished"})
    if ends:
        words.append(f"ended at {' '.join(dict.fromkeys(say(lr) for lr, _ in ends))} ({_reasons(ends)})")
    return " · ".join(words)


def _reasons(ends: Sequence[tuple[float, str]]) -> str:
    words = {"diverged": "diverged", "not_finite": "loss not finite", "interrupted": "interrupted"}
    return ", ".join(dict.fromkeys(words[how] for _, how in ends))


def _wrapped(text: str, width: int) -> list[str]:
    return wrap(text, width, initial_indent=" ", subsequent_indent="   ")
