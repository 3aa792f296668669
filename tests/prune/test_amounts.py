"""Amounts: what is understood, how it rounds, and what is refused."""

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from dlkit.errors import UsageError
from dlkit.prune import Amount, parse_amount, parse_share, progress_of


@pytest.mark.parametrize(
    ("text", "share"),
    [("50%", 0.5), ("0.5", 0.5), (".5", 0.5), ("33.3%", 0.333), ("12.5 %", 0.125), ("1e-1", 0.1), ("7%", 0.07)],
)
def test_shares_are_read_as_the_float_that_one_would_write(text, share):
    assert parse_amount(text, None) == Amount(share=share)


@pytest.mark.parametrize(
    ("text", "hint"),
    [("50", "50%"), ("1", "--count 1"), ("100", "--count 100"), ("0", "50%"), ("-3", "50%"), ("0%", "nothing"), ("0.0", "nothing"),
     ("100%", "everything"), ("1.0", "everything"), ("150%", "everything"), ("-10%", "nothing"), ("nan", "everything"),
     ("half", "not a number"), ("", "not a number"), ("inf%", "everything")],
)  # fmt: skip
def test_other_amounts_are_refused_with_a_hint(text, hint):
    with pytest.raises(UsageError, match="--amount") as caught:
        parse_amount(text, None)
    assert hint in str(caught.value)


def test_exactly_one_amount_is_given():
    for given in ((None, None), ("50%", 3)):
        with pytest.raises(UsageError, match="--count"):
            parse_amount(*given)
    with pytest.raises(UsageError, match="at least 1"):
        parse_amount(None, 0)
    assert parse_amount(None, 3).of(100) == 3
    assert parse_share("10%", "--min-keep") == 0.1


@pytest.mark.parametrize("size", range(1, 26))
@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 0.75, 0.9])
def test_counts_round_as_torch_rounds_them(size, share):
    layer = prune.l1_unstructured(nn.Linear(size, 1), "weight", amount=share)
    assert Amount(share=share).of(size) == size - int(layer.weight_mask.sum())


def test_halves_round_to_even():
    assert [Amount(share=0.5).of(size) for size in (1, 3, 5, 7, 9)] == [0, 2, 2, 4, 4]


def test_schedules_rise_to_exactly_one():
    for name in ("agp", "linear"):
        for iterations in range(1, 30):
            parts = progress_of(name, iterations)
            assert parts == sorted(set(parts)) and parts[-1] == 1.0 and parts[0] > 0
    assert progress_of("agp", 2) == [1 - 0.5**3, 1.0] and progress_of("linear", 4) == [0.25, 0.5, 0.75, 1.0]


def test_iterations_count_from_the_original():
    assert [Amount(share=0.9).of(1000, part) for part in progress_of("linear", 3)] == [300, 600, 900]
    assert [Amount(count=10).of(1000, part) for part in progress_of("linear", 4)] == [2, 5, 8, 10]
    assert torch.nn.utils.prune._compute_nparams_toprune(0.5, 5) == Amount(share=0.5).of(5)
