from itertools import chain

import pytest
import torch

from dlkit.core.data import BatchPlan


def cut(plan: BatchPlan, epoch: int = 0, start: int = 0) -> list[list[int]]:
    return [positions.tolist() for positions in plan.positions(epoch, start)]


def test_an_epoch_holds_every_sample_once_in_an_order_of_its_own() -> None:
    plan = BatchPlan(103, 10, seed=0, shuffle=True)
    epochs = [cut(plan, epoch) for epoch in range(3)]
    for batches in epochs:
        assert len(batches) == plan.num_batches == 11
        assert sorted(chain(*batches)) == list(range(103))
    assert epochs[0] != epochs[1] != epochs[2]
    assert cut(plan, 1) == epochs[1]
    assert cut(BatchPlan(103, 10, seed=1, shuffle=True)) != epochs[0]
    assert cut(BatchPlan(103, 10, seed=0))[0] == list(range(10))


def test_the_order_does_not_depend_on_the_batch_size() -> None:
    assert list(chain(*cut(BatchPlan(50, 7, 3, shuffle=True)))) == cut(BatchPlan(50, 50, 3, shuffle=True))[0]


@pytest.mark.parametrize("start", [0, 1, 5, 10, 11, 99])
def test_start_skips_batches(start: int) -> None:
    plan = BatchPlan(103, 10, seed=0, shuffle=True)
    assert cut(plan, 2, start) == cut(plan, 2)[start:]


@pytest.mark.parametrize(
    ("size", "drop_last", "expected"),
    [
        (20, False, [10, 10]),
        (21, False, [10, 10, 1]),
        (21, "single", [10, 10]),
        (22, "single", [10, 10, 2]),
        (1, "single", [1]),
        (1, True, []),
        (9, True, []),
        (29, True, [10, 10]),
        (20, True, [10, 10]),
        (0, False, []),
    ],
)
def test_what_is_dropped(size: int, drop_last: bool, expected: list[int]) -> None:
    plan = BatchPlan(size, 10, seed=0, shuffle=True, drop_last=drop_last)
    assert [len(batch) for batch in cut(plan)] == expected
    assert plan.num_batches == len(expected)


def test_batch_size_one_never_drops_with_single() -> None:
    # every batch is single then; only the last would go, and no batch norm could have trained on the others
    assert BatchPlan(3, 1, seed=0, drop_last="single").num_batches == 3


def test_the_order_is_even_over_epochs() -> None:
    plan = BatchPlan(6, 6, seed=0, shuffle=True)
    firsts = torch.tensor([cut(plan, epoch)[0][0] for epoch in range(1200)])
    counts = torch.bincount(firsts, minlength=6).double()
    assert float(((counts - 200) ** 2 / 200).sum()) < 35
