"""What the audit says, and that it is silent about schedules that are fine."""

import re

import pytest

from dlkit.schedules import audit, build_schedule, follow


def findings(name, options=None, *, lr=0.1, metrics=None, **frame):
    frame = {"total_steps": 3000, "steps_per_epoch": 100, **frame}
    return audit(follow(build_schedule(name, options or {}, **frame), lr, metrics))


def codes(*args, **kwargs):
    return [finding.code for finding in findings(*args, **kwargs)]


@pytest.mark.parametrize(
    ("name", "options", "frame"),
    [
        ("constant", {}, {}),
        ("cosine", {}, {}),
        ("cosine", {"eta_min": 1e-5}, {"warmup_steps": 300}),
        ("cosine", {}, {"unit": "epoch", "total_steps": 20000}),
        ("step", {"step_size": 10}, {}),
        ("step", {"step_size": 1000}, {"unit": "step"}),
        ("multistep", {"milestones": [15, 25]}, {"warmup_steps": 200}),
        ("exponential", {"gamma": 0.9}, {}),
        ("linear", {}, {}),
        ("linear", {"total_iters": 500}, {}),
        ("polynomial", {"power": 0.9}, {}),
        ("wsd", {}, {"warmup_steps": 100}),
        ("inverse_sqrt", {}, {"warmup_steps": 300}),
        ("cosine_restarts", {"T_0": 1000}, {}),
        ("onecycle", {"cycle_momentum": False}, {}),
        ("sequence", {"pieces": "linear 500 from 0.01; cosine rest"}, {}),
        ("plateau", {"patience": 2}, {"metrics": [1.0, 0.9, 0.8, 0.8, 0.8, 0.8]}),
    ],
)
def test_sound_schedules_get_no_remark(name, options, frame):
    assert findings(name, options, **frame) == []


@pytest.mark.parametrize(
    ("code", "says", "name", "options", "frame"),
    [
        ("zero-start", "step 0 uses LR 0", "cosine", {}, {"warmup_steps": 100, "warmup_from": 0.0}),
        ("zero", "1,001 steps from step 1,999", "sequence", {"pieces": "linear 1999 to 0"}, {}),
        (
            "units",
            "step_size=300 is counted in epochs, but the run has 30.*in epochs it is 3",
            "step",
            {"step_size": 300},
            {},
        ),
        ("units", r"T_max=30 is counted in steps \(0.3 epochs\).*T_max=3,000", "cosine", {"T_max": 30}, {}),
        ("units", "milestones=25 is counted in steps", "multistep", {"milestones": [15, 25]}, {"unit": "step"}),
        ("units", "T_0=10 is counted in steps", "cosine_restarts", {"T_0": 10}, {}),
        (
            "late-milestone",
            r"milestones 30, 95 are past the last epoch \(29\)",
            "multistep",
            {"milestones": [5, 30, 95]},
            {},
        ),
        ("late-milestone", "step_size=40 never comes: the last epoch is 29", "step", {"step_size": 40}, {}),
        ("cut", "T_max=9,000 is longer than the run, which has 3,000 steps for it", "cosine", {"T_max": 9000}, {}),
        ("cut", "total_iters=9,000 is longer", "polynomial", {"total_iters": 9000}, {}),
        ("cut", "the pieces take 4,000 steps, but the run has 3,000", "sequence", {"pieces": "constant 4000"}, {}),
        ("rises", "rises again after its end at step 2,000", "cosine", {"T_max": 2000}, {}),
        (
            "short",
            "the curve ends at step 2,000 of 3,000",
            "onecycle",
            {"total_steps": 2000, "cycle_momentum": False},
            {},
        ),
        ("short", "the pieces end at step 100 of 3,000", "sequence", {"pieces": "linear 100 from 0.1"}, {}),
        (
            "eta-min",
            "eta_min 0.001 is never used, the last step has 0.00161: T_max=19 reaches it",
            "cosine",
            {"eta_min": 1e-3},
            {"total_steps": 20, "steps_per_epoch": 1},
        ),
        ("eta-min", "a restart comes before", "cosine_restarts", {"T_0": 1000, "eta_min": 1e-3}, {}),
        ("floor", "eta_min 0.5 is above the LR 0.1, so the curve climbs", "cosine", {"eta_min": 0.5}, {}),
        (
            "open-cycle",
            r"at 50% of the peak: cycles end at step 2,000 \(the run has 3,000",
            "cosine_restarts",
            {"T_0": 2000},
            {},
        ),
        ("open-cycle", "let the last cycle end with the run", "cyclic", {"base_lr": 1e-3, "cycle_momentum": False}, {}),
        ("warmup", "the warm-up takes 67% of the run", "cosine", {}, {"warmup_steps": 2000}),
        ("momentum", r"onecycle sets the momentum \(Adam: beta1\), 0.85 to 0.95", "onecycle", {}, {}),
        ("plateau-rel", "take threshold_mode=abs", "plateau", {}, {"metrics": [0.5, -0.1]}),
        ("plateau-patience", "patience 10 needs more than the 2 values", "plateau", {}, {"metrics": [0.5, 0.5]}),
        (
            "plateau-nan",
            "NaN in the metric counts as a bad value",
            "plateau",
            {"patience": 1},
            {"metrics": [1.0, float("nan"), 1.0]},
        ),
    ],
)
def test_what_is_odd_is_said(code, says, name, options, frame):
    said = [finding for finding in findings(name, options, **frame) if finding.code == code]
    assert said
    assert any(re.search(says, finding.message) for finding in said), said


def test_the_advice_for_eta_min_is_right():
    frame = {"total_steps": 20, "steps_per_epoch": 1}
    schedule = build_schedule("cosine", {"eta_min": 1e-3, "T_max": 19}, **frame)
    assert follow(schedule, 0.1).lrs[-1] == pytest.approx(1e-3)
    assert "eta-min" not in codes("cosine", {"eta_min": 1e-3, "T_max": 19}, **frame)


def test_units_are_not_questioned_where_an_epoch_is_one_step():
    assert codes("step", {"step_size": 30}, total_steps=90, steps_per_epoch=1) == []
