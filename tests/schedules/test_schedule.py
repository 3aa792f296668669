"""A schedule in a run: units, warm-up, automatic lengths, resume; and what a wrong config is told."""

import inspect
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim import lr_scheduler as torch_schedulers

from dlkit.errors import UsageError
from dlkit.registry import entries
from dlkit.schedules import LearningRate, build_schedule, find_curve

OURS = {name: entry for name, entry in entries("schedules").items() if entry.is_ours}
NEEDED = {
    "step": {"step_size": 2},
    "multistep": {"milestones": [2, 3]},
    "exponential": {"gamma": 0.9},
    "cosine_restarts": {"T_0": 7},
    "sequence": {"pieces": "linear 10% from 0.01; constant 1ep; cosine rest to 0.1"},
    "cyclic": {"base_lr": 1e-3, "step_size_up": 5},
}
BASE = 0.2


def rates(schedule, steps, base=BASE):
    return [schedule.lr(step, base) for step in range(steps)]


def build(name, options=None, **frame):
    frame = {"total_steps": 40, "steps_per_epoch": 8, **frame}
    return build_schedule(name, options if options is not None else NEEDED.get(name, {}), **frame)


@pytest.mark.parametrize("name", OURS)
def test_every_registered_schedule_builds_and_stays_finite_and_positive(name):
    schedule = build(name, warmup_steps=4)
    assert schedule.name == name
    assert all(0 <= lr <= BASE * (1 + 1e-12) for lr in rates(schedule, 40))
    assert name in schedule.describe()


@pytest.mark.parametrize("name", OURS)
def test_every_spelling_is_the_same_schedule(name):
    for spelling in (name.upper(), *OURS[name].spellings):
        assert find_curve(spelling) == find_curve(name)


@pytest.mark.parametrize(
    "name", [name for name, entry in OURS.items() if any(hasattr(torch_schedulers, also) for also in entry.also)]
)
def test_options_and_defaults_are_those_of_torch(name):
    torch_class = next(getattr(torch_schedulers, a) for a in OURS[name].also if hasattr(torch_schedulers, a))
    theirs = inspect.signature(torch_class).parameters
    for option in inspect.signature(find_curve(name)[1]).parameters.values():
        assert option.name in theirs
        is_length = option.name in {"T_max", "total_iters", "total_steps"} and option.default is None
        assert is_length or option.default == theirs[option.name].default


@settings(max_examples=40, deadline=None)
@given(
    base_lrs=st.lists(st.floats(1e-4, 1.0), min_size=1, max_size=3),
    warmup=st.integers(1, 20),
    rest=st.integers(1, 60),
    warmup_from=st.floats(0.001, 1.0),
    curve=st.sampled_from(["cosine", "polynomial", "restarts", "constant", "wsd"]),
)
def test_warmup_is_sequential_lr_of_linear_and_the_curve(base_lrs, warmup, rest, warmup_from, curve, oracle):
    name, options, child = {
        "cosine": ("cosine", {"eta_min": 1e-5}, lambda o: torch_schedulers.CosineAnnealingLR(o, rest, 1e-5)),
        "polynomial": ("polynomial", {"power": 2.0}, lambda o: torch_schedulers.PolynomialLR(o, rest, 2.0)),
        "restarts": ("cosine_restarts", {"T_0": 9}, lambda o: torch_schedulers.CosineAnnealingWarmRestarts(o, 9)),
        "constant": ("constant", {}, lambda o: torch_schedulers.ConstantLR(o, 1.0)),
        "wsd": ("wsd", {"decay_share": 1.0}, lambda o: torch_schedulers.LinearLR(o, 1.0, 0.0, rest)),
    }[curve]

    def sequence(optimizer):
        ramp = torch_schedulers.LinearLR(optimizer, warmup_from, total_iters=warmup)
        return torch_schedulers.SequentialLR(optimizer, [ramp, child(optimizer)], [warmup])

    total = warmup + rest
    schedule = build(name, options, total_steps=total, warmup_steps=warmup, warmup_from=warmup_from)
    for step, theirs in enumerate(oracle.rates(sequence, base_lrs, total)):
        for base, their in zip(base_lrs, theirs, strict=True):
            assert schedule.lr(step, base) == pytest.approx(their, rel=1e-12, abs=1e-12 * base)


