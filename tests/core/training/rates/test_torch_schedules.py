"""Torch's own scheduler classes, written down, are what they are when stepped."""

import pytest
import torch
from torch.optim import lr_scheduler

from dlkit.core.components import ComponentError
from dlkit.core.training.rates import build_torch_schedule, find_scheduler
from dlkit.schedules import Constant, LearningRate, LrSchedule

BASES = [0.1, 0.02]


def build(name, options=None, *, unit="step", total=30, per_epoch=5, warmup=0):
    frame = LrSchedule(name, Constant(), unit, total, per_epoch, warmup)
    return build_torch_schedule(name, options or {}, frame, base_lrs=BASES)


def stepped(make, steps):
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr} for lr in BASES]
    optimizer = torch.optim.SGD(groups, momentum=0.9)
    scheduler, rates = make(optimizer), []
    for step in range(steps):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        if step < steps - 1:
            scheduler.step()
    return rates


@pytest.mark.parametrize(
    ("name", "options", "make"),
    [
        ("CosineAnnealingLR", {"T_max": 7}, lambda o: lr_scheduler.CosineAnnealingLR(o, 7)),
        ("cosineannealinglr", {}, lambda o: lr_scheduler.CosineAnnealingLR(o, 30)),
        ("torch.optim.lr_scheduler:StepLR", {"step_size": 4}, lambda o: lr_scheduler.StepLR(o, 4)),
        ("OneCycleLR", {}, lambda o: lr_scheduler.OneCycleLR(o, BASES, 30)),
        ("SWALR", {"swa_lr": 0.01}, lambda o: torch.optim.swa_utils.SWALR(o, 0.01)),
    ],
)
def test_values_are_torch_s_own(name, options, make):
    rates = LearningRate(build(name, options), BASES)
    assert [rates.lrs(step) for step in range(30)] == stepped(make, 30)


def test_resume_needs_only_the_step():
    schedule = build("CosineAnnealingLR")
    fresh = LearningRate(build("CosineAnnealingLR"), BASES)
    assert [fresh.lrs(step) for step in range(17, 30)] == [
        [schedule.lr(step, base) for base in BASES] for step in range(17, 30)
    ]


def test_units_and_warmup_work_as_for_built_in_curves():
    schedule = build("StepLR", {"step_size": 2}, unit="epoch", warmup=5)
    assert schedule.lr(0, 0.1) == pytest.approx(0.001)
    # the epoch of warm-up is skipped, then two epochs of five steps to a level
    assert [schedule.lr(step, 0.1) for step in (5, 14, 15, 25)] == pytest.approx([0.1, 0.1, 0.01, 0.001])


def test_momentum_is_there_where_it_moves():
    assert build("OneCycleLR").momentum(0) == 0.95
    assert build("CosineAnnealingLR").momentum(0) is None


def test_a_user_s_class_by_path(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from torch.optim.lr_scheduler import LRScheduler\n"
        "class Halving(LRScheduler):\n"
        "    def __init__(self, optimizer, every=3, last_epoch=-1):\n"
        "        self.every = every\n"
        "        super().__init__(optimizer, last_epoch)\n"
        "    def get_lr(self):\n"
        "        return [lr * 0.5 ** (self.last_epoch // self.every) for lr in self.base_lrs]\n"
    )
    schedule = build(f"{file}:Halving", {"every": 2})
    assert [schedule.lr(step, 0.1) for step in range(5)] == pytest.approx([0.1, 0.1, 0.05, 0.05, 0.025])
    assert schedule.describe() == "Halving(every=2) per step"


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("NoSuchLR", {}, "no scheduler 'NoSuchLR' in torch.optim.lr_scheduler"),
        ("StepLR", {"stepsize": 3}, "unknown key for StepLR. Did you mean 'step_size'"),
        ("StepLR", {}, "StepLR needs 'step_size'"),
        ("LambdaLR", {}, "LambdaLR needs 'lr_lambda'"),
        ("ReduceLROnPlateau", {}, "ReduceLROnPlateau follows a metric.*dlkit's own schedule plateau"),
        ("LinearLR", {"start_factor": 0.0}, "LinearLR cannot be built: Starting multiplicative factor"),
        ("OneCycleLR", {"total_steps": 10}, "OneCycleLR has no value after step 10: Tried to step 11 times"),
    ],
)
def test_what_cannot_work_says_why(name, options, says):
    with pytest.raises(ComponentError, match=says):
        build(name, options)


def test_what_is_no_scheduler_is_refused(tmp_path):
    file = tmp_path / "other.py"
    file.write_text("def make(optimizer):\n    return 3\n")
    with pytest.raises(ComponentError, match=r"make gives int, which has no step\(\)"):
        build(f"{file}:make")


def test_names_in_any_case():
    assert find_scheduler("exponentiallr") is lr_scheduler.ExponentialLR
    assert find_scheduler("LRSchedule") is None
