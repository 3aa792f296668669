"""Accumulation, clipping, order of operations and divergence, against plain reference loops in float64."""

import copy

import pytest
import torch
from torch import nn

from dlkit.config import Clip
from dlkit.core.scoring import WeightedLoss
from dlkit.core.training import MAX_SKIPS, train_step
from dlkit.errors import Diverged


def reference_epochs(model, inputs, targets, *, window, epochs=1, lr=0.1, momentum=0.9, weight=None, loss=None):
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum)
    for _ in range(epochs):
        for start in range(0, len(inputs), window):
            optimizer.zero_grad()
            outputs, wanted = model(inputs[start : start + window]), targets[start : start + window]
            (loss or nn.CrossEntropyLoss(weight))(outputs, wanted).backward()
            optimizer.step()
    return model


def largest_difference(first, second):
    return max((a - b).abs().max().item() for a, b in zip(first.parameters(), second.parameters(), strict=True))


@pytest.mark.parametrize("accumulate", [1, 2, 3, 4, 11, 50])
def test_accumulation_equals_the_large_batch(lab, float64_data, small_mlp, accumulate):
    inputs, targets = float64_data
    model = small_mlp()
    learner = lab.learner(model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), accumulate=accumulate)
    lab.fit(learner, lab.split(inputs, targets, 10), epochs=3)
    expected = reference_epochs(small_mlp(), inputs, targets, window=10 * accumulate, epochs=3)
    assert largest_difference(model, expected) < 1e-12
    assert largest_difference(model, small_mlp()) > 1e-3
    assert learner.position.step == 3 * -(-11 // accumulate)


def test_accumulation_with_class_weights_equals_the_large_batch(lab, float64_data, small_mlp):
    inputs, targets = float64_data
    weight = torch.tensor([0.2, 1.0, 3.0], dtype=torch.float64)
    model = small_mlp()
    scoring = lab.scoring()
    scoring = type(scoring)(
        WeightedLoss(nn.CrossEntropyLoss(weight), "weighted", class_weights=weight), scoring.precision, "classification"
    )
    learner = lab.learner(
        model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), accumulate=4, scoring=scoring
    )
    lab.fit(learner, lab.split(inputs, targets, 10), epochs=2)
    expected = reference_epochs(small_mlp(), inputs, targets, window=40, epochs=2, weight=weight)
    assert largest_difference(model, expected) < 1e-12


@pytest.mark.parametrize("accumulate", [4, 50])
def test_accumulation_with_labels_equals_the_large_batch(lab, float64_data, small_mlp, accumulate):
    inputs, classes = float64_data
    targets = nn.functional.one_hot(classes, 3).double() + nn.functional.one_hot((classes + 1) % 3, 3) * (
        inputs[:, :1] > 0
    )
    loss, model, expected = nn.BCEWithLogitsLoss(), small_mlp(), small_mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    learner = lab.learner(model, optimizer, accumulate=accumulate, scoring=lab.scoring(loss, task="multilabel"))
    lab.fit(learner, lab.split(inputs, targets, 10), epochs=2)
    reference_epochs(expected, inputs, targets, window=10 * accumulate, epochs=2, loss=loss)
    assert largest_difference(model, expected) < 1e-12 < 1e-3 < largest_difference(model, small_mlp())


def test_clipping_by_norm_bounds_the_update(lab, small_mlp):
    model = small_mlp()
    learner = lab.learner(model, torch.optim.SGD(model.parameters(), lr=0.5), clip=Clip(norm=0.01))
    before = copy.deepcopy(model)
    inputs = 1e6 * torch.randn(10, 7, dtype=torch.float64)
    result = train_step(learner, lab.split(inputs, torch.arange(10) % 3, 10).batches())
    update = torch.cat([(a - b).flatten() for a, b in zip(before.parameters(), model.parameters(), strict=True)])
    assert update.norm().item() == pytest.approx(0.5 * 0.01, rel=1e-5)
    assert result.grad_norm is not None and result.grad_norm > 1


def test_clipping_applies_to_the_whole_window(lab, float64_data, small_mlp):
    inputs, targets = float64_data
    model = small_mlp()
    learner = lab.learner(model, torch.optim.SGD(model.parameters(), lr=0.1), clip=Clip(norm=0.05), accumulate=3)
    train_step(learner, lab.split(inputs[:30], targets[:30], 10).batches())
    reference = small_mlp()
    nn.functional.cross_entropy(reference(inputs[:30]), targets[:30]).backward()
    nn.utils.clip_grad_norm_(reference.parameters(), 0.05)
    torch.optim.SGD(reference.parameters(), lr=0.1).step()
    assert largest_difference(model, reference) < 1e-12


