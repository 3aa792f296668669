"""The arithmetic of the range test on curves whose answers are known."""

import json
import math
import random
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlkit.errors import OutputError, UsageError
from dlkit.schedules import (
    DivergenceTest,
    Look,
    RangeTest,
    Smoother,
    Sweep,
    SweepPlan,
    check_result_files,
    draw_range_test,
    range_test_as_json,
    save_range_test,
)

PLAN = SweepPlan(1e-6, 1.0, 121, 3)  # 20 steps to a decade
RAW = SweepPlan(1e-6, 1.0, 10, 1, smoothing=0.0)


def sweep_of(loss_at, *, plan=PLAN, ended="finished", until=math.inf):
    return Sweep(plan, tuple(loss_at(lr) for lr in plan.lrs if lr <= until), ended)


def well(lr, *, centre=1e-2):
    """Falls along log(lr), fastest at a tenth of the centre, and rises after it."""
    place = math.log10(lr / centre)
    return 2 - 1.5 / (1 + math.exp(-4 * (place + 1))) + (math.exp(3 * place) if place > 0 else 0)


def test_the_first_rate_is_lo_the_last_is_hi_and_the_steps_are_even_in_the_logarithm():
    lrs = SweepPlan(1e-7, 10.0, 150).lrs
    assert (lrs[0], lrs[-1], len(lrs)) == (1e-7, 10.0, 150)
    assert np.diff(np.log(lrs)) == pytest.approx(math.log(1e8) / 149, rel=1e-9)
    assert SweepPlan(1e-7, 10.0, 150).log_spacing == pytest.approx(math.log(1e8) / 149)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ((0.0, 1.0, 150, 3), "--lo must be above 0"),
        ((1.0, 1.0, 150, 3), "--hi above it"),
        ((math.nan, 1.0, 150, 3), "--lo"),
        ((1e-3, math.inf, 150, 3), "--hi"),
        ((1e-3, 1.0, 9, 3), "--steps must be 10 to 100,000, got 9"),
        ((1e-3, 1.0, 150, 0), "--repeats must be at least 1"),
    ],
)
def test_plans_that_make_no_sweep(values, says):
    with pytest.raises(UsageError, match=says):
        SweepPlan(*values)


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=40), st.floats(0.0, 0.99))
def test_smoothing_is_the_weighted_mean_with_weights_that_fall_geometrically(values, past):
    smoother = Smoother(past)
    found = [smoother.add(value) for value in values][-1]
    weights = past ** np.arange(len(values) - 1, -1, -1.0)
    assert found == pytest.approx(float(np.average(values, weights=weights)), rel=1e-9, abs=1e-9)


def test_a_constant_stays_what_it_is_from_the_first_value_on():
    smoother = Smoother(0.98)
    assert [smoother.add(2.5) for _ in range(5)] == pytest.approx([2.5] * 5)


def ends_at(losses):
    test = DivergenceTest(4.0)
    return next((index for index, loss in enumerate(losses) if test.is_over(loss)), None)


def test_divergence_is_four_times_the_best():
    assert ends_at([2.0, 1.0, 3.9, 4.1]) == 3


def test_a_negative_loss_that_goes_on_falling_does_not_diverge():
    assert ends_at([-1.0, -2.0, -3.0, -5.0]) is None
    assert ends_at([-1.0, -2.0, 3.9, 4.1]) == 3


def test_noise_around_zero_does_not_end_a_sweep():
    assert ends_at([2.0, 0.001, 0.005, 0.5]) is None
    assert ends_at([1.0, -0.001, 0.2, 0.29, 0.5]) == 4


