"""Whoever runs a network in evaluation mode leaves every module in the mode that it was in: norms that are frozen stay so."""

import pytest
import torch
from torch import nn

from dlkit.core.data import Batch
from dlkit.core.evaluation import evaluate, predict_split
from dlkit.core.export import export_onnx
from dlkit.core.models import eval_mode, output_shape
from dlkit.core.profile import InputSpec, profile_model, trace_fields
from dlkit.core.scoring import Scoring, WeightedLoss, pick_precision
from dlkit.prune.channels import find_groups, shrink_verified
from dlkit.prune.masks import find_output_weights, find_weights
from dlkit.quantize import Recipe, observe_network, quantize_dynamic

X = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
SCORING = Scoring(
    WeightedLoss(nn.CrossEntropyLoss(), "test"), pick_precision("off", torch.device("cpu")), "classification"
)


class OneBatch:
    """A split of four samples."""

    name, num_samples, num_batches = "val", 4, 1

    def batches(self, epoch=0, start=0):
        yield Batch(X, torch.zeros(4, dtype=torch.int64), torch.arange(4))


def mixed():
    """A network in training with a frozen batch norm."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.ReLU(),
        nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 2),
    )  # fmt: skip
    network[1].eval()
    return network


def modes(network):
    return {name: module.training for name, module in network.named_modules()}


def shrink(network):
    groups = find_groups(network, X)
    half = {group.id: tuple(range(group.size // 2)) for group in groups if not group.refusal}
    assert half and shrink_verified(network, groups, half, X).keep == half


DOORS = {
    "evaluate": lambda network, folder: evaluate(network, OneBatch(), SCORING),
    "predict_split": lambda network, folder: predict_split(network, OneBatch(), SCORING),
    "export": lambda network, folder: export_onnx(network, folder / "net.onnx", X),
    "shape": lambda network, folder: output_shape(network.to("meta"), (3, 8, 8)),
    "profile": lambda network, folder: profile_model(network.to("meta"), [InputSpec((3, 8, 8))]),
    "fields": lambda network, folder: trace_fields(network.to("meta"), X[:1].to("meta")),
    "prune outputs": lambda network, folder: find_output_weights(network, X, find_weights(network)),
    "prune channels": lambda network, folder: shrink(network),
    "quantize": lambda network, folder: observe_network(network, Recipe("static", "x86"), [X]),
    "quantize dynamic": lambda network, folder: quantize_dynamic(network, Recipe("dynamic", "x86"), example=X),
}


@pytest.mark.parametrize("door", DOORS)
def test_modes_are_put_back(door, tmp_path):
    network = mixed()
    before, kept = modes(network), {name: value.clone() for name, value in network.state_dict().items()}
    DOORS[door](network, tmp_path)
    assert modes(network) == before and before[""] and not before["1"]
    assert all(value.is_meta or torch.equal(value, kept[name]) for name, value in network.state_dict().items())


class Merging(nn.Linear):
    """A layer that does more on a change of mode than to set the flag."""

    is_merged = False

    def train(self, mode=True):
        self.is_merged = not mode
        return super().train(mode)


def test_a_failure_and_what_a_network_does_itself():
    network = Merging(4, 2)
    with pytest.raises(KeyError), eval_mode(network) as inside:
        assert inside is network and network.is_merged and not network.training
        raise KeyError
    assert network.training and not network.is_merged
