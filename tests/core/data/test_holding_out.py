import pytest
import torch

from dlkit.core.data import Stream, hold_out, pick_limit
from dlkit.errors import DataError


def labels(*counts: int) -> torch.Tensor:
    found = torch.cat([torch.full((count,), label) for label, count in enumerate(counts)])
    return found[torch.randperm(len(found), generator=torch.Generator().manual_seed(0))]


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.333, 0.5, 0.9])
@pytest.mark.parametrize("counts", [(50, 50), (90, 30, 21), (10,) * 10, (400, 12, 13)])
def test_the_two_parts_are_all_samples_once_and_hold_every_class_in_proportion(
    counts: tuple[int, ...], fraction: float
) -> None:
    targets = labels(*counts)
    kept, held = hold_out(targets, fraction, seed=0, stream=Stream.VAL)
    assert torch.equal(torch.cat([kept, held]).sort().values, torch.arange(len(targets)))
    assert len(held) == round(len(targets) * fraction)
    assert torch.equal(kept, kept.sort().values) and torch.equal(held, held.sort().values)
    for label, count in enumerate(counts):
        assert abs(int((targets[held] == label).sum()) - count * fraction) <= 1


def test_the_seed_and_the_stream_decide() -> None:
    targets = labels(100, 100)
    first, again = (hold_out(targets, 0.2, seed=4, stream=Stream.VAL)[1] for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, hold_out(targets, 0.2, seed=5, stream=Stream.VAL)[1])
    assert not torch.equal(first, hold_out(targets, 0.2, seed=4, stream=Stream.TEST)[1])


def test_every_sample_is_held_out_as_often_as_any_other() -> None:
    targets = labels(30, 10)
    times = torch.zeros(40)
    for seed in range(2000):
        times[hold_out(targets, 0.2, seed=seed, stream=Stream.VAL)[1]] += 1
    assert float(((times - 400) ** 2 / 400 / 0.8).sum()) < 100


@pytest.mark.parametrize(
    "targets", [labels(100, 1), labels(*[1] * 30), torch.rand(50, 2)], ids=["rare", "all rare", "floats"]
)
def test_without_enough_of_every_class_the_draw_is_plain(targets: torch.Tensor) -> None:
    kept, held = hold_out(targets, 0.1, seed=0, stream=Stream.VAL)
    assert len(held) == round(len(targets) * 0.1)
    assert torch.equal(torch.cat([kept, held]).sort().values, torch.arange(len(targets)))


@pytest.mark.parametrize(("size", "fraction", "count"), [(2, 0.1, 1), (2, 0.9, 1), (3, 0.01, 1), (5, 0.99, 4)])
def test_both_parts_hold_at_least_one(size: int, fraction: float, count: int) -> None:
    kept, held = hold_out(torch.rand(size, 1), fraction, seed=0, stream=Stream.VAL)
    assert (len(kept), len(held)) == (size - count, count)


@pytest.mark.parametrize("size", [0, 1])
def test_too_few_samples_are_told(size: int) -> None:
    with pytest.raises(DataError, match=f"{size} training sample.* cannot be split"):
        hold_out(torch.zeros(size, dtype=torch.int64), 0.5, seed=0, stream=Stream.VAL)


def test_a_limit_picks_by_seed() -> None:
    assert torch.equal(pick_limit(10, None, seed=0), torch.arange(10))
    assert torch.equal(pick_limit(10, 10, seed=0), torch.arange(10))
    picked = pick_limit(1000, 100, seed=0)
    assert len(picked.unique()) == 100 and torch.equal(picked, picked.sort().values)
    assert torch.equal(picked, pick_limit(1000, 100, seed=0))
    assert not torch.equal(picked, pick_limit(1000, 100, seed=1))
    # a smaller limit is part of a larger one, so that growing it adds samples
    assert set(pick_limit(1000, 50, seed=0).tolist()) < set(picked.tolist())


def grouped(num_groups: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Targets of three classes, of 1:3:8, in groups of 1 to 12 samples, most of whose samples are of one class."""
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.randint(1, 13, (num_groups,), generator=generator)
    own = torch.multinomial(torch.tensor([1.0, 3.0, 8.0]), num_groups, replacement=True, generator=generator)
    groups, mostly = torch.arange(num_groups).repeat_interleave(sizes), own.repeat_interleave(sizes)
    others = torch.randint(3, (len(groups),), generator=generator)
    return torch.where(torch.rand(len(groups), generator=generator) < 0.9, mostly, others), groups


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("fraction", [0.1, 0.3])
def test_groups_are_held_out_whole_and_classes_keep_their_shares(fraction: float, seed: int) -> None:
    targets, groups = grouped(150, seed)
    kept, held = hold_out(targets, fraction, seed=seed, stream=Stream.VAL, groups=groups)
    assert torch.equal(torch.cat([kept, held]).sort().values, torch.arange(len(targets)))
    assert not set(groups[kept].tolist()) & set(groups[held].tolist())
    for label in range(3):
        found, wanted = int((targets[held] == label).sum()), float((targets == label).sum()) * fraction
        assert abs(found - wanted) <= max(3, 0.1 * wanted), (label, found, wanted)
    again, other = (hold_out(targets, fraction, seed=n, stream=Stream.VAL, groups=groups)[1] for n in (seed, seed + 9))
    assert torch.equal(held, again) and not torch.equal(held, other)


@pytest.mark.parametrize("seed", range(6))
def test_a_class_of_one_group_stays_where_it_is_trained_on(seed: int) -> None:
    targets = torch.tensor([0] * 6 + [1] * 2 + [0] * 2 + [2] * 3)
    groups = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 4, 4, 4])
    kept, held = hold_out(targets, 0.4, seed=seed, stream=Stream.VAL, groups=groups)
    assert set(targets[kept].tolist()) == {0, 1, 2} and len(held)


@pytest.mark.parametrize("seed", range(3))
def test_groups_that_are_all_too_large_give_one(seed: int) -> None:
    targets, groups = torch.arange(40) % 2, torch.arange(40) // 20
    kept, held = hold_out(targets, 0.1, seed=seed, stream=Stream.VAL, groups=groups)
    assert (len(kept), len(held)) == (20, 20)
