"""Restarts, one-cycle and cyclic rates equal torch's classes, momentum included."""

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.optim import lr_scheduler as torch_schedulers

from dlkit.schedules import CosineRestarts, Cyclic, OneCycle

BASE_LRS = st.lists(st.floats(1e-5, 10.0), min_size=1, max_size=3)
quick = settings(max_examples=60, deadline=None)


def assert_same(curve, build, base_lrs, steps, oracle, kind="sgd"):
    rates, momenta = oracle.follow(build, base_lrs, steps, kind)
    for step in range(steps):
        for base, theirs in zip(base_lrs, rates[step], strict=True):
            assert curve.lr(step, base) == pytest.approx(theirs, rel=1e-12, abs=1e-15 * base)
        if getattr(curve, "cycle_momentum", False):
            assert curve.momentum(step) == pytest.approx(momenta[step], rel=1e-12)


@quick
@given(
    base_lrs=BASE_LRS,
    T_0=st.integers(1, 40),
    T_mult=st.integers(1, 4),
    eta_min=st.floats(0, 0.01),
    steps=st.integers(1, 300),
)
def test_cosine_restarts(base_lrs, T_0, T_mult, eta_min, steps, oracle):
    def build(o):
        return torch_schedulers.CosineAnnealingWarmRestarts(o, T_0, T_mult, eta_min)

    assert_same(CosineRestarts(T_0, T_mult, eta_min), build, base_lrs, steps, oracle)


def test_cosine_restarts_exactly_where_cycles_begin():
    curve = CosineRestarts(1, 3)
    starts = [(3**n - 1) // 2 for n in range(25)]  # far beyond where a logarithm in floats is exact
    assert all(curve.cycle(start) == (0, 3**n) for n, start in enumerate(starts))


ONE_CYCLE = st.fixed_dictionaries(
    {
        "pct_start": st.floats(0.0, 1.0),
        "anneal_strategy": st.sampled_from(["cos", "linear"]),
        "base_momentum": st.floats(0.5, 0.85),
        "max_momentum": st.floats(0.86, 0.99),
        "div_factor": st.floats(1.0, 100.0),
        "final_div_factor": st.floats(1.0, 1e5),
        "three_phase": st.booleans(),
    }
)


@quick
@given(base_lrs=BASE_LRS, total=st.integers(1, 150), options=ONE_CYCLE, kind=st.sampled_from(["sgd", "adamw"]))
def test_one_cycle(base_lrs, total, options, kind, oracle):
    assume(options["pct_start"] * total != 1.0)  # where torch divides by zero
    # a phase of nearly no length (pct_start * total just off 1) magnifies rounding in both
    assume(abs(options["pct_start"] * total - 1) > 1e-3 and abs((2 * options["pct_start"] - 1) * total - 1) > 1e-3)

    def build(o):
        return torch_schedulers.OneCycleLR(o, base_lrs, total_steps=total, **options)

    assert_same(OneCycle(total, **options), build, base_lrs, total, oracle, kind)


@pytest.mark.parametrize("total", [1, 2, 3, 4, 5, 10, 11, 97])
@pytest.mark.parametrize("pct_start", [0.0, 0.1, 0.25, 0.3, 0.5, 0.99, 1.0])
@pytest.mark.parametrize("three_phase", [False, True])
@pytest.mark.parametrize("anneal_strategy", ["cos", "linear"])
def test_one_cycle_of_small_runs(total, pct_start, three_phase, anneal_strategy, oracle):
    curve = OneCycle(total, pct_start, anneal_strategy, three_phase=three_phase)

    def build(o):
        return torch_schedulers.OneCycleLR(
            o, 0.1, total, pct_start=pct_start, anneal_strategy=anneal_strategy, three_phase=three_phase
        )

    if pct_start * total == 1:
        with pytest.raises(ZeroDivisionError):
            oracle.rates(build, [0.1], total)
        assert curve.lr(0, 0.1) == 0.1
        assert curve.momentum(0) == 0.85
    else:
        assert_same(curve, build, [0.1], total, oracle)


def test_one_cycle_holds_its_last_value_where_torch_rebounds_or_goes_negative():
    for strategy in ("cos", "linear"):
        curve = OneCycle(10, anneal_strategy=strategy)
        last = curve.lr(9, 1.0)
        assert last == pytest.approx(1.0 / 25 / 1e4)
        assert [curve.lr(step, 1.0) for step in (10, 11, 1000)] == [last] * 3


def test_one_cycle_with_its_momentum_left_alone(oracle):
    curve = OneCycle(20, cycle_momentum=False)
    assert curve.momentum(3) is None

    def build(o):
        return torch_schedulers.OneCycleLR(o, 0.1, 20, cycle_momentum=False)

    assert_same(curve, build, [0.1], 20, oracle)


def test_torch_overwrites_a_momentum_that_was_given_and_so_do_we(oracle):
    _, momenta = oracle.follow(lambda o: torch_schedulers.OneCycleLR(o, 0.1, 20), [0.1], 20)
    assert momenta[0] == OneCycle(20).momentum(0) == 0.95


CYCLIC = st.fixed_dictionaries(
    {
        "base_lr": st.floats(0.0, 1.0),
        "step_size_up": st.integers(1, 30),
        "step_size_down": st.none() | st.integers(0, 30),
        "mode": st.sampled_from(["triangular", "triangular2", "exp_range"]),
        "gamma": st.floats(0.9, 1.0),
        "base_momentum": st.floats(0.5, 0.85),
        "max_momentum": st.floats(0.86, 0.99),
    }
)


@quick
@given(base_lrs=BASE_LRS, options=CYCLIC, steps=st.integers(1, 200), kind=st.sampled_from(["sgd", "adamw"]))
def test_cyclic(base_lrs, options, steps, kind, oracle):
    def build(o):
        return torch_schedulers.CyclicLR(o, max_lr=base_lrs, **options)

    curve = Cyclic(**options)
    rates, momenta = oracle.follow(build, base_lrs, steps, kind)
    for step in range(steps):
        for base, theirs in zip(base_lrs, rates[step], strict=True):
            # torch takes the place in the cycle as the difference of two floats near step / cycle
            assert curve.lr(step, base) == pytest.approx(theirs, rel=1e-12, abs=1e-12 * max(base, options["base_lr"]))
        assert curve.momentum(step) == pytest.approx(momenta[step], rel=1e-12)


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (
            lambda: OneCycle(10, pct_start=30),
            "pct_start must be .* at most 1, got 30: it is a share of the steps, 0.3 for",
        ),
        (lambda: OneCycle(0), "total_steps must be"),
        (lambda: OneCycle(anneal_strategy="cosine"), "anneal_strategy must be 'cos' or 'linear', got 'cosine'"),
        (lambda: OneCycle(div_factor=0), "div_factor must be a number above 0"),
        (lambda: OneCycle(cycle_momentum="no"), "cycle_momentum must be true or false, got 'no'"),
        (lambda: OneCycle(base_momentum=2), "base_momentum must be"),
        (lambda: CosineRestarts(0), "T_0 must be an integer of at least 1"),
        (lambda: CosineRestarts(10, T_mult=1.5), "T_mult must be an integer of at least 1, got 1.5"),
        (lambda: Cyclic(0.1, step_size_up=0), "step_size_up must be"),
        (lambda: Cyclic(0.1, mode="sawtooth"), "mode must be 'triangular' or"),
    ],
)
def test_options_that_cannot_work_say_what_would(build, says):
    with pytest.raises(ValueError, match=says):
        build()
