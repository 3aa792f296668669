"""The plateau equals torch's ReduceLROnPlateau for any series of metrics."""

import itertools
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim.lr_scheduler import ReduceLROnPlateau

from dlkit.schedules import Plateau

GRID = list(
    itertools.product(
        ["min", "max"], ["rel", "abs"], [0, 1, 2, 5], [0, 1, 3]
    )  # mode, threshold_mode, patience, cooldown
)


def assert_follows_torch(oracle, series, base_lrs, **options):
    optimizer = oracle.optimizer(base_lrs)
    theirs = ReduceLROnPlateau(optimizer, **options)
    ours = Plateau(**options).start(base_lrs)
    for metric in series:
        before = [group["lr"] for group in optimizer.param_groups]
        theirs.step(metric)
        fell = ours.step(metric)
        assert ours.lrs == [group["lr"] for group in optimizer.param_groups]
        assert fell == (ours.lrs != before)
        assert (ours.best, ours.num_bad, ours.cooldown_left) == (
            theirs.best,
            theirs.num_bad_epochs,
            theirs.cooldown_counter,
        )


def random_series(seed, length=60):
    """Drifting values of both signs with ties, tiny changes, NaN and infinities."""
    draw = random.Random(seed)
    value, series = draw.uniform(-2, 2), []
    for _ in range(length):
        move = draw.choice(
            ["tie", "tiny", "step", "nan", "jump", "inf"] if draw.random() < 0.3 else ["tie", "tiny", "step"]
        )
        if move in ("tiny", "step"):
            value *= 1 + draw.uniform(-1, 1) * (2e-4 if move == "tiny" else 0.1)
        elif move == "jump":
            value = draw.uniform(-2, 2)
        series.append({"nan": math.nan, "inf": draw.choice([math.inf, -math.inf])}.get(move, value))
    return series


@pytest.mark.parametrize(("mode", "threshold_mode", "patience", "cooldown"), GRID)
def test_equals_torch_over_the_whole_grid(mode, threshold_mode, patience, cooldown, oracle):
    for seed in range(8):
        assert_follows_torch(
            oracle,
            random_series(seed),
            [0.1, 1e-3],
            mode=mode,
            threshold_mode=threshold_mode,
            patience=patience,
            cooldown=cooldown,
            factor=0.5,
        )


@settings(max_examples=100, deadline=None)
@given(
    series=st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=40),
    options=st.fixed_dictionaries(
        {
            "mode": st.sampled_from(["min", "max"]),
            "factor": st.floats(0.0, 0.99),
            "patience": st.integers(0, 3),
            "threshold": st.floats(0.0, 2.0),
            "threshold_mode": st.sampled_from(["rel", "abs"]),
            "cooldown": st.integers(0, 3),
            "eps": st.floats(0.0, 1e-3),
            "min_lr": st.floats(0.0, 0.2) | st.tuples(st.floats(0.0, 0.2), st.floats(0.0, 0.2)).map(list),
        }
    ),
)
def test_equals_torch_for_any_options(series, options, oracle):
    assert_follows_torch(oracle, series, [0.1, 1e-3], **options)


def test_falls_on_bad_value_number_patience_plus_one():
    state = Plateau(patience=2).start([0.1])
    assert [state.step(1.0) for _ in range(4)] == [False, False, False, True]  # the first value is the best so far


def test_a_worse_negative_metric_counts_as_better_with_rel():
    state = Plateau(patience=0, threshold_mode="rel").start([0.1])
    assert [state.step(metric) for metric in (-1.0, -0.99995, -0.9997)] == [False, False, True]
    strict = Plateau(patience=0, threshold_mode="abs").start([0.1])
    assert [strict.step(metric) for metric in (-1.0, -0.99995)] == [False, True]


def test_reductions_end_near_the_eps():
    state = Plateau(patience=0).start([1.0])
    for _ in range(50):
        state.step(1.0)
    assert 1e-9 < state.lrs[0] < 1.2e-8


@pytest.mark.parametrize("cut", range(0, 30, 3))
def test_saved_state_continues_as_if_uninterrupted(cut):
    plateau = Plateau(patience=1, cooldown=2, factor=0.3, mode="max")
    series = random_series(5, 30)
    whole = plateau.start([0.1, 0.01])
    expected = [(whole.step(metric), list(whole.lrs)) for metric in series]
    first = plateau.start([0.1, 0.01])
    for metric in series[:cut]:
        first.step(metric)
    second = plateau.start([9.0, 9.0])
    second.load_state_dict(first.state_dict())
    assert [(second.step(metric), list(second.lrs)) for metric in series[cut:]] == expected[cut:]


def test_a_state_of_other_groups_is_refused():
    saved = Plateau().start([0.1, 0.2]).state_dict()
    with pytest.raises(ValueError, match="saved for 2 parameter groups, but there are 1"):
        Plateau().start([0.1]).load_state_dict(saved)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"factor": 1.0}, "factor must be below 1, so that the rate falls, got 1.0"),
        ({"factor": -0.1}, "factor must be a number of at least 0"),
        ({"mode": "down"}, "mode must be 'min' or 'max', got 'down'"),
        ({"threshold_mode": "relative"}, "threshold_mode must be 'rel' or 'abs'"),
        ({"patience": -1}, "patience must be an integer of at least 0"),
        ({"patience": 2.5}, "patience must be an integer"),
        ({"cooldown": -1}, "cooldown must be"),
        ({"min_lr": "0"}, "min_lr must be a number, or a list with one number per parameter group"),
        ({"min_lr": [0.1, -1]}, "min_lr must be a number of at least 0, got -1"),
        ({"eps": -1}, "eps must be"),
    ],
)
def test_options_that_cannot_work_say_what_would(options, says):
    with pytest.raises(ValueError, match=says):
        Plateau(**options)


def test_min_lr_needs_a_value_per_group():
    with pytest.raises(ValueError, match="min_lr has 2 values for 3 parameter groups"):
        Plateau(min_lr=[0.1, 0.2]).start([1.0, 1.0, 1.0])
