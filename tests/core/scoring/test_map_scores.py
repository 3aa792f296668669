"""Scores and losses of maps of classes against plain loops in float64."""

import math

import pytest
import torch
import torch.nn.functional as F

from dlkit.config import Loss
from dlkit.core.components import ComponentError
from dlkit.core.data import IGNORED, DataInfo
from dlkit.core.scoring import SCORES, areas_of, build_loss, dice_of, iou_of

INFO = DataInfo("segmentation", "image", (1, 6, 5), 4, None, None, None)


def draw(seed=0, num_samples=7, num_classes=4, size=(6, 5), ignored=0.2):
    generator = torch.Generator().manual_seed(seed)
    outputs = torch.randn(num_samples, num_classes, *size, generator=generator, dtype=torch.float64)
    targets = torch.randint(
        0, num_classes - 1, (num_samples, *size), generator=generator
    )  # the last class never occurs
    targets[torch.rand(targets.shape, generator=generator) < ignored] = IGNORED
    return outputs, targets


def pixels(outputs, targets):
    """(logits, class) of every pixel that counts."""
    for sample, mask in zip(outputs, targets, strict=True):
        for row in range(mask.shape[0]):
            for column in range(mask.shape[1]):
                if mask[row, column] != IGNORED:
                    yield sample[:, row, column].tolist(), int(mask[row, column])


def loop_counts(outputs, targets):
    counts = [[0] * 4 for _ in range(4)]
    for logits, label in pixels(outputs, targets):
        counts[label][logits.index(max(logits))] += 1
    return counts


def log_probability(logits, label):
    return logits[label] - math.log(sum(math.exp(value) for value in logits))


def loss_of(targets=None, **options):
    return build_loss(Loss(**options), INFO, targets=lambda: targets, device=torch.device("cpu"))


def test_counts_iou_and_dice_are_those_of_loops():
    outputs, targets = draw()
    outputs[:, 3] -= 100  # neither there nor predicted
    scores, expected = SCORES["segmentation"](INFO), loop_counts(outputs, targets)
    counts = scores.counts(outputs, targets)
    assert counts.tolist() == expected
    ious, dices = [], []
    for label in range(4):
        hits, true, said = expected[label][label], sum(expected[label]), sum(row[label] for row in expected)
        if true + said:
            ious.append(hits / (true + said - hits))
            dices.append(2 * hits / (true + said))
    assert (
        len(ious) == 3
        and iou_of(areas_of(counts))[:3].tolist() == ious
        and dice_of(areas_of(counts))[:3].tolist() == dices
    )
    assert math.isnan(iou_of(areas_of(counts))[3]) and math.isnan(dice_of(areas_of(counts))[3])
    right, total = sum(expected[label][label] for label in range(4)), sum(map(sum, expected))
    wanted = {"miou": sum(ious) / 3, "dice": sum(dices) / 3, "pixel_accuracy": right / total}
    assert scores.summarize(outputs, targets) == pytest.approx(wanted, rel=1e-15)


def test_counts_add_up_over_ragged_batches_whatever_their_order():
    outputs, targets = draw(1)
    scores = SCORES["segmentation"](INFO)
    parts = [scores.counts(*pair) for pair in zip(outputs.split(3), targets.split(3), strict=True)]
    assert torch.equal(sum(reversed(parts)), scores.counts(outputs, targets))
    right, counted = scores.ratio(outputs, targets)
    assert (int(right), int(counted)) == (int(sum(parts).diag().sum()), int(sum(parts).sum()))


@pytest.mark.parametrize("weights", [None, [0.5, 1.0, 2.0, 4.0]])
@pytest.mark.parametrize("gamma", [None, 2.0, 0.5])
def test_cross_entropy_and_focal_loss_are_those_of_loops(weights, gamma):
    outputs, targets = draw(2)
    options = {"name": "cross_entropy"} if gamma is None else {"name": "focal", "gamma": gamma}
    loss = loss_of(**options, class_weights=weights)
    loss.function.double()
    found, weight = loss(outputs, targets)
    total = shares = 0.0
    for logits, label in pixels(outputs, targets):
        share, log = (weights or [1.0] * 4)[label], log_probability(logits, label)
        total += share * -log * (1 - math.exp(log)) ** (gamma or 0)
        shares += share
    assert float(found) == pytest.approx(total / shares, rel=1e-13) and float(weight) == pytest.approx(
        shares, rel=1e-15
    )


