"""AUROC, average precision and calibration error, against scikit-learn and torchmetrics."""

import pytest
import torch

from dlkit.core.evaluation import (
    Predictions,
    calibration_error,
    confidence_bins,
    ranking_scores,
    save_reliability_picture,
)


def predictions(num_samples=400, num_classes=4, *, seed=0, levels=None):
    generator = torch.Generator().manual_seed(seed)
    outputs = 2 * torch.randn(num_samples, num_classes, generator=generator)
    if levels:  # many ties
        outputs = (outputs * levels).round() / levels
    targets = torch.where(
        torch.rand(num_samples, generator=generator) < 0.5,
        outputs.argmax(1),
        torch.randint(num_classes, (num_samples,), generator=generator),
    )
    return Predictions(outputs, targets, torch.arange(num_samples))


@pytest.mark.parametrize("levels", [None, 1])
@pytest.mark.parametrize("num_classes", [2, 4, 7])
def test_ranking_scores_are_those_of_scikit_learn(num_classes, levels):
    metrics = pytest.importorskip("sklearn.metrics")
    found = predictions(num_classes=num_classes, levels=levels)
    shares, own = found.outputs.double().softmax(1), torch.eye(num_classes)[found.targets]
    scores = ranking_scores(found)
    assert scores["auroc"] == pytest.approx(metrics.roc_auc_score(own, shares, average="macro"), abs=1e-12)
    assert scores["average_precision"] == pytest.approx(
        metrics.average_precision_score(own, shares, average="macro"), abs=1e-12
    )


def test_classes_that_are_not_there_do_not_count():
    metrics = pytest.importorskip("sklearn.metrics")
    found = predictions(num_classes=5)
    found = found.without(3)
    shares = found.outputs.double().softmax(1)
    wanted = [metrics.roc_auc_score(found.targets == label, shares[:, label]) for label in (0, 1, 2, 4)]
    assert ranking_scores(found)["auroc"] == pytest.approx(sum(wanted) / 4, abs=1e-12)


def test_classes_are_ranked_some_at_a_time():
    found = predictions(num_classes=7)
    assert ranking_scores(found, at_once=2 * len(found.targets)) == pytest.approx(ranking_scores(found), abs=1e-15)


@pytest.mark.parametrize("num_classes", [2, 4, 50])
def test_calibration_error_is_that_of_torchmetrics(num_classes):
    found = predictions(num_classes=num_classes, seed=1)
    bins = confidence_bins(found)
    torchmetrics = pytest.importorskip("torchmetrics.functional.classification")
    wanted = torchmetrics.multiclass_calibration_error(
        found.outputs.double().softmax(1), found.targets, num_classes, n_bins=15, norm="l1"
    )
    assert calibration_error(bins) == pytest.approx(float(wanted), abs=1e-6)
    assert sum(row.count for row in bins) == len(found.targets) and len(bins) == 15


def test_calibration_error_by_hand():
    outputs = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.45, 0.55]], dtype=torch.float64).log()
    found = Predictions(outputs, torch.tensor([0, 1, 1, 1]), torch.arange(4))
    # two of 0.9, half right; 0.6 and 0.55 in one bin (8/15 to 9/15), both right
    assert calibration_error(confidence_bins(found)) == pytest.approx((2 * 0.4 + 2 * (1 - 0.575)) / 4)


def test_calibration_error_of_labels_is_that_of_torchmetrics():
    generator = torch.Generator().manual_seed(2)
    outputs, targets = torch.randn(300, 4, generator=generator), torch.rand(300, 4, generator=generator).round()
    bins = confidence_bins(Predictions(outputs, targets, torch.arange(300)), of_labels=True)
    torchmetrics = pytest.importorskip("torchmetrics.functional.classification")
    shares = outputs.double().sigmoid().flatten()
    wanted = torchmetrics.binary_calibration_error(shares, targets.flatten().long(), n_bins=15, norm="l1")
    assert calibration_error(bins) == pytest.approx(float(wanted), abs=1e-6)
    assert sum(row.count for row in bins) == 1200


@pytest.mark.parametrize("of_labels", [False, True])
def test_the_picture(tmp_path, of_labels):
    save_reliability_picture(tmp_path / "a.png", confidence_bins(predictions()), of_labels=of_labels)
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
