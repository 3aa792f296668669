"""Every curve equals torch's class at every step, for several parameter groups."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim import lr_scheduler as torch_schedulers

from dlkit.schedules import (
    Constant,
    ConstantFactor,
    Cosine,
    Exponential,
    InverseSqrt,
    Linear,
    MultiStep,
    Polynomial,
    Step,
    WarmupStableDecay,
)

BASE_LRS = st.lists(st.floats(1e-5, 10.0), min_size=1, max_size=3)
RUN = st.integers(1, 120)
FACTOR = st.floats(0.01, 1.0)

quick = settings(max_examples=60, deadline=None)


def check(curve, build, base_lrs, steps, oracle, *, drift=1e-12):
    """1e-12 relative to torch's closed form; its step-by-step values drift and get a share of the base rate too."""
    ours = [[curve.lr(step, base) for base in base_lrs] for step in range(steps)]
    for mine, exact in zip(ours, oracle.closed_form(build, base_lrs, steps), strict=True):
        assert mine == pytest.approx(exact, rel=1e-12, abs=1e-300)
    for mine, stepped in zip(ours, oracle.rates(build, base_lrs, steps), strict=True):
        for value, theirs, base in zip(mine, stepped, base_lrs, strict=True):
            assert value == pytest.approx(theirs, rel=1e-12, abs=drift * base)


@quick
@given(base_lrs=BASE_LRS, steps=RUN, step_size=st.integers(1, 50), gamma=FACTOR)
def test_step(base_lrs, steps, step_size, gamma, oracle):
    check(Step(step_size, gamma), lambda o: torch_schedulers.StepLR(o, step_size, gamma), base_lrs, steps, oracle)


@quick
@given(base_lrs=BASE_LRS, steps=RUN, milestones=st.lists(st.integers(0, 130), max_size=6), gamma=FACTOR)
def test_multistep_with_any_order_and_duplicates(base_lrs, steps, milestones, gamma, oracle):
    check(
        MultiStep(milestones, gamma),
        lambda o: torch_schedulers.MultiStepLR(o, milestones, gamma),
        base_lrs,
        steps,
        oracle,
    )


@quick
@given(base_lrs=BASE_LRS, steps=RUN, gamma=st.floats(0.5, 1.1))
def test_exponential(base_lrs, steps, gamma, oracle):
    check(Exponential(gamma), lambda o: torch_schedulers.ExponentialLR(o, gamma), base_lrs, steps, oracle)


@quick
@given(base_lrs=BASE_LRS, steps=RUN, factor=FACTOR, total_iters=st.integers(1, 130))
def test_constant_factor(base_lrs, steps, factor, total_iters, oracle):
    check(
        ConstantFactor(factor, total_iters),
        lambda o: torch_schedulers.ConstantLR(o, factor, total_iters),
        base_lrs,
        steps,
        oracle,
    )


@quick
@given(base_lrs=BASE_LRS, steps=RUN, start=FACTOR, end=st.floats(0.0, 1.0), total_iters=st.integers(1, 130))
def test_linear(base_lrs, steps, start, end, total_iters, oracle):
    check(
        Linear(start, end, total_iters),
        lambda o: torch_schedulers.LinearLR(o, start, end, total_iters),
        base_lrs,
        steps,
        oracle,
    )


@quick
@given(base_lrs=BASE_LRS, steps=RUN, total_iters=st.integers(1, 130), power=st.floats(0.0, 4.0))
def test_polynomial(base_lrs, steps, total_iters, power, oracle):
    check(
        Polynomial(total_iters, power),
        lambda o: torch_schedulers.PolynomialLR(o, total_iters, power),
        base_lrs,
        steps,
        oracle,
    )


@quick
@given(base_lrs=BASE_LRS, T_max=st.integers(1, 120), eta_min=st.floats(0.0, 0.01), data=st.data())
def test_cosine_up_to_its_end(base_lrs, T_max, eta_min, data, oracle):
    steps = data.draw(st.integers(1, T_max + 1))
    check(
        Cosine(T_max, eta_min), lambda o: torch_schedulers.CosineAnnealingLR(o, T_max, eta_min), base_lrs, steps, oracle
    )


@quick
@given(base_lrs=BASE_LRS, T_max=st.integers(1, 60), eta_min=st.floats(0.0, 0.01))
def test_cosine_rises_again_after_its_end_as_in_torch(base_lrs, T_max, eta_min, oracle):
    # torch leaves the trough by a ratio of two tiny numbers, so its own values drift from there on
    check(
        Cosine(T_max, eta_min),
        lambda o: torch_schedulers.CosineAnnealingLR(o, T_max, eta_min),
        base_lrs,
        3 * T_max,
        oracle,
        drift=1e-8,
    )