def loop_dice(outputs, targets, weights, smooth):
    """(loss, weight) of each picture."""
    for sample, mask in zip(outputs, targets, strict=True):
        pairs = list(pixels(sample[None], mask[None]))
        dices = []
        for label in range(4):
            shares = [math.exp(log_probability(logits, label)) for logits, _ in pairs]
            hits = sum(share for share, (_, true) in zip(shares, pairs, strict=True) if true == label)
            there = sum(true == label for _, true in pairs)
            dices.append((2 * hits + smooth) / (sum(shares) + there + smooth))
        yield 1 - sum(dices) / 4, sum(weights[true] for _, true in pairs)


@pytest.mark.parametrize("weights", [None, [0.5, 1.0, 2.0, 4.0]])
def test_dice_and_sums_are_those_of_loops(weights):
    outputs, targets = draw(5)
    given = weights or [1.0] * 4
    parts = list(loop_dice(outputs, targets, given, 2.0))
    dice = sum(loss * weight for loss, weight in parts) / sum(weight for _, weight in parts)
    terms = {"cross_entropy": 2, "dice": {"weight": 0.5, "smooth": 2.0}}
    total = loss_of(name="sum", terms=terms, class_weights=weights)
    plain = loss_of(name="cross_entropy", class_weights=weights)
    for loss in (total, plain):
        loss.function.double()
    found, weight = total(outputs, targets)
    assert float(found) == pytest.approx(2 * float(plain(outputs, targets)[0]) + 0.5 * dice, rel=1e-13)
    assert float(weight) == pytest.approx(sum(weight for _, weight in parts), rel=1e-15)
    if weights is None:
        assert float(loss_of(name="dice", smooth=2.0)(outputs, targets)[0]) == pytest.approx(dice, rel=1e-13)


@pytest.mark.parametrize("name", ["cross_entropy", "focal", "dice", "sum"])
def test_ragged_batches_weighted_by_what_they_tell_are_the_whole(name):
    outputs, targets = draw(6, num_samples=9)
    terms = {"terms": {"cross_entropy": 1, "dice": 1}} if name == "sum" else {}
    loss = loss_of(name=name, **terms)
    parts = [loss(*pair) for pair in zip(outputs.split(4), targets.split(4), strict=True)]
    whole, weight = loss(outputs, targets)
    assert sum(float(one) * float(share) for one, share in parts) / float(weight) == pytest.approx(
        float(whole), rel=1e-13
    )


def test_balanced_weights_are_inverse_frequencies_of_pixels():
    weights = loss_of(torch.tensor([10, 20, 0, 5]), name="cross_entropy", class_weights="balanced").class_weights
    inverse = torch.tensor([1 / 10, 1 / 20, 0, 1 / 5])
    assert torch.allclose(weights, inverse / inverse[[0, 1, 3]].mean())


def test_terms_that_cannot_be_are_refused():
    for terms, words in (
        ({"dice": {"smoth": 1}}, r"of dice: unknown key for DiceLoss\. Did you mean 'smooth'"),
        ({}, "losses and their weights"),
        ({"dice": 0}, "weight of dice must be a number above 0"),
        ({"bce": 1}, "bce cannot be a term"),
    ):
        with pytest.raises(ComponentError, match=words):
            loss_of(name="sum", terms=terms)


@pytest.mark.parametrize(("name", "function"), [("cross_entropy", F.cross_entropy), ("NLLLoss", F.nll_loss)])
def test_outputs_may_lie_channels_last(name, function):
    outputs, targets = draw(4)
    wanted = function(outputs.requires_grad_(), targets, ignore_index=IGNORED)
    lying = outputs.detach().to(memory_format=torch.channels_last).requires_grad_()
    found, _ = loss_of(name=name)(lying, targets)
    assert torch.allclose(found, wanted, rtol=1e-13)
    assert torch.allclose(*torch.autograd.grad(found, lying), *torch.autograd.grad(wanted, outputs), rtol=1e-13)


def test_batches_of_ignored_pixels_alone_weigh_nothing():
    outputs, targets = draw(3)
    loss, weight = loss_of()(outputs, torch.full_like(targets, IGNORED))
    assert (float(loss), weight) == (0.0, 0.0)


def test_losses_of_other_targets_are_refused():
    for name, words in (("bce", "no loss of maps"), ("asymmetric", "for multilabel"), ("MSELoss", "no loss of maps")):
        with pytest.raises(ComponentError, match=words):
            loss_of(name=name)
