"""Before and after on the same samples: scores, agreement and costs, against the pieces that they are made of."""

import copy
import json
import math

import pytest
import torch
from torch import nn

from dlkit.core.benchmark import SpeedPlan
from dlkit.core.data import Batch
from dlkit.core.evaluation import (
    NamedNetwork,
    Predictions,
    compare_networks,
    compare_predictions,
    comparison_rows,
    predict_split,
    score_split,
    weigh_network,
)
from dlkit.core.profile import InputSpec, profile_model
from dlkit.core.scoring import Scoring, WeightedLoss, pick_precision

CPU = torch.device("cpu")
SIZE = (1, 8, 8)


class Samples:
    """A split that is held in memory."""

    name = "test"

    def __init__(self, num_samples=60, num_columns=None):
        generator = torch.Generator().manual_seed(3)
        self.inputs = torch.randn(num_samples, *SIZE, generator=generator)
        if num_columns:
            self.targets = torch.randn(num_samples, num_columns, generator=generator)
        else:
            self.targets = torch.randint(0, 10, (num_samples,), generator=generator)
        self.num_samples, self.num_batches = num_samples, math.ceil(num_samples / 25)

    def batches(self, epoch=0, start=0):
        for index in torch.arange(self.num_samples).split(25):
            yield Batch(self.inputs[index], self.targets[index], index)


def scoring(loss, task="classification"):
    return Scoring(WeightedLoss(loss, "test"), pick_precision("off", CPU), task)


CLASSES = scoring(nn.functional.cross_entropy)


def test_both_sides_and_their_agreement(float_network, int8_network, tmp_path):
    (tmp_path / "float.pt").write_bytes(bytes(4000))
    (tmp_path / "int8.pt").write_bytes(bytes(1000))
    split = Samples()
    found = compare_networks(
        NamedNetwork("float32", float_network, tmp_path / "float.pt"),
        NamedNetwork("int8", int8_network, tmp_path / "int8.pt"),
        split,
        scoring=CLASSES,
        speed_plan=SpeedPlan(SIZE, CPU, batches=(1,), engines=("eager",), seconds=0.0),
        input_size=SIZE,
    )
    assert found.before.scores.metrics == score_split(float_network, split, CLASSES)[0]
    assert found.after.scores.metrics == score_split(int8_network, split, CLASSES)[0]
    labels = [predict_split(net, split, CLASSES).outputs.argmax(1) for net in (float_network, int8_network)]
    assert found.agreement.same_top1 == pytest.approx((labels[0] == labels[1]).double().mean().item())
    assert found.agreement.mean_absolute_difference is None
    assert found.before.scores.num_samples == 60 and found.before.scores.split == "test"
    assert [side.costs.sizes.bytes for side in (found.before, found.after)] == [4000, 1000]
    assert found.after.costs.macs is None and "int8" in found.after.costs.notes[0]
    assert [(row.model, row.is_int8) for row in found.speeds.rows] == [("float32", False), ("int8", True)]
    plain = json.loads(json.dumps(found.to_dict()))
    assert plain["before"]["costs"]["sizes"]["bytes"] == 4000 and plain["speeds"]["baseline"]["model"] == "float32"
    rows = {row[0]: row[1:] for row in comparison_rows(found)}
    assert rows["accuracy"][2].endswith("points") and rows["file"] == ("3.9 KiB", "1000 B", "25.0%")
    assert rows["same class"][1] == f"{found.agreement.same_top1:.2%}" and rows["MACs"][1:] == ("", "")


def test_costs_of_a_float_network(float_network):
    costs = weigh_network(float_network, SIZE, None)
    assert costs.num_parameters == sum(parameter.numel() for parameter in float_network.parameters())
    profile = profile_model(copy.deepcopy(float_network).to("meta"), [InputSpec(SIZE)], with_memory=False)
    assert costs.macs == profile.macs > 0 and not costs.notes and costs.sizes is None
    assert not next(float_network.parameters()).is_meta


def test_costs_that_cannot_be_counted_have_a_reason():
    class ReadsValues(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    costs = weigh_network(ReadsValues(), SIZE, None)
    assert costs.macs is None and costs.num_parameters == 0 and "MACs are not counted" in costs.notes[0]


def test_regression_agrees_by_difference():
    torch.manual_seed(0)
    before = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    after = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    after.load_state_dict(before.state_dict())
    with torch.no_grad():
        after[1].bias += 0.25
    found = compare_networks(
        NamedNetwork("before", before.eval()),
        NamedNetwork("after", after.eval()),
        Samples(num_columns=2),
        scoring=scoring(nn.functional.mse_loss, task="regression"),
        speed_plan=None,
        input_size=SIZE,
    )
    assert found.agreement.mean_absolute_difference == pytest.approx(0.25, abs=1e-6)
    assert found.agreement.same_top1 is None and found.speeds is None and found.to_dict()["speeds"] is None
    assert {"loss", "rmse", "r2"} <= set(found.after.scores.metrics)
    assert ("mean difference", "", "0.25", "") in comparison_rows(found)


def test_predictions_of_different_samples_are_refused():
    one, other = (Predictions(torch.zeros(2, 3), torch.zeros(2), torch.tensor(index)) for index in ([0, 1], [1, 0]))
    with pytest.raises(ValueError, match="different samples"):
        compare_predictions(one, other, scoring=CLASSES)
