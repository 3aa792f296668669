"""The samples of the highest loss, against torch's loss, and their pictures."""

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, mse_loss

from dlkit.core.data import DataInfo
from dlkit.core.evaluation import Predictions, WorstSample, save_worst_picture, worst_samples

CLASSES = ("cat", "dog", "owl")
OF_CLASSES = DataInfo("classification", "image", (1, 4, 4), 3, CLASSES, None, None)


def test_they_are_those_of_the_highest_cross_entropy():
    generator = torch.Generator().manual_seed(0)
    outputs, targets = 3 * torch.randn(50, 3, generator=generator), torch.randint(3, (50,), generator=generator)
    places = torch.randperm(50, generator=generator)
    losses = cross_entropy(outputs.double(), targets, reduction="none")
    found = worst_samples(Predictions(outputs, targets, places), OF_CLASSES, 7, name_of=str)
    order = losses.argsort(descending=True)[:7]
    assert [sample.position for sample in found] == places[order].tolist()
    assert [sample.loss for sample in found] == pytest.approx(losses[order].tolist(), abs=1e-12)
    assert [sample.true for sample in found] == [CLASSES[label] for label in targets[order]]
    assert [sample.predicted for sample in found] == [CLASSES[label] for label in outputs[order].argmax(1)]
    shares = outputs.double().softmax(1).max(1).values[order]
    assert [sample.probability for sample in found] == pytest.approx(shares.tolist(), abs=1e-12)


def test_of_equal_ones_the_earlier_and_no_more_than_there_are():
    found = Predictions(torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64), torch.arange(4))
    assert [sample.position for sample in worst_samples(found, OF_CLASSES, 2, name_of=str)] == [0, 1]
    assert len(worst_samples(found, OF_CLASSES, 9, name_of=str)) == 4


def test_of_labels_and_of_numbers():
    generator = torch.Generator().manual_seed(1)
    outputs, values = (torch.randn(30, 3, generator=generator) for _ in range(2))
    info = DataInfo("multilabel", "image", (1, 4, 4), 3, CLASSES, None, None, thresholds=(0.4, 0.5, 0.6))
    bits = (values > 0).float()
    (worst,) = worst_samples(Predictions(outputs, bits, torch.arange(30)), info, 1, name_of="{}.png".format)
    losses = binary_cross_entropy_with_logits(outputs.double(), bits.double(), reduction="none").mean(1)
    place = int(losses.argmax())
    assert (worst.name, worst.probability, worst.loss) == (f"{place}.png", None, pytest.approx(float(losses[place])))
    found = outputs[place].sigmoid() >= torch.tensor(info.thresholds)
    for row, words in ((bits[place], worst.true), (found, worst.predicted)):
        assert words == (", ".join(name for name, is_there in zip(CLASSES, row, strict=True) if is_there) or "no label")
    info = DataInfo(
        "regression", "image", (1, 4, 4), 3, None, None, None, target_mean=(9.0,) * 3, target_std=(2.0,) * 3
    )
    (worst,) = worst_samples(Predictions(outputs, values, torch.arange(30)), info, 1, name_of=str)
    errors = mse_loss(outputs, values, reduction="none").mean(1)
    assert worst.position == int(errors.argmax()) and worst.loss == pytest.approx(float(errors.max()))
    assert worst.true == ", ".join(f"{9 + 2 * value:.6g}" for value in values[worst.position].tolist())


@pytest.mark.parametrize("count", [1, 5])
def test_names_of_any_kind_are_drawn(tmp_path, count):
    name = "$x_{ a very long name of a class indeed"
    samples = [WorstSample(position, f"pics/{name}.png", name, "b$", 0.5, 1.0) for position in range(count)]
    save_worst_picture(tmp_path / "w.png", samples, {place: torch.rand(4, 6, 3) for place in range(count)})
    assert (tmp_path / "w.png").read_bytes()[:4] == b"\x89PNG"
