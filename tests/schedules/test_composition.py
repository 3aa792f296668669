"""Compositions equal torch's SequentialLR of the same pieces, and mistakes are named."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim import lr_scheduler as torch_schedulers

from dlkit.errors import UsageError
from dlkit.schedules import Sequence, build_schedule


def values(pieces, total, base=0.1, **frame):
    schedule = build_schedule("sequence", {"pieces": pieces}, total_steps=total, **{"steps_per_epoch": 1, **frame})
    return [schedule.lr(step, base) for step in range(total)]


def test_linear_then_cosine_is_sequential_lr(oracle):
    def sequence(optimizer):
        children = [
            torch_schedulers.LinearLR(optimizer, 0.01, total_iters=50),
            torch_schedulers.CosineAnnealingLR(optimizer, 150),
        ]
        return torch_schedulers.SequentialLR(optimizer, children, [50])

    expected = [rates[0] for rates in oracle.rates(sequence, [0.1], 200)]
    assert values("linear 50 from 0.01; cosine rest", 200) == pytest.approx(expected, rel=1e-12, abs=1e-15)


@settings(max_examples=30, deadline=None)
@given(first=st.integers(1, 30), second=st.integers(1, 30), third=st.integers(1, 30), factor=st.floats(0.05, 1.0))
def test_three_pieces_are_sequential_lr(first, second, third, factor, oracle):
    def sequence(optimizer):
        children = [
            torch_schedulers.LinearLR(optimizer, 0.1, 1.0, first),
            torch_schedulers.ConstantLR(optimizer, factor, 10**6),
            torch_schedulers.PolynomialLR(optimizer, third, 2.0),
        ]
        return torch_schedulers.SequentialLR(optimizer, children, [first, first + second])

    total = first + second + third
    ours = values(f"linear {first} from 0.1; constant {second} at {factor!r}; poly rest power=2.0", total)
    expected = [rates[0] for rates in oracle.rates(sequence, [0.1], total)]
    assert ours == pytest.approx(expected, rel=1e-12, abs=1e-13)


def test_levels_join_and_the_last_value_is_held():
    ours = values("linear 10 from 0 to 0.5; cosine 10 from 0.5 to 0.1; constant rest at 0.1", 30, base=1.0)
    assert ours[0] == 0
    assert ours[10] == pytest.approx(0.5)
    assert ours[15] == pytest.approx(0.3)
    assert ours[20:] == pytest.approx([0.1] * 10)
    assert values("cosine 10 to 0.2", 15, base=1.0)[10:] == pytest.approx([0.2] * 5)


def lengths(pieces, total_steps=1000, steps_per_epoch=64):
    """Steps of every piece."""
    curve = build_schedule(
        "sequence", {"pieces": pieces}, total_steps=total_steps, steps_per_epoch=steps_per_epoch
    ).curve
    return [piece.steps for piece in curve.parts]


def test_lengths_in_every_unit():
    pieces = "constant 5%; constant 2.5%; constant 2ep; constant 1.5ep; constant 30; constant 30st; constant rest"
    assert lengths(pieces) == [50, 25, 128, 96, 30, 30, 641]
    assert lengths("constant 0; constant 200%") == [0, 2000]  # the audit says that this is longer than the run


def test_it_follows_a_warmup_and_ends_with_the_run():
    schedule = build_schedule(
        "sequence", {"pieces": "constant 50%; linear rest to 0"}, warmup_steps=20, total_steps=120, steps_per_epoch=10
    )
    assert [piece.steps for piece in schedule.curve.parts] == [50, 50]
    assert schedule.lr(70, 1.0) == 1.0
    assert schedule.lr(120, 1.0) == 0.0


def test_counted_in_epochs():
    schedule = build_schedule(
        "sequence", {"pieces": "constant 1ep; constant rest at 0.5"}, unit="epoch", total_steps=30, steps_per_epoch=10
    )
    assert [schedule.lr(step, 1.0) for step in (0, 9, 10, 29)] == [1.0, 1.0, 0.5, 0.5]


@pytest.mark.parametrize(
    ("pieces", "says"),
    [
        ("", "no pieces; write for example"),
        (" ; ", "no pieces"),
        ("cosine", "in the piece 'cosine': a length must follow the name: 500, 5%, 2ep or rest"),
        ("cosine half", "a length must follow the name"),
        ("cosine rest; constant rest", "`rest` can stand only once"),
        ("constant 100; cosine rest", "the other pieces take 100 of 100 steps; none is left for `rest`"),
        ("cosin rest", "no built-in schedule 'cosin'"),
        ("plateau rest", "plateau cannot be a piece"),
        ("sequence rest", "sequence cannot be a piece"),
        ("cosine rest slowly", "in the piece 'cosine rest slowly': 'slowly' is no word here"),
        ("cosine rest from", "`from` must be a number of at least 0, got ''"),
        ("cosine rest to -1", "`to` must be a number of at least 0, got -1"),
        ("constant rest to 0.5", "constant stays at one level: write `at F`"),
        ("onecycle rest", "a sequence leaves the momentum alone: write cycle_momentum=false"),
        ("cosine rest T_min=3", "no option 'T_min'"),
        ("linear rest from 2", "start_factor must be"),
        ("linear rest", "linear needs `from F` or `to F`"),
    ],
)
def test_mistakes_are_named(pieces, says):
    with pytest.raises(UsageError, match=says):
        values(pieces, 100)


def test_pieces_must_be_text():
    with pytest.raises(ValueError, match="pieces must be a line such as"):
        Sequence(["cosine"])
