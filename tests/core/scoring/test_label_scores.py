"""Average precision, F1 and thresholds of labels against scikit-learn and plain loops."""

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, average_precision_score, f1_score

from dlkit.core.data import DataInfo
from dlkit.core.scoring import SCORES, average_precisions, decide_labels, f1_of, label_counts, pick_thresholds


def draw(seed, num_samples=60, num_labels=5, levels=None):
    generator = torch.Generator().manual_seed(seed)
    targets = (torch.rand(num_samples, num_labels, generator=generator) < 0.3).float()
    outputs = torch.randn(num_samples, num_labels, generator=generator) + targets
    return (outputs * levels).round() / levels if levels else outputs, targets


def info_of(thresholds, num_labels=5):
    return DataInfo("multilabel", "features", (4,), num_labels, None, None, None, thresholds=thresholds)


@pytest.mark.parametrize("levels", [None, 2, 1])  # with levels, outputs are equal often
@pytest.mark.parametrize("seed", range(5))
def test_average_precision_is_scikit_learns(seed, levels):
    outputs, targets = draw(seed, levels=levels)
    expected = average_precision_score(targets.numpy(), outputs.numpy(), average=None)
    assert average_precisions(outputs, targets).numpy() == pytest.approx(expected, abs=1e-14)


def test_a_label_that_never_occurs_does_not_count():
    outputs, targets = draw(1)
    targets[:, 2] = 0
    assert average_precisions(outputs, targets).isnan().tolist() == [False, False, True, False, False]
    kept = [0, 1, 3, 4]
    found, without = (
        SCORES["multilabel"]().summarize(outputs[:, columns], targets[:, columns]) for columns in (range(5), kept)
    )
    assert (found["map"], found["macro_f1"]) == (without["map"], without["macro_f1"])


@pytest.mark.parametrize("thresholds", [None, (0.2, 0.9, 0.5, 0.01, 0.7)])
def test_the_metrics_are_scikit_learns(thresholds):
    outputs, targets = draw(3)
    found = (outputs.double().sigmoid() >= torch.tensor(thresholds or (0.5,) * 5, dtype=torch.float64)).numpy()
    scores = SCORES["multilabel"](info_of(thresholds))
    metrics, true = scores.summarize(outputs, targets), targets.numpy().astype(bool)
    expected = {
        "map": average_precision_score(true, outputs.numpy()),
        "micro_f1": f1_score(true, found, average="micro"),
        "macro_f1": f1_score(true, found, average="macro", zero_division=0),
        "subset_accuracy": accuracy_score(true, found),
    }
    assert metrics == pytest.approx(expected, abs=1e-14)


def test_micro_f1_adds_up_over_ragged_batches():
    outputs, targets = draw(4)
    scores = SCORES["multilabel"]()
    parts = [scores.ratio(*pair) for pair in zip(outputs.split(13), targets.split(13), strict=True)]
    whole = sum(int(part[0]) for part in parts) / sum(int(part[1]) for part in parts)
    assert whole == scores.summarize(outputs, targets)["micro_f1"]


@pytest.mark.parametrize("levels", [None, 2])
@pytest.mark.parametrize("seed", range(4))
def test_no_threshold_gives_a_better_f1(seed, levels):
    outputs, targets = draw(seed, levels=levels)
    picked = pick_thresholds(outputs, targets)
    best = f1_of(label_counts(decide_labels(outputs, picked), targets))
    for threshold in np.linspace(0, 1, 201).tolist() + outputs.double().sigmoid().flatten().tolist():
        assert (f1_of(label_counts(decide_labels(outputs, (threshold,) * 5), targets)) <= best + 1e-15).all()


def test_a_threshold_lies_midway_and_near_a_half():
    outputs = torch.tensor([0.9, 0.6, 0.2]).logit()[:, None]
    assert pick_thresholds(outputs, torch.tensor([[1.0], [1.0], [0.0]])) == (pytest.approx(0.4),)
    assert pick_thresholds(outputs, torch.tensor([[0.0], [0.0], [0.0]])) == (0.5,)


def test_a_threshold_holds_for_the_samples_that_made_it_where_nothing_is_between_them():
    low = torch.tensor(20.0)
    high = torch.nextafter(low, torch.tensor(30.0))
    outputs, targets = torch.stack([low, high])[:, None], torch.tensor([[0.0], [1.0]])
    assert decide_labels(outputs, pick_thresholds(outputs, targets)).tolist() == [[False], [True]]


def test_probabilities_are_those_of_presence_and_absence():
    outputs, _ = draw(0)
    scores = SCORES["multilabel"]()
    both = scores.probabilities(outputs)
    assert torch.allclose(both.sum(1), torch.ones(60, 5)) and torch.equal(both[:, 1], outputs.sigmoid())
    assert torch.allclose(scores.logits(both), outputs, atol=1e-4)
