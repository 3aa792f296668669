"""Networks of maps judged side by side: what counting each by itself says, and which pixels they share."""

import pytest
import torch
from torch import nn

from dlkit.core.data import IGNORED, Batch
from dlkit.core.evaluation import NamedNetwork, compare_maps, compare_networks, comparison_rows, count_maps
from dlkit.core.scoring import Scoring, WeightedLoss, pick_precision

CPU, CLASSES = torch.device("cpu"), 3


class Pictures:
    name, num_samples, num_batches = "test", 10, 3

    def batches(self):
        torch.manual_seed(1)
        for count in (4, 4, 2):
            targets = torch.randint(0, CLASSES, (count, 6, 5))
            targets[:, 0] = IGNORED
            yield Batch(torch.randn(count, 2, 6, 5), targets, torch.arange(count))


@pytest.fixture
def scoring():
    loss = WeightedLoss(nn.CrossEntropyLoss(ignore_index=IGNORED), "test")
    return Scoring(loss, pick_precision("off", CPU), "segmentation")


@pytest.fixture
def networks():
    torch.manual_seed(0)
    return [nn.Sequential(nn.Conv2d(2, CLASSES, 1), nn.Dropout(0.5)).train() for _ in range(3)]


def test_each_scores_what_it_scores_alone(networks, scoring):
    found = compare_maps(networks, Pictures(), scoring)
    assert all(network.training for network in networks)
    for place, network in enumerate(networks):
        loss, alone = count_maps(network, Pictures(), scoring)
        assert found.metrics[place] == {"loss": loss, **scoring.scores.judge(alone.counts)}
        assert found.right[place].shape == (10,) and found.right[place].sum() == alone.counts.diag().sum()


def test_shares_of_pixels_and_their_words(networks, scoring):
    found = compare_maps(networks, Pictures(), scoring)
    with torch.no_grad():
        maps = [torch.cat([net.eval()(batch.inputs).argmax(1) for batch in Pictures().batches()]) for net in networks]
    for one in range(3):
        for other in range(3):
            assert found.same[one, other].item() == (maps[one] == maps[other]).double().mean().item()
    sides = [NamedNetwork("before", networks[0]), NamedNetwork("after", networks[1])]
    compared = compare_networks(*sides, Pictures(), scoring=scoring, speed_plan=None, input_size=(2, 6, 5))
    rows = {row[0]: row for row in comparison_rows(compared)}
    assert rows["same pixels"][2] == f"{found.same[0, 1]:.2%}" and "same class" not in rows
    assert rows["miou"][3].endswith("points") and compared.after.scores.num_samples == 10