def test_cosine_of_length_one_alternates_as_in_torch(oracle):
    check(Cosine(1), lambda o: torch_schedulers.CosineAnnealingLR(o, 1), [0.1, 1.0], 6, oracle)


def test_constant():
    assert [Constant().lr(step, 0.3) for step in (0, 1, 10**9)] == [0.3] * 3


def test_constant_factor_zero_comes_back_where_torch_divides_by_zero(oracle):
    assert [ConstantFactor(0.0, 2).lr(step, 0.1) for step in range(4)] == [0.0, 0.0, 0.1, 0.1]
    with pytest.raises(ZeroDivisionError):
        oracle.rates(lambda o: torch_schedulers.ConstantLR(o, 0.0, 2), [0.1], 4)


def test_growth_past_the_largest_float_is_infinite():
    assert Exponential(10.0).lr(400, 1.0) == math.inf


@quick
@given(base=st.floats(1e-5, 10.0), steps=RUN, timescale=st.integers(1, 500))
def test_inverse_sqrt(base, steps, timescale, oracle):
    # the formula of Vaswani et al. with warm-up W: min(t / W, sqrt(W / t)), t counted from 0 and past the warm-up
    def build(o):
        return torch_schedulers.LambdaLR(o, lambda t: math.sqrt(timescale / (t + timescale)))

    ours = [InverseSqrt(timescale).lr(step, base) for step in range(steps)]
    assert ours == pytest.approx([rates[0] for rates in oracle.rates(build, [base], steps)], rel=1e-12)


def wsd_by_hand(step, total, decay_steps, shape, low):
    if step <= total - decay_steps:
        return 1.0
    share = (step - (total - decay_steps)) / decay_steps
    fall = {"linear": 1 - share, "cosine": math.cos(math.pi * share) / 2 + 0.5, "sqrt": 1 - share**0.5}[shape]
    return low + (1 - low) * fall


@pytest.mark.parametrize("shape", ["linear", "cosine", "sqrt"])
@pytest.mark.parametrize("decay_steps", [1, 20, 100])
def test_warmup_stable_decay(shape, decay_steps):
    curve = WarmupStableDecay(100, decay_steps / 100, shape, eta_min=0.01)
    ours = [curve.lr(step, 1.0) for step in range(101)]
    assert ours == pytest.approx([wsd_by_hand(step, 100, decay_steps, shape, 0.01) for step in range(101)], rel=1e-12)
    assert curve.lr(500, 1.0) == pytest.approx(0.01)


def test_warmup_stable_decay_without_decay_is_level():
    assert {WarmupStableDecay(10, 0.0).lr(step, 1.0) for step in range(10)} == {1.0}


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: Step(0), "step_size must be an integer of at least 1, got 0"),
        (lambda: Step(2.5), "step_size must be an integer"),
        (lambda: Step(True), "step_size must be an integer"),
        (lambda: Step(3, gamma=0.0), "gamma must be a number above 0, got 0.0"),
        (lambda: Step(3, gamma=math.nan), "gamma must be a number"),
        (lambda: MultiStep("30,60"), r"milestones must be a list of integers such as \[30, 60\], got '30,60'"),
        (lambda: MultiStep(30), "milestones must be a list"),
        (lambda: MultiStep([30, 0.5]), "each of milestones must be an integer"),
        (lambda: MultiStep([-1]), "each of milestones must be an integer of at least 0, got -1"),
        (lambda: Cosine(0), "T_max must be an integer of at least 1"),
        (lambda: Cosine(10, eta_min=-1e-3), "eta_min must be a number of at least 0"),
        (lambda: Linear(start_factor=-0.1), "start_factor must be a number of at least 0 and at most 1, got -0.1"),
        (lambda: Linear(end_factor=1.5), "end_factor must be a number of at least 0 and at most 1"),
        (lambda: Linear(total_iters=0), "total_iters must be an integer of at least 1"),
        (lambda: ConstantFactor(factor=2), "factor must be"),
        (lambda: ConstantFactor(total_iters=0), "total_iters must be"),
        (lambda: Polynomial(power=-1.0), "power must be a number of at least 0"),
        (lambda: WarmupStableDecay(decay="exp"), "decay must be 'linear' or 'cosine' or 'sqrt', got 'exp'"),
        (lambda: WarmupStableDecay(decay_share=20), "decay_share must be a number of at least 0 and at most 1"),
        (lambda: InverseSqrt(0), "timescale must be"),
        (lambda: Exponential("0.9"), "gamma must be a number above 0, got '0.9'"),
    ],
)
def test_options_that_cannot_work_say_what_would(build, says):
    with pytest.raises(ValueError, match=says):
        build()


def test_an_open_length_is_refused_when_used():
    with pytest.raises(ValueError, match="T_max is still automatic"):
        Cosine().lr(0, 0.1)
