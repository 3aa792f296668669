"""Traces have the values of their schedule, and their figures."""

import pytest

from dlkit.schedules import build_schedule, follow, traces_as_json


def trace(name, options=None, metrics=None, *, total_steps=900):
    schedule = build_schedule(name, options or {}, total_steps=total_steps, steps_per_epoch=10)
    return follow(schedule, 0.1, metrics)


def test_figures_of_a_step_schedule():
    step = trace("step", {"step_size": 45, "gamma": 0.001})
    summary = traces_as_json([step], [[]])["schedules"][0]["summary"]
    assert (summary["peak"], summary["peak_step"], summary["first"]) == (0.1, 0, 0.1)
    assert summary["last"] == pytest.approx(1e-4)
    assert summary["area"] == pytest.approx(450 * 0.1 + 450 * 1e-4)
    assert summary["mean"] == pytest.approx(summary["area"] / 900)
    assert summary["tiny_share"] == 0.5


def test_a_trace_is_what_the_schedule_gives():
    schedule = build_schedule("onecycle", {}, total_steps=90, steps_per_epoch=10, warmup_steps=7)
    followed = follow(schedule, 0.3)
    assert followed.lrs == [schedule.lr(step, 0.3) for step in range(90)]
    assert followed.momenta == [schedule.momentum(step) for step in range(90)]
    assert trace("cosine").momenta is None


def test_a_plateau_sees_each_metric_at_the_end_of_its_epoch():
    followed = trace("plateau", {"patience": 0}, [1.0, 1.0, 0.5, 0.5], total_steps=50)
    assert followed.falls == (20, 40)
    assert followed.lrs == pytest.approx([0.1] * 20 + [0.01] * 20 + [0.001] * 10)
