import pytest
import torch
from torch import nn

from dlkit.config import Loss as Section
from dlkit.core.components import ComponentError
from dlkit.core.data import DataInfo
from dlkit.core.scoring import build_loss
from dlkit.registry import entries

CLASSES = DataInfo("classification", "features", (4,), 3, None, None, None)
NUMBERS = DataInfo("regression", "features", (4,), 2, None, None, None)
LABELLED = DataInfo("multilabel", "features", (4,), 3, ("cat", "dog", "owl"), None, None)
HOT = torch.tensor([[1.0, 0, 0], [1, 1, 0], [0, 0, 0], [0, 1, 0], [1, 0, 0], [1, 1, 0]])
LABELS = torch.tensor([0, 0, 0, 1, 1, 2])


def build(info=CLASSES, **values):
    return build_loss(Section(**values), info, targets=lambda: LABELS, device=torch.device("cpu"))


def test_auto_follows_the_task():
    assert isinstance(build().function, nn.CrossEntropyLoss)
    assert isinstance(build(NUMBERS).function, nn.MSELoss)


def test_mean_and_weight_of_plain_cross_entropy():
    outputs = torch.randn(6, 3)
    loss, weight = build(label_smoothing=0.1)(outputs, LABELS)
    assert loss == nn.functional.cross_entropy(outputs, LABELS, label_smoothing=0.1) and weight == 6


def test_weight_with_class_weights_is_their_sum():
    loss = build(class_weights=[1.0, 2.0, 4.0])
    outputs = torch.randn(6, 3)
    mean, weight = loss(outputs, LABELS)
    assert weight == 3 * 1 + 2 * 2 + 4
    summed = nn.functional.cross_entropy(outputs, LABELS, weight=torch.tensor([1.0, 2, 4]), reduction="sum")
    assert mean * weight == pytest.approx(summed.item(), rel=1e-6)


def test_ignored_targets_do_not_weigh():
    mean, weight = build(ignore_index=1)(torch.randn(6, 3), LABELS)
    assert weight == 4 and mean.isfinite()


def test_balanced_weights_are_inverse_frequencies_with_mean_one():
    weights = build(class_weights="balanced").class_weights
    assert weights.mean().item() == pytest.approx(1)
    assert (weights * torch.tensor([3.0, 2.0, 1.0])).std().item() == pytest.approx(0, abs=1e-6)


def test_mixed_targets_are_probabilities():
    outputs, probabilities = torch.randn(6, 3), torch.rand(6, 3).softmax(1)
    loss, weight = build()(outputs, probabilities)
    assert (
        loss.item() == pytest.approx((-(probabilities * outputs.log_softmax(1)).sum(1)).mean().item(), rel=1e-6)
        and weight == 6
    )


def test_squared_error_on_classes_takes_one_hot_rows():
    outputs = torch.randn(6, 3)
    loss, _ = build(name="mse")(outputs, LABELS)
    assert loss.item() == pytest.approx((outputs - nn.functional.one_hot(LABELS, 3)).square().mean().item())


def test_cross_entropy_on_numbers_is_refused():
    with pytest.raises(ComponentError, match="needs class labels"):
        build(NUMBERS, name="cross_entropy")


def test_class_weights_belong_to_cross_entropy():
    with pytest.raises(ComponentError, match="belong to cross_entropy, focal, bce and sum, not to mse"):
        build(name="mse", class_weights=[1.0, 1.0, 1.0])
    with pytest.raises(ComponentError, match="2 class weights for 3 classes"):
        build(class_weights=[1.0, 1.0])


def test_a_function_or_class_by_import_path():
    assert (
        build(NUMBERS, name="torch.nn.functional:smooth_l1_loss", beta=0.5)(torch.ones(2, 2), torch.zeros(2, 2))[0]
        == 0.75
    )
    assert build(NUMBERS, name="torch.nn:HuberLoss", delta=0.5)(torch.ones(2, 2), torch.zeros(2, 2))[0] == 0.375


@pytest.mark.parametrize(
    "name", [name for name in entries("losses") if name not in ("dice", "sum")]
)  # see test_map_scores.py
def test_every_loss_of_the_registry_gives_a_finite_number(name):
    is_of_labels = name == "asymmetric"
    loss = build(LABELLED if is_of_labels else CLASSES, name=name)
    outputs = torch.randn(6, 3).log_softmax(1)
    if name == "BCELoss":
        outputs = outputs.exp()
    value, _ = loss(outputs.requires_grad_(), HOT if is_of_labels else LABELS)
    value.backward()
    assert value.isfinite() and outputs.grad.isfinite().all()


def test_a_batch_without_a_label_that_counts_has_no_loss_and_no_gradient():
    outputs = torch.randn(4, 3, requires_grad=True)
    loss, weight = build(ignore_index=255)(outputs, torch.full((4,), 255))
    loss.backward()
    assert (float(loss.detach()), weight) == (0, 0) and not outputs.grad.any()


def test_a_batch_of_classes_without_weight_has_no_loss_and_no_gradient():
    outputs = torch.randn(4, 3, requires_grad=True)
    loss, weight = build(class_weights=[0.0, 1.0, 1.0])(outputs, torch.zeros(4, dtype=torch.int64))
    loss.backward()
    assert (float(loss.detach()), weight) == (0, 0) and not outputs.grad.any()
    with pytest.raises(ComponentError, match="all weights are 0"):
        build(class_weights=[0.0, 0.0, 0.0])


def test_balanced_weights_do_not_count_what_is_ignored():
    labels = torch.tensor([0, 0, 1, 2, -100, -100])
    loss = build_loss(
        Section(class_weights="balanced", ignore_index=-100),
        CLASSES,
        targets=lambda: labels,
        device=torch.device("cpu"),
    )
    inverse = torch.tensor([0.5, 1, 1])
    assert torch.allclose(loss.class_weights, inverse / inverse.mean())


def test_the_ignored_label_is_a_number():
    with pytest.raises(ComponentError, match="whole number"):
        build(ignore_index="none")