def test_warmup_before_onecycle_is_what_torch_really_does(oracle):
    # OneCycleLR overwrites initial_lr, so that torch's warm-up ends where the cycle begins
    def sequence(optimizer):
        ramp = torch_schedulers.LinearLR(optimizer, 0.1, total_iters=5)
        return torch_schedulers.SequentialLR(optimizer, [ramp, torch_schedulers.OneCycleLR(optimizer, BASE, 35)], [5])

    schedule = build("onecycle", warmup_steps=5, warmup_from=0.1)
    assert rates(schedule, 40) == pytest.approx([lrs[0] for lrs in oracle.rates(sequence, [BASE], 40)], rel=1e-12)
    assert schedule.momentum(0) == schedule.momentum(5) == 0.95


def test_warmup_may_begin_at_zero_and_meets_the_curve_exactly():
    schedule = build("cosine", warmup_steps=10, warmup_from=0.0)
    assert schedule.lr(0, BASE) == 0.0
    assert schedule.lr(5, BASE) == pytest.approx(BASE / 2)
    assert schedule.lr(10, BASE) == BASE


@pytest.mark.parametrize("total", [1, 2, 5])
def test_warmup_as_long_as_the_run(total):
    schedule = build("cosine", total_steps=total, warmup_steps=total)
    assert schedule.curve.T_max == 1
    assert all(0 < lr < BASE for lr in rates(schedule, total))


def test_cosine_ends_with_the_run_after_a_warmup():
    schedule = build("cosine", total_steps=100, warmup_steps=10)
    assert schedule.curve.T_max == 90
    assert schedule.lr(100, BASE) == pytest.approx(0.0, abs=1e-15)
    assert schedule.lr(99, BASE) > 0


@pytest.mark.parametrize("unit", ["auto", "epoch"])
def test_milestones_are_epochs_of_the_run_under_a_warmup(unit):
    schedule = build("multistep", {"milestones": [2, 4], "gamma": 0.1}, unit=unit, warmup_steps=8)
    assert schedule.unit == "epoch"
    assert rates(schedule, 40)[8:] == pytest.approx([BASE] * 8 + [BASE * 0.1] * 16 + [BASE * 0.01] * 8)


def test_milestones_in_steps_count_from_the_start_of_the_run():
    schedule = build("multistep", {"milestones": [20]}, unit="step", warmup_steps=8)
    assert [step for step in range(8, 40) if schedule.lr(step, BASE) < BASE] == list(range(20, 40))


def test_epoch_units_equal_torch_stepped_at_each_epoch(oracle):
    cosine = build("cosine", {"eta_min": 1e-3}, unit="epoch")
    theirs = oracle.rates(lambda o: torch_schedulers.CosineAnnealingLR(o, 5, 1e-3), [BASE], 5)
    assert rates(cosine, 40) == pytest.approx([lrs[0] for lrs in theirs for _ in range(8)], rel=1e-12)


def test_in_epochs_the_rate_changes_only_at_epochs_and_skips_whole_epochs_of_warmup():
    schedule = build("cosine", unit="epoch", warmup_steps=19)  # two epochs of 8 and 3 steps
    assert schedule.curve.T_max == 3
    values = rates(schedule, 40)
    assert [step for step in range(20, 40) if values[step] != values[step - 1]] == [24, 32]


def test_a_short_last_epoch_counts_as_an_epoch():
    assert build("cosine", unit="epoch", total_steps=41).curve.T_max == 6


def test_lengths_may_be_given_as_auto_or_null_or_a_number():
    assert build("cosine", {"T_max": "auto"}).curve.T_max == 40
    assert build("linear", {"total_iters": None}).curve.total_iters == 40
    assert build("linear", {"total_iters": 5}).curve.total_iters == 5
    assert build("onecycle").curve.total_steps == 40
    assert build("inverse_sqrt", warmup_steps=6).curve.timescale == 6
    assert build("inverse_sqrt").curve.timescale == 10_000


def test_inverse_sqrt_with_its_warmup_is_the_published_schedule():
    warmup = 10
    schedule = build("inverse_sqrt", warmup_steps=warmup, warmup_from=0.0)
    expected = [BASE * min(step / warmup, (warmup / step) ** 0.5 if step else 0) for step in range(40)]
    assert rates(schedule, 40) == pytest.approx(expected, rel=1e-12)


