"""Plots show every value: nothing between two columns gets lost, and every line fits the terminal."""

import math

import pytest

from dlkit.schedules import (
    Constant,
    Look,
    LrSchedule,
    Trace,
    audit,
    build_schedule,
    draw_comparison,
    draw_trace,
    follow,
)

AXIS = 10  # the column of the value axis


def trace(name, options=None, *, lr=0.1, metrics=None, **frame):
    frame = {"total_steps": 900, "steps_per_epoch": 10, **frame}
    return follow(build_schedule(name, options or {}, **frame), lr, metrics)


def plot(values, *, width=20, height=5, is_ascii=True, is_log=False):
    """The main plot of any values: the labels in front of the value axis, and the characters behind it."""
    made = Trace(LrSchedule("constant", Constant(), "step", len(values), 1), 1.0, values)
    lines = draw_trace(made, [], Look(AXIS + 2 + width, height, is_ascii=is_ascii, is_log=is_log))
    start = next(index for index, line in enumerate(lines) if line[AXIS : AXIS + 1] in ("|", "┤"))
    rows = lines[start : start + height]
    return [row[:AXIS].strip() for row in rows], [row[AXIS + 1 :] for row in rows]


def marks(values, **look):
    return plot(values, **look)[1]


def test_a_rising_line_in_ascii():
    assert marks([0, 1, 2, 3], width=4, height=4) == ["   *", "  *", " *", "*"]


def test_braille_dots_are_where_unicode_says():
    assert marks([0, 1, 2, 3, 3, 2, 1, 0], width=4, height=1, is_ascii=False) == ["⡠⠊⠑⢄"]


def test_few_values_are_held_over_their_columns():
    assert marks([0, 1], width=6, height=2) == ["   ***", "***"]


@pytest.mark.parametrize("is_ascii", [True, False])
@pytest.mark.parametrize("place", [0, 1, 499_999, 777_777, 999_999])
def test_a_spike_of_one_step_in_a_million_survives(place, is_ascii):
    values = [0.0] * 1_000_000
    values[place] = 1.0
    rows = marks(values, is_ascii=is_ascii)
    assert all(row.strip() for row in rows)
    assert len(rows[0]) - len(rows[0].lstrip()) == min(place * 20 // 1_000_000, 19)


def test_a_jump_leaves_no_gap():
    assert marks([0, 0, 4, 4], width=4, height=5) == ["  **", "  *", "  *", "  *", "**"]


def test_nan_leaves_a_gap_and_infinity_stays_on_the_border():
    assert marks([0.0, math.nan, 1.0, math.inf], width=4, height=2) == ["  **", "*"]


def test_a_log_axis_spaces_decades_evenly_and_draws_zero_on_the_border():
    values = [1e-4, 1e-3, 1e-2, 1e-1, 0.0]
    assert marks(values, width=5, height=4, is_log=True) == ["   *", "  * *", " *  *", "*   *"]
    assert plot(values, height=7, is_log=True)[0] == ["0.1", "", "", "0.00316", "", "", "1.0e-4"]


@pytest.mark.parametrize("values", [[0.0, 0.0], [0.1, 0.1], [-1.0, -1.0], [math.nan, math.nan]])
@pytest.mark.parametrize("is_log", [True, False])
def test_level_lines_have_an_axis(values, is_log):
    labels, _ = plot(values, is_log=is_log)
    assert labels[0] != labels[-1]


def test_axes_begin_at_zero_except_for_negative_values_metrics_and_momentum():
    assert plot([0.5, 1.0])[0][-1] == "0"
    assert plot([-0.5, 1.0])[0][-1] == "-0.5"
    lines = draw_trace(trace("onecycle"), [], Look())
    assert lines[lines.index(f"{'':{AXIS}}momentum") + 4].split()[0] == "0.85"


CASES = [
    ("cosine", {}, None),
    ("onecycle", {}, None),
    ("multistep", {"milestones": [*range(1, 80, 3), 95]}, None),
    ("cosine_restarts", {"T_0": 100, "T_mult": 2}, None),
    ("plateau", {"patience": 1}, [1.0, math.nan, -0.5] * 30),
    ("sequence", {"pieces": "linear 10% from 0; constant 30%; cosine rest to 0.01"}, None),
]


@pytest.mark.parametrize(("name", "options", "metrics"), CASES)
@pytest.mark.parametrize("width", [50, 80, 120])
@pytest.mark.parametrize("is_ascii", [False, True])
@pytest.mark.parametrize("is_log", [False, True])
def test_every_line_fits_the_width(name, options, metrics, width, is_ascii, is_log):
    followed = trace(name, options, metrics=metrics, warmup_steps=55)
    lines = draw_trace(followed, audit(followed), Look(width, 9, is_ascii=is_ascii, is_log=is_log))
    assert [line for line in lines if len(line) > width] == []
    assert not is_ascii or all(line.isascii() for line in lines)
    both = draw_comparison([followed, trace("cosine")], [audit(followed), []], Look(width, 9, is_ascii=is_ascii))
    assert width < 80 or [line for line in both if len(line) > width] == []


def test_the_text_says_what_matters():
    followed = trace("onecycle", warmup_steps=90)
    text = "\n".join(draw_trace(followed, audit(followed), Look(80)))
    assert "warm-up 90 + onecycle · 900 steps, 90 epochs" in text
    assert "peak 0.1 @ 332" in text
    assert "momentum" in text
    assert "last used 4.0e-7" in text
    assert "▲ warm-up ends at step 90" in text
    assert "cycle_momentum=false leaves it alone" in text
    assert "total_steps=810" in text


def test_the_marker_stands_below_its_step():
    followed = trace("constant", total_steps=100, steps_per_epoch=1, warmup_steps=50)
    lines = draw_trace(followed, [], Look(80, is_ascii=True))
    carets = next(line for line in lines if line.strip() == "^")
    labels = next(line for line in lines if line.startswith("     step"))
    assert abs(carets.index("^") - labels.index("50")) <= 1


def marked(name, options, **frame):
    """The remark that lists the markers of a schedule."""
    lines = draw_trace(trace(name, options, **frame), [], Look(120))
    return next((line.strip() for line in lines if line.startswith(" ▲ ")), None)


def test_markers_are_listed():
    milestones = marked("multistep", {"milestones": [30, 60, 60, 95]}, warmup_steps=50)
    assert milestones == "▲ warm-up ends at step 50 · milestone at step 300 600"
    pieces = {"pieces": "linear 100 from 0.1; constant 200; cosine rest"}
    assert marked("sequence", pieces, warmup_steps=50) == "▲ warm-up ends at step 50 · next piece at step 150 350"
    assert marked("plateau", {"patience": 0}, metrics=[1.0, 1.0]) == "▲ plateau at step 20"
    assert marked("cosine", {}) is None


def test_a_comparison_has_a_row_for_each():
    traces = [trace("cosine"), trace("constant"), trace("cosine", {"eta_min": 0.05})]
    lines = draw_comparison(traces, [[], [], []], Look(80))
    rows = [line.split() for line in lines if line.startswith((" a ", " b ", " c "))]
    assert [row[:2] for row in rows] == [["a", "cosine"], ["b", "constant"], ["c", "cosine"]]
    assert rows[1][2:] == ["0.1", "0", "0.1", "90", "0.1", "0.1", "0%"]
