import pytest
import torch

from dlkit.core.data import draw_fold
from dlkit.errors import DataError


def folds_of(targets, folds, groups=None, seed=0):
    return torch.stack([draw_fold(targets, fold, folds, seed=seed, groups=groups) for fold in range(1, folds + 1)])


def test_folds_hold_each_sample_once_and_classes_evenly():
    targets = torch.tensor([0] * 23 + [1] * 40 + [2] * 11)
    held = folds_of(targets, 5)
    assert (held.sum(0) == 1).all() and int(held.sum(1).max() - held.sum(1).min()) <= 1
    for label in range(3):
        counts = [int((targets[fold] == label).sum()) for fold in held]
        assert max(counts) - min(counts) <= 1
    assert not torch.equal(held, folds_of(targets, 5, seed=1)) and torch.equal(held, folds_of(targets, 5))


def test_targets_that_are_numbers_are_dealt_evenly():
    held = folds_of(torch.randn(17, 2), 4)
    assert (held.sum(0) == 1).all() and sorted(held.sum(1).tolist()) == [4, 4, 4, 5]


def test_groups_stay_whole_and_classes_follow():
    groups = torch.arange(60) // 3
    targets = (groups % 2).long()
    held = folds_of(targets, 5, groups)
    assert (held.sum(0) == 1).all()
    for fold in held:
        assert not set(groups[fold].tolist()) & set(groups[~fold].tolist())
        assert (targets[fold] == 0).sum() == (targets[fold] == 1).sum() == 6


def test_no_fold_is_empty_and_too_many_are_refused():
    groups = torch.tensor([0] * 50 + [1, 2, 3])
    assert (folds_of(torch.zeros(53), 4, groups).sum(1) > 0).all()
    with pytest.raises(DataError, match="5 folds need as many training groups, and there are 4"):
        draw_fold(torch.zeros(53), 1, 5, seed=0, groups=groups)