def test_only_cycling_curves_move_the_momentum():
    assert build("cosine").momentum(3) is None
    assert build("onecycle", {"cycle_momentum": False}).momentum(3) is None
    assert build("cyclic").momentum(0) == 0.9


@pytest.mark.parametrize(
    ("name", "options", "frame", "says"),
    [
        ("cosin", {}, {}, "no built-in schedule 'cosin'; there are constant, step,"),
        ("cosine", {"tmax": 3}, {}, "schedule cosine: no option 'tmax'; it takes T_max, eta_min"),
        ("OneCycleLR", {"max_lr": 0.1}, {}, "schedule onecycle: no option 'max_lr': the peak is optimizer.lr"),
        ("constant", {"factor": 1}, {}, "no option 'factor'; it takes none"),
        ("multistep", {}, {}, r"schedule multistep: milestones is needed, for example milestones: \[30, 60\]"),
        ("step", {"step_size": "auto"}, {}, "step_size must be an integer of at least 1, got 'auto'"),
        ("exponential", {"gamma": -1}, {}, "schedule exponential: gamma must be a number above 0, got -1"),
        ("cosine", {}, {"unit": "batch"}, "unit must be 'auto' or 'step' or 'epoch', got 'batch'"),
        ("cosine", {}, {"total_steps": 0}, "total_steps must be an integer of at least 1"),
        ("cosine", {}, {"warmup_from": 2.0}, "warmup_from must be a number of at least 0 and at most 1"),
    ],
)
def test_mistakes_are_usage_errors(name, options, frame, says):
    with pytest.raises(UsageError, match=says):
        build(name, options, **frame)


def test_learning_rate_gives_each_group_its_own_rate():
    schedule = build("cosine", warmup_steps=4)
    learning_rate = LearningRate(schedule, [0.1, 0.01])
    for step in range(40):
        assert learning_rate.lrs(step) == [schedule.lr(step, 0.1), schedule.lr(step, 0.01)]
    assert learning_rate.observe(3.0) is False
    assert learning_rate.state_dict() == {}
    assert LearningRate(build("onecycle"), [0.1]).momentum(0) == 0.95


def test_plateau_lowers_the_rate_under_a_warmup():
    learning_rate = LearningRate(build("plateau", {"patience": 0}, warmup_steps=10, warmup_from=0.5), [0.1])
    assert learning_rate.lrs(0) == [pytest.approx(0.05)]
    assert [learning_rate.observe(metric) for metric in (1.0, 1.0)] == [False, True]
    assert learning_rate.lrs(5) == [pytest.approx(0.0075)]
    assert learning_rate.lrs(10) == [pytest.approx(0.01)]


@pytest.mark.parametrize("cut", range(6))
def test_plateau_resumes_exactly(cut):
    schedule = build("plateau", {"patience": 1, "cooldown": 1}, warmup_steps=10)
    metrics = [1.0, 1.0, 1.0, 0.5, float("nan"), 0.7, 0.7]

    def follow(learning_rate, epochs):
        values = []
        for epoch in epochs:
            values.append(learning_rate.lrs(epoch * 8))
            learning_rate.observe(metrics[epoch])
        return values

    expected = follow(LearningRate(schedule, [0.1, 1.0]), range(7))
    assert len({rates[0] for rates in expected[2:]}) > 1
    first, second = (LearningRate(schedule, [0.1, 1.0]) for _ in range(2))
    follow(first, range(cut))
    second.load_state_dict(first.state_dict())
    assert follow(second, range(cut, 7)) == expected[cut:]


def test_state_of_another_kind_of_schedule_is_refused():
    plateau, cosine = LearningRate(build("plateau"), [0.1]), LearningRate(build("cosine"), [0.1])
    with pytest.raises(ValueError, match="the saved schedule is a plateau, unlike cosine"):
        cosine.load_state_dict(plateau.state_dict())
    with pytest.raises(ValueError, match="the saved schedule is no plateau, unlike plateau"):
        plateau.load_state_dict(cosine.state_dict())


def test_no_torch():
    code = "import sys, dlkit.schedules as s; s.build_schedule('onecycle', {}, total_steps=9, steps_per_epoch=3); "
    code += "assert not {'torch', 'numpy', 'pydantic', 'yaml'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
