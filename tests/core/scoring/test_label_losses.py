"""Focal and asymmetric losses, and weights by name, against plain loops in float64 and torchvision."""

import math

import pytest
import torch
from torch import nn
from torchvision.ops import sigmoid_focal_loss

from dlkit.config import Loss as Section
from dlkit.core.components import ComponentError
from dlkit.core.data import DataInfo
from dlkit.core.scoring import build_loss

CLASSES = DataInfo("classification", "features", (4,), 3, ("cat", "dog", "owl"), None, None)
LABELS = DataInfo("multilabel", "features", (4,), 3, ("cat", "dog", "owl"), None, None)
NUMBERS = DataInfo("regression", "features", (4,), 2, None, None, None)
OUTPUTS = 3 * torch.randn(7, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
NUMBERED = torch.tensor([0, 2, 1, 1, 0, 0, 2])
HOT = torch.tensor([[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 1, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], dtype=torch.float64)


def build(info, **values):
    targets = NUMBERED if info is CLASSES else HOT
    loss = build_loss(Section(**values), info, targets=lambda: targets, device=torch.device("cpu"))
    if isinstance(loss.function, nn.Module):
        loss.function.double()
    return loss


def value(info, targets=None, outputs=OUTPUTS, **values):
    mean, weight = build(info, **values)(
        outputs, (NUMBERED if info is CLASSES else HOT) if targets is None else targets
    )
    return float(mean), float(weight)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 0.5]])
def test_focal_loss_of_classes_is_the_formula(gamma, weights):
    total = norm = 0.0
    for row, label in zip(OUTPUTS.tolist(), NUMBERED.tolist(), strict=True):
        p = math.exp(row[label]) / sum(map(math.exp, row))
        weight = weights[label] if weights else 1.0
        total += -weight * (1 - p) ** gamma * math.log(p)
        norm += weight
    mean, weight = value(CLASSES, name="focal", gamma=gamma, class_weights=weights)
    assert mean == pytest.approx(total / norm, rel=1e-12) and weight == pytest.approx(norm)


def test_focal_loss_without_focus_is_cross_entropy():
    for targets in (NUMBERED, OUTPUTS.softmax(1)):
        expected = nn.functional.cross_entropy(OUTPUTS, targets)
        assert value(CLASSES, targets, name="focal", gamma=0)[0] == pytest.approx(expected.item(), rel=1e-12)


def test_focal_loss_leaves_out_the_ignored_label():
    kept = NUMBERED != 0
    expected = value(CLASSES, NUMBERED[kept], OUTPUTS[kept], name="focal")
    assert value(CLASSES, name="focal", ignore_index=0) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("gamma", "alpha"), [(2.0, None), (2.0, 0.25), (0.0, 0.9), (0.5, None)])
def test_focal_loss_of_labels_is_torchvisions(gamma, alpha):
    expected = sigmoid_focal_loss(OUTPUTS, HOT, -1 if alpha is None else alpha, gamma, reduction="mean")
    options = {} if alpha is None else {"alpha": alpha}
    mean, weight = value(LABELS, name="focal", gamma=gamma, **options)
    assert mean == pytest.approx(expected.item(), rel=1e-12) and weight == len(HOT)


@pytest.mark.parametrize(
    "options", [{}, {"clip": 0.0}, {"gamma_pos": 1.0, "gamma_neg": 2.0, "clip": 0.2}, {"gamma_neg": 0.5}]
)
def test_asymmetric_loss_is_the_formula(options):
    gamma_neg, gamma_pos, clip = options.get("gamma_neg", 4.0), options.get("gamma_pos", 0.0), options.get("clip", 0.05)
    total = 0.0
    for output, target in zip(OUTPUTS.flatten().tolist(), HOT.flatten().tolist(), strict=True):
        p = 1 / (1 + math.exp(-output))
        shifted = max(p - clip, 0)
        total -= (1 - p) ** gamma_pos * math.log(p) if target else shifted**gamma_neg * math.log(1 - shifted)
    assert value(LABELS, name="asymmetric", **options)[0] == pytest.approx(total / HOT.numel(), rel=1e-10)


@pytest.mark.parametrize(
    "values", [{"name": "focal", "gamma": 0.5}, {"name": "asymmetric"}, {"name": "asymmetric", "gamma_neg": 0.5}]
)
def test_gradients_are_finite_where_everything_is_certain(values):
    outputs = torch.tensor([[200.0, -200.0, 0.0], [-200.0, 200.0, -3.0]], requires_grad=True)
    build_loss(Section(**values), LABELS, targets=lambda: HOT, device=torch.device("cpu"))(
        outputs, torch.tensor([[1.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    )[0].backward()
    assert outputs.grad.isfinite().all()


def test_the_loss_of_labels_is_binary_cross_entropy():
    expected = nn.functional.binary_cross_entropy_with_logits(OUTPUTS, HOT)
    assert value(LABELS) == (pytest.approx(expected.item(), rel=1e-12), len(HOT))


def test_weights_by_name_are_those_of_a_list():
    assert value(CLASSES, class_weights={"dog": 2}) == value(CLASSES, class_weights=[1, 2, 1])
    weight = torch.tensor([1.0, 2, 1], dtype=torch.float64)
    expected = nn.functional.binary_cross_entropy_with_logits(OUTPUTS, HOT, pos_weight=weight)
    assert value(LABELS, class_weights={"dog": 2}) == (pytest.approx(expected.item(), rel=1e-12), len(HOT))


def test_focal_weights_scale_the_positives_of_a_label():
    more = value(LABELS, name="focal", class_weights={"cat": 3})[0] - value(LABELS, name="focal")[0]
    of_cat = sigmoid_focal_loss(OUTPUTS[:, 0], HOT[:, 0], -1, 2.0) * HOT[:, 0]
    assert more == pytest.approx(2 * of_cat.sum().item() / HOT.numel(), rel=1e-10)


def test_balanced_weights_of_positives_are_negatives_per_positive():
    weights = build(LABELS, class_weights="balanced").function.pos_weight
    assert weights.tolist() == pytest.approx([3 / 4, 3 / 4, 1.0], rel=1e-6)  # owl never occurs


@pytest.mark.parametrize(
    ("info", "values", "message"),
    [
        (CLASSES, {"class_weights": {"dgo": 2}}, "'dgo' is none of the classes. Did you mean 'dog'?"),
        (LABELS, {"class_weights": [1.0]}, "1 class weights for 3 labels"),
        (
            LABELS,
            {"name": "asymmetric", "class_weights": {"dog": 2}},
            "class_weights belong to cross_entropy, focal, bce and sum",
        ),
        (CLASSES, {"name": "asymmetric"}, "asymmetric is a loss for multilabel; the task is classification"),
        (
            NUMBERS,
            {"name": "focal"},
            "focal is a loss for classification, multilabel and segmentation; the task is regression",
        ),
        (CLASSES, {"name": "focal", "alpha": 0.25}, "belongs to multilabel"),
        (LABELS, {"name": "focal", "alpha": 2.0}, "between 0 and 1"),
        (LABELS, {"name": "focal", "gamma": -1.0}, "at least 0"),
        (LABELS, {"name": "focal", "ignore_index": 1}, "none to leave out"),
        (LABELS, {"name": "asymmetric", "clip": 1.0}, "less than 1"),
        (LABELS, {"name": "cross_entropy"}, "the targets are 0 or 1 for each label; use bce"),
    ],
)
def test_losses_that_do_not_fit_are_refused(info, values, message):
    with pytest.raises(ComponentError, match=message.replace("?", r"\?")):
        build(info, **values)
