"""Traces, their figures, markers and the text that shows them."""

import math

import pytest

from dlkit.schedules import Look, audit, build_schedule, draw_comparison, draw_trace, find_markers, follow, summarize


def trace(name, options=None, *, lr=0.1, metrics=None, **frame):
    frame = {"total_steps": 900, "steps_per_epoch": 10, **frame}
    return follow(build_schedule(name, options or {}, **frame), lr, metrics)


def test_figures_of_a_step_schedule():
    summary = summarize(trace("step", {"step_size": 45, "gamma": 0.001}))
    assert (summary.peak, summary.peak_step, summary.first) == (0.1, 0, 0.1)
    assert summary.last == pytest.approx(1e-4)
    assert summary.area == pytest.approx(450 * 0.1 + 450 * 1e-4)
    assert summary.mean == pytest.approx(summary.area / 900)
    assert summary.tiny_share == 0.5


def test_a_trace_is_what_the_schedule_gives():
    schedule = build_schedule("onecycle", {}, total_steps=90, steps_per_epoch=10, warmup_steps=7)
    followed = follow(schedule, 0.3)
    assert followed.lrs == [schedule.lr(step, 0.3) for step in range(90)]
    assert followed.momenta == [schedule.momentum(step) for step in range(90)]
    assert trace("cosine").momenta is None


def test_a_plateau_sees_each_metric_at_the_end_of_its_epoch():
    followed = trace("plateau", {"patience": 0}, metrics=[1.0, 1.0, 0.5, 0.5], total_steps=50)
    assert followed.falls == (20, 40)
    expected = [0.1] * 20 + [0.01] * 20 + [0.001] * 10
    assert followed.lrs == pytest.approx(expected)


def test_markers():
    marked = find_markers(trace("multistep", {"milestones": [30, 60, 60, 95]}, warmup_steps=50))
    assert [(marker.step, marker.label) for marker in marked] == [
        (50, "warm-up ends"),
        (300, "milestone"),
        (600, "milestone"),
    ]
    pieces = find_markers(
        trace("sequence", {"pieces": "linear 100 from 0.1; constant 200; cosine rest"}, warmup_steps=50)
    )
    assert [marker.step for marker in pieces] == [50, 150, 350]


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


def test_a_comparison_has_a_row_for_each():
    traces = [trace("cosine"), trace("constant"), trace("cosine", {"eta_min": 0.05})]
    lines = draw_comparison(traces, [[], [], []], Look(80))
    rows = [line.split() for line in lines if line.startswith((" a ", " b ", " c "))]
    assert [row[:2] for row in rows] == [["a", "cosine"], ["b", "constant"], ["c", "cosine"]]
    assert rows[1][2:] == ["0.1", "0", "0.1", "90", "0.1", "0.1", "0%"]
