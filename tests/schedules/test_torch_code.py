"""The code that `--code` prints, executed with torch, gives the schedule's own values."""

import pytest
import torch

from dlkit.errors import UsageError
from dlkit.schedules import LearningRate, LrSchedule, Tabulated, build_schedule, write_torch_code

TOTAL, PER_EPOCH, LR = 120, 8, 0.2
PIECES = (
    "linear 10% from 0 to 0.5; cosine_restarts 30% T_0=7 T_mult=2 at 0.5 to 0.1; wsd 20%; "
    "exponential 10% gamma=0.9 to 0.3; step 10% step_size=3; cosine rest eta_min=1e-3"
)
CURVES = [
    ("constant", {}),
    ("constant_factor", {"factor": 0.5, "total_iters": 20}),
    ("constant_factor", {"factor": 0.0}),
    ("step", {"step_size": 4}),
    ("multistep", {"milestones": [3, 9, 9], "gamma": 0.3}),
    ("exponential", {"gamma": 0.97}),
    ("cosine", {"eta_min": 1e-3}),
    ("cosine_restarts", {"T_0": 7, "T_mult": 2, "eta_min": 1e-3}),
    ("linear", {}),
    ("linear", {"start_factor": 0.0}),
    ("polynomial", {"power": 2.0}),
    ("wsd", {"decay_share": 0.3}),
    ("wsd", {"decay_share": 0.25, "decay": "cosine", "eta_min": 1e-3}),
    ("wsd", {"decay_share": 0.25, "decay": "sqrt"}),
    ("wsd", {"decay_share": 0.0}),
    ("inverse_sqrt", {}),
    ("onecycle", {}),
    ("onecycle", {"three_phase": True, "anneal_strategy": "linear", "pct_start": 0.2}),
    ("cyclic", {"base_lr": 1e-3, "step_size_up": 9, "mode": "triangular2"}),
    ("sequence", {"pieces": PIECES}),
]
FRAMES = [
    {},
    {"unit": "epoch"},
    {"unit": "step"},
    {"warmup_steps": 16},
    {"warmup_steps": 13, "warmup_from": 0.0},
    {"warmup_steps": 16, "unit": "epoch"},
]


def run_code(code, *, steps_per_call=1, metrics=None):
    """The rates and momenta that an optimizer gets when the printed code is followed."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=LR, momentum=0.5)
    names = {"optimizer": optimizer}
    exec(code, names)
    group, rates, momenta = optimizer.param_groups[0], [], []
    for step in range(TOTAL):
        rates.append(group["lr"])
        momenta.append(group["momentum"])
        optimizer.step()
        if (step + 1) % steps_per_call == 0 and step < TOTAL - 1:
            names["scheduler"].step(*([metrics[step // PER_EPOCH]] if metrics else []))
    return rates, momenta


def is_possible(name, options, frame):
    is_warmed = frame.get("warmup_steps")
    if name == "cyclic":
        return not is_warmed
    if name == "onecycle":
        return not is_warmed or (frame.get("unit") != "epoch" and frame.get("warmup_from") != 0.0)
    return True


@pytest.mark.parametrize(("name", "options"), CURVES)
@pytest.mark.parametrize("frame", FRAMES, ids=str)
def test_the_code_gives_the_same_values(name, options, frame):
    schedule = build_schedule(name, options, total_steps=TOTAL, steps_per_epoch=PER_EPOCH, **frame)
    if not is_possible(name, options, frame):
        with pytest.raises(UsageError, match="no torch scheduler gives"):
            write_torch_code(schedule, LR)
        return
    code = write_torch_code(schedule, LR)
    steps_per_call = PER_EPOCH if "at the end of each epoch" in code else 1
    rates, momenta = run_code(code, steps_per_call=steps_per_call)
    assert rates == pytest.approx([schedule.lr(step, LR) for step in range(TOTAL)], rel=1e-12, abs=1e-13)
    if schedule.momentum(0) is not None:
        assert momenta == pytest.approx([schedule.momentum(step) for step in range(TOTAL)], rel=1e-12)


def test_the_usual_schedules_become_the_usual_classes():
    def code(name, **frame):
        return write_torch_code(build_schedule(name, {}, total_steps=TOTAL, steps_per_epoch=PER_EPOCH, **frame), LR)

    assert "CosineAnnealingLR(optimizer, T_max=120, eta_min=0.0)" in code("cosine")
    warm = code("cosine", warmup_steps=20)
    assert "LinearLR(optimizer, start_factor=0.01, total_iters=20)" in warm
    assert "SequentialLR(optimizer, [warmup, curve], milestones=[20])" in warm
    assert "OneCycleLR(optimizer, max_lr=0.2, total_steps=120" in code("onecycle")


def test_plateau():
    schedule = build_schedule("plateau", {"patience": 1, "cooldown": 1}, total_steps=TOTAL, steps_per_epoch=PER_EPOCH)
    metrics = [1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4]
    rates, _ = run_code(write_torch_code(schedule, LR), steps_per_call=PER_EPOCH, metrics=metrics)
    learning_rate, ours = LearningRate(schedule, [LR]), []
    for step in range(TOTAL):
        ours += learning_rate.lrs(step)
        if (step + 1) % PER_EPOCH == 0:
            learning_rate.observe(metrics[step // PER_EPOCH])
    assert rates == ours
    assert len(set(ours)) > 2


@pytest.mark.parametrize(
    ("name", "options", "frame", "says"),
    [
        ("plateau", {}, {"warmup_steps": 5}, "no torch scheduler gives Plateau behind this warm-up"),
        ("onecycle", {"total_steps": 50}, {}, "torch's OneCycleLR has no values for this length"),
        ("onecycle", {"pct_start": 1 / 120}, {}, "torch's OneCycleLR has no values for this length"),
    ],
)
def test_what_torch_cannot_do_is_refused(name, options, frame, says):
    schedule = build_schedule(name, options, total_steps=TOTAL, steps_per_epoch=PER_EPOCH, **frame)
    with pytest.raises(UsageError, match=says):
        write_torch_code(schedule, LR)


def test_a_torch_scheduler_needs_no_code():
    schedule = LrSchedule("SWALR", Tabulated({0.1: [0.1]}), "step", 1, 1)
    with pytest.raises(UsageError, match="SWALR is a torch scheduler already"):
        write_torch_code(schedule, 0.1)