@given(st.lists(st.integers(0, 8), max_size=9))
def test_the_valley_is_the_middle_of_the_longest_descent_by_brute_force(values):
    descents = [
        picked
        for size in range(3, len(values) + 1)
        for picked in combinations(range(len(values)), size)
        if all(values[a] > values[b] for a, b in pairwise(picked))
    ]
    suggested = Sweep(RAW, tuple(map(float, values)), "finished").suggest("valley")
    if not descents:
        assert suggested is None
        return
    length = max(map(len, descents))
    end = min(picked[-1] for picked in descents if len(picked) == length)
    assert suggested == RAW.lrs[end - length // 2]


@given(st.lists(st.integers(-1000, 1000), min_size=2, max_size=9, unique=True))
def test_the_steepest_place_is_that_of_numpys_gradient(values):
    lowest = values.index(min(values))
    suggested = Sweep(RAW, tuple(map(float, values)), "finished").suggest("steepest")
    if lowest == 0:
        assert suggested is None
        return
    slopes = np.gradient(values[: lowest + 1])
    assert suggested == RAW.lrs[int(np.argmin(slopes))]


def test_slopes_are_taken_along_the_logarithm():
    """Against lr itself the steepest place of a curve would be the first one that moves, orders of magnitude too low."""
    sweep = Sweep(SweepPlan(1e-6, 1.0, 121, smoothing=0.0), tuple(well(lr) for lr in PLAN.lrs), "finished")
    assert sweep.suggest("steepest") == pytest.approx(1e-3, rel=0.15)
    along_lr = np.gradient(sweep.losses, sweep.lrs)
    assert sweep.lrs[int(np.argmin(along_lr))] < 5e-4


def test_the_three_rules_on_a_curve_that_is_known():
    sweep = sweep_of(well, plan=SweepPlan(1e-6, 1.0, 121, smoothing=0.0))
    lowest = sweep.lrs[int(np.argmin(sweep.losses))]
    assert sweep.suggest("minimum/10") == pytest.approx(lowest / 10)
    # the descent is 80 steps from 1e-6 to 1e-2: its middle is 1e-4
    assert sweep.suggest("valley") == pytest.approx(math.sqrt(1e-6 * lowest), rel=0.7)
    assert sweep.suggest("valley") < sweep.suggest("minimum/10") * 10


def test_rules_on_a_loss_that_never_falls():
    for curve in (lambda lr: 1.0, lambda lr: 1.0 + lr):
        test = RangeTest(PLAN, (sweep_of(curve),) * 3)
        assert test.suggestions == () and test.recommended is None
        assert any("never fell" in note for note in test.notes)


def test_repeats_that_agree_are_reliable_and_the_median_is_taken():
    centres = (1e-2, 2e-2, 1.5e-2)
    test = RangeTest(PLAN, tuple(sweep_of(lambda lr, c=c: well(lr, centre=c)) for c in centres))
    best = test.recommended
    assert best.name == "minimum/10" and best.is_reliable
    assert sorted(best.repeats)[1] == best.lr and 1 < best.spread < 3


def test_repeats_that_differ_threefold_are_unreliable():
    test = RangeTest(PLAN, tuple(sweep_of(lambda lr, c=c: well(lr, centre=c)) for c in (1e-3, 1e-2, 1e-1)))
    assert not any(suggestion.is_reliable for suggestion in test.suggestions if suggestion.spread > 3)
    assert test.suggestions[0].spread > 50 and not test.suggestions[0].is_reliable
    assert any("minimum/10 is unreliable" in note for note in test.notes)


def test_a_rule_is_passed_over_for_one_whose_repeats_agree():
    """Two sweeps that differ only in where a shallow minimum lies: the steepest place is the same."""

    def shallow(lr, far):
        return well(min(lr, 1e-2)) + (0 if far or lr < 2e-2 else 0.1 * math.log10(lr / 2e-2))

    test = RangeTest(PLAN, tuple(sweep_of(lambda lr, far=far: shallow(lr, far)) for far in (False, True)))
    assert test.suggestions[0].spread > 3
    assert test.recommended.name == "steepest" and test.recommended.is_reliable


def test_a_repeat_without_a_suggestion_makes_it_unreliable():
    test = RangeTest(PLAN, (sweep_of(well), sweep_of(lambda lr: 1.0)))
    assert test.suggestions and not any(suggestion.is_reliable for suggestion in test.suggestions)


def test_a_fall_within_the_noise_is_unreliable():
    generator = random.Random(0)
    sweeps = tuple(sweep_of(lambda lr: generator.gauss(2.0, 0.3)) for _ in range(3))
    test = RangeTest(PLAN, sweeps)
    assert not any(suggestion.is_reliable for suggestion in test.suggestions)
    assert any("varies from batch to batch" in note for note in test.notes)


def test_the_band_holds_the_least_the_mean_and_the_greatest_and_ended_sweeps_keep_their_last_value():
    plan = SweepPlan(1e-3, 1.0, 10, 2, smoothing=0.0)
    test = RangeTest(plan, (Sweep(plan, (2.0, 1.0, 9.0), "diverged"), Sweep(plan, (3.0, 2.0, 1.0, 0.5), "finished")))
    assert test.band == ((2.0, 2.5, 3.0), (1.0, 1.5, 2.0), (1.0, 5.0, 9.0), (0.5, 4.75, 9.0))


def rise_of(losses):
    """The index from which on the losses of a diverged sweep rise for good."""
    return PLAN.lrs.index(Sweep(PLAN, tuple(losses), "diverged").rises_from)


def test_where_losses_rise_for_good():
    assert rise_of([5, 4, 3, 2, 1, 2, 4, 8, 16, 32]) in (4, 5)
    assert rise_of([1, 2, 3]) == 0
    assert rise_of([3, 2, 1]) == 2
    generator = random.Random(1)
    losses = [1 + generator.gauss(0, 0.05) for _ in range(80)] + [1.2 * 1.3**k for k in range(12)]
    assert 72 <= rise_of(losses) <= 80
    assert sweep_of(well).rises_from is None


def test_what_is_known_after_an_interruption():
    whole, part = sweep_of(well), sweep_of(well, ended="interrupted", until=1e-4)
    test = RangeTest(PLAN, (whole, part))
    assert test.is_interrupted and test.judged == (whole,)
    assert "stopped early: judged by 1 whole sweep" in test.notes
    alone = RangeTest(PLAN, (part,))
    assert alone.suggestions and not any(each.is_reliable for each in alone.suggestions)
    assert "no sweep is whole, so nothing here is reliable" in " ".join(alone.notes)
    assert RangeTest(PLAN, (part,)).judged == (part,)
    for sweeps in ((), (Sweep(PLAN, (), "interrupted"),), (Sweep(PLAN, (), "not_finite"),)):
        nothing = RangeTest(PLAN, sweeps)
        assert nothing.recommended is None and nothing.band == ()
        assert draw_range_test(nothing, "title", nothing.notes, Look())
        json.dumps(range_test_as_json(nothing, {}, nothing.notes), allow_nan=False)


def a_test():
    centres = (1e-2, 2e-2, 1.5e-2)
    return RangeTest(
        PLAN, tuple(sweep_of(lambda lr, c=c: well(lr, centre=c), ended="diverged", until=0.1) for c in centres)
    )


@pytest.mark.parametrize("is_ascii", [False, True])
@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_picture(is_ascii, width):
    test = a_test()
    lines = draw_range_test(test, "lr-find · net", test.notes, Look(width, 10, is_ascii=is_ascii))
    assert max(map(len, lines)) <= width
    assert not is_ascii or all(line.isascii() for line in lines)
    marks = next(line for line in lines if set(line.split()) >= {"M"} and "minimum" not in line)
    labels = next(line for line in lines if line.strip().startswith("lr") and "1e-6" in line)
    left, right = labels.index("1e-6"), labels.index("1e-3") + 2
    scale = (right - left) / 3  # characters to a decade
    assert marks.index("M") == pytest.approx(left + scale * (6 + math.log10(test.suggestions[0].lr)), abs=2.5)
    assert any(line.endswith(f"optimizer.lr={test.recommended.lr:.2g}") for line in lines)
    assert "rises for good from lr" in " ".join(" ".join(lines).split())


def test_the_recommendation_in_the_picture_says_when_it_is_unreliable():
    test = RangeTest(PLAN, tuple(sweep_of(lambda lr, c=c: well(lr, centre=c)) for c in (1e-3, 1e-1)))
    assert any("(unreliable)" in line for line in draw_range_test(test, "", test.notes, Look()))


@pytest.mark.parametrize("suffix", ["csv", "json", "png", "svg", "pdf"])
def test_files(tmp_path, suffix):
    test, path = a_test(), tmp_path / f"lr.{suffix}"
    save_range_test(path, test, {"model": "net"}, test.notes)
    content = path.read_bytes()
    if suffix == "csv":
        rows = content.decode().splitlines()
        assert rows[0] == "repeat,step,lr,loss,smoothed"
        assert len(rows) == 1 + sum(len(sweep.losses) for sweep in test.sweeps)
        assert rows[2].split(",")[:2] == ["0", "1"] and float(rows[2].split(",")[3]) == test.sweeps[0].losses[1]
    elif suffix == "json":
        assert json.loads(content) == json.loads(json.dumps(range_test_as_json(test, {"model": "net"}, test.notes)))
    else:
        start = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[suffix]
        assert content.startswith(start)


def test_files_that_cannot_be_written_are_refused_before_the_test(tmp_path):
    with pytest.raises(UsageError, match=r"must end in \.csv"):
        check_result_files([tmp_path / "lr.gif"], may_replace=True)
    with pytest.raises(OutputError, match="no folder"):
        check_result_files([tmp_path / "missing" / "lr.png"], may_replace=True)
