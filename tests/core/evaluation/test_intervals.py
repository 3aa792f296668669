"""Intervals of metrics, against scipy's for shares, and against the spread over data drawn anew for the rest."""

import pytest
import torch
from scipy.stats import binomtest
from torch.nn.functional import cross_entropy, mse_loss

from dlkit.core.data import DataInfo
from dlkit.core.evaluation import Predictions, map_intervals, metric_intervals, share_interval
from dlkit.core.scoring import Scoring, WeightedLoss, class_areas, pick_precision

CPU = pick_precision("off", torch.device("cpu"))
OF_CLASSES = Scoring(WeightedLoss(cross_entropy, "test"), CPU, "classification")


@pytest.mark.parametrize(("right", "count"), [(0, 1), (1, 1), (0, 40), (39, 40), (40, 40), (700, 1000)])
def test_shares_have_wilsons_interval(right, count):
    wanted = binomtest(right, count).proportion_ci(0.95, method="wilson")
    assert share_interval(right / count, count) == pytest.approx((wanted.low, wanted.high), abs=1e-12)


def of_classes(size, seed):
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(3, (size,), generator=generator)
    outputs = torch.randn(size, 3, generator=generator)
    outputs[torch.arange(size), targets] += 1
    return Predictions(outputs, targets, torch.arange(size))


def test_the_loss_lies_as_often_within_as_it_must():
    """Of 40 splits about 38 hold the loss of a large one; that 34 or fewer do has a chance of 1 in 500."""
    truth = float(cross_entropy(*(getattr(of_classes(200_000, 99), name) for name in ("outputs", "targets"))))
    held = 0
    for seed in range(40):
        low, high = metric_intervals({"loss": 0.0, "accuracy": 0.5}, of_classes(150, seed), OF_CLASSES)["loss"]
        held += low <= truth <= high
    assert 34 < held <= 40


def test_each_metric_that_has_one_and_the_same_ones_each_time():
    found = metric_intervals({"loss": 1.0, "accuracy": 0.5, "ece": 0.1}, of_classes(50, 0), OF_CLASSES)
    assert list(found) == ["loss", "accuracy"] and found["accuracy"] == share_interval(0.5, 50)
    assert found == metric_intervals({"loss": 1.0, "accuracy": 0.5, "ece": 0.1}, of_classes(50, 0), OF_CLASSES)


def test_numbers_are_in_the_units_of_the_data():
    info = DataInfo("regression", "features", (1,), 1, None, None, None, target_mean=(5.0,), target_std=(10.0,))
    generator = torch.Generator().manual_seed(0)
    outputs, targets = torch.zeros(400, 1), torch.randn(400, 1, generator=generator)
    scoring = Scoring(WeightedLoss(mse_loss, "test"), CPU, "regression", info=info)
    errors = 10 * targets.abs().double()
    low, high = metric_intervals({"mae": 8.0}, Predictions(outputs, targets, torch.arange(400)), scoring)["mae"]
    middle, half = float(errors.mean()), 1.96 * float(errors.std()) / 20  # of means, by the central limit
    assert (low, high) == pytest.approx((middle - half, middle + half), abs=0.2 * half)


def test_very_many_outputs_and_a_single_sample_have_shares_alone(monkeypatch):
    one = Predictions(torch.zeros(1, 3), torch.zeros(1, dtype=torch.int64), torch.arange(1))
    assert list(metric_intervals({"loss": 1.0, "accuracy": 1.0}, one, OF_CLASSES)) == ["accuracy"]
    wide = Predictions(torch.zeros(4, 2**18), torch.zeros(4, dtype=torch.int64), torch.arange(4))
    assert list(metric_intervals({"loss": 1.0, "accuracy": 1.0}, wide, OF_CLASSES)) == ["accuracy"]


def test_intervals_of_maps_draw_whole_pictures():
    generator = torch.Generator().manual_seed(3)
    true, said = torch.randint(0, 3, (2, 60, 8, 8), generator=generator)
    said = torch.where(torch.rand(60, 1, 1, generator=generator) < 0.7, true, said)  # whole pictures are right or wrong
    areas = class_areas(said, true, 4)
    found, rows = map_intervals({"loss": 1.0, "miou": 0.5, "pixel_accuracy": 0.5}, areas), []
    draws = torch.Generator().manual_seed(0)
    for _ in range(200):
        drawn = torch.randint(60, (60,), generator=draws)
        rows.append((said[drawn] == true[drawn]).double().mean().item())
    low, high = (
        torch.tensor(rows, dtype=torch.float64).quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    )
    assert list(found) == ["miou", "pixel_accuracy"] and found["pixel_accuracy"] == pytest.approx(
        (low, high), abs=1e-12
    )
    assert map_intervals({"miou": 0.5}, areas[:1]) == {}