def test_clipping_by_value(lab, float64_data, small_mlp):
    inputs, targets = float64_data
    model = small_mlp()
    learner = lab.learner(model, torch.optim.SGD(model.parameters(), lr=1.0), clip=Clip(value=1e-3))
    before = copy.deepcopy(model)
    train_step(learner, lab.split(inputs, targets, 103).batches())
    assert largest_difference(before, model) == pytest.approx(1e-3)


class RecordingScaler:
    """Stands in for GradScaler: notes the order of calls, and lets a step be skipped."""

    def __init__(self, optimizer_calls, skips=()):
        self.calls, self.skips, self._scale, self._count = optimizer_calls, skips, 8.0, 0

    def scale(self, loss):
        self.calls.append("scale")
        return loss * self._scale

    def unscale_(self, optimizer):
        self.calls.append("unscale")
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad /= self._scale

    def get_scale(self):
        return self._scale

    def step(self, optimizer):
        self.calls.append("step")
        self._count += 1
        if self._count not in self.skips:
            optimizer.step()

    def update(self):
        self.calls.append("update")
        self._scale *= 0.5 if self._count in self.skips else 1.0


def with_scaler(learner, scaler):
    precision = learner.scoring.precision
    learner.scoring = type(learner.scoring)(
        learner.scoring.loss, type(precision)("fp32", precision.device, scaler), "classification"
    )
    return learner


def test_order_is_scale_unscale_clip_step_update(lab, float64_data, small_mlp, monkeypatch):
    calls = []
    model = small_mlp()
    learner = with_scaler(
        lab.learner(model, torch.optim.SGD(model.parameters(), lr=0.1), clip=Clip(norm=1.0), accumulate=2),
        RecordingScaler(calls),
    )
    monkeypatch.setattr(nn.utils, "clip_grad_norm_", lambda *_: calls.append("clip") or torch.tensor(1.0))
    learner.ema = type("Ema", (), {"update": lambda self, model: calls.append("ema")})()
    train_step(learner, lab.split(*(part[:20] for part in float64_data), 10).batches())
    assert calls == ["scale", "scale", "unscale", "clip", "step", "update", "ema"]


def test_a_step_that_the_scaler_skips_does_not_move_the_schedule(lab, float64_data, small_mlp):
    model = small_mlp()
    learner = lab.learner(model, torch.optim.SGD(model.parameters(), lr=1.0), schedule="linear", total_steps=20)
    with_scaler(learner, RecordingScaler([], skips={3}))
    batches = lab.split(*float64_data, 10).batches()
    results = [train_step(learner, [next(batches)]) for _ in range(6)]
    lrs = [result.lrs[0] for result in results]
    assert [result.is_applied for result in results] == [True, True, False, True, True, True]
    assert lrs[2] == lrs[3] and learner.position.step == 5 and learner.position.batch == 6
    assert len(set(lrs)) == 5


def test_a_loss_that_is_not_finite_stops_before_the_update(lab, float64_data, small_mlp):
    inputs, targets = float64_data
    model = small_mlp()
    learner = lab.learner(model, torch.optim.SGD(model.parameters(), lr=0.1))
    before = copy.deepcopy(model)
    bad = inputs.clone()
    bad[3, 2] = float("nan")
    with pytest.raises(Diverged, match="loss is nan at epoch 1, step 0"):
        train_step(learner, lab.split(bad, targets, 10).batches())
    assert largest_difference(before, model) == 0


def test_on_nan_skip_goes_on_and_gives_up_in_the_end(lab, float64_data, small_mlp):
    inputs, targets = float64_data
    model = small_mlp()
    learner = lab.learner(model, torch.optim.SGD(model.parameters(), lr=0.1), on_nan="skip")
    bad = lab.split(inputs[:10] * float("nan"), targets[:10], 10)
    for _ in range(MAX_SKIPS):
        assert not train_step(learner, bad.batches()).is_applied
    with pytest.raises(Diverged, match="in a row"):
        train_step(learner, bad.batches())
    learner.num_skipped = 0
    assert train_step(learner, lab.split(inputs, targets, 103).batches()).is_applied
