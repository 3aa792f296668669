"""The samples of the highest loss, against torch's loss, and their pictures."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from dlkit.core.evaluation import Predictions, WorstSample, save_worst_picture, worst_samples

CLASSES = ("cat", "dog", "owl")


def test_they_are_those_of_the_highest_cross_entropy():
    generator = torch.Generator().manual_seed(0)
    outputs, targets = 3 * torch.randn(50, 3, generator=generator), torch.randint(3, (50,), generator=generator)
    places = torch.randperm(50, generator=generator)
    losses = cross_entropy(outputs.double(), targets, reduction="none")
    found = worst_samples(Predictions(outputs, targets, places), CLASSES, 7)
    order = losses.argsort(descending=True)[:7]
    assert [sample.position for sample in found] == places[order].tolist()
    assert [sample.loss for sample in found] == pytest.approx(losses[order].tolist(), abs=1e-12)
    assert [sample.true for sample in found] == [CLASSES[label] for label in targets[order]]
    assert [sample.predicted for sample in found] == [CLASSES[label] for label in outputs[order].argmax(1)]
    shares = outputs.double().softmax(1).max(1).values[order]
    assert [sample.probability for sample in found] == pytest.approx(shares.tolist(), abs=1e-12)


def test_of_equal_ones_the_earlier_and_no_more_than_there_are():
    found = Predictions(torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64), torch.arange(4))
    assert [sample.position for sample in worst_samples(found, CLASSES, 2)] == [0, 1]
    assert len(worst_samples(found, CLASSES, 9)) == 4


@pytest.mark.parametrize("count", [1, 5])
def test_names_of_any_kind_are_drawn(tmp_path, count):
    name = "$x_{ a very long name of a class indeed"
    samples = [WorstSample(position, name, "b$", 0.5, 1.0) for position in range(count)]
    save_worst_picture(tmp_path / "w.png", samples, {place: torch.rand(4, 6, 3) for place in range(count)})
    assert (tmp_path / "w.png").read_bytes()[:4] == b"\x89PNG"
