from dataclasses import replace

import pytest
import torch
from torch import nn

from dlkit.events import Note
from dlkit.quantize import Recipe
from dlkit.quantize.graph import convert
from dlkit.quantize.ptq import keep_sensitive_layers, observe_network, outputs_of, rank_layers


class Costly(nn.Module):
    """Stands for a network: each layer that is not kept costs some points."""

    def __init__(self, kept, costs, floor=0.0):
        super().__init__()
        self.drop = max(floor, sum(cost for name, cost in costs.items() if name not in kept))


def search(costs, max_drop, floor=0.0):
    """The search over a network whose layers cost these points, ranked by cost."""
    built, notes = [], []

    def build(kept):
        built.append(kept)
        return Costly(kept, costs, floor)

    ranking = sorted(costs, key=lambda name: -costs[name])
    found = keep_sensitive_layers(
        ranking,
        build,
        lambda network: 0.9 - network.drop / 100,
        float_score=0.9,
        max_drop=max_drop,
        emit=notes.append,
    )
    assert len(built) == len(set(built)) == len(found.attempts)  # nothing is tried twice
    assert [type(note) for note in notes] == [Note] * len(built)
    return found


COSTS = {f"layer{index}": cost for index, cost in enumerate([2.0, 1.0, 0.5, 0.3, 0.2, 0.1, 0.05, 0.05, 0.01, 0.01])}


@pytest.mark.parametrize(
    ("max_drop", "num_kept"), [(5.0, 0), (4.2, 1), (1.3, 2), (0.75, 3), (0.5, 4), (0.1, 7), (0.02, 8), (0.0, 10)]
)
def test_the_fewest_from_the_top_are_kept(max_drop, num_kept):
    found = search(COSTS, max_drop)
    assert found.is_met
    assert len(found.chosen.kept) <= num_kept
    assert found.chosen.drop <= max_drop + 1e-6
    assert found.network.drop == pytest.approx(found.chosen.drop)


def test_layers_that_turn_out_not_to_matter_go_back_to_int8():
    costs = {"a": 3.0, "b": 0.0, "c": 0.0, "d": 2.0, "e": 0.1}
    ranking = ["a", "b", "c", "d", "e"]
    found = keep_sensitive_layers(
        ranking, lambda kept: Costly(kept, costs), lambda net: 0.9 - net.drop / 100, float_score=0.9, max_drop=0.5
    )
    assert found.chosen.kept == ("a", "d")


def test_it_says_when_nothing_helps():
    found = search(COSTS, 0.5, floor=1.5)  # the drop lies elsewhere
    assert not found.is_met
    assert found.chosen.drop == pytest.approx(1.5)
    assert len(found.chosen.kept) == 2  # the fewest with the least drop


def test_a_search_is_cheap():
    costs = {f"layer{index}": 1 / (index + 1) for index in range(100)}
    assert len(search(costs, 2.0).attempts) < 30


def test_attempts_tell_all_in_their_order():
    found = search(COSTS, 0.75)
    assert found.attempts[0].kept == ()
    assert found.attempts[0].drop == pytest.approx(4.22)
    assert found.attempts[1].kept == ("layer0",)


def test_a_real_network_keeps_the_layer_that_hurts():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 4))
    with torch.no_grad():
        network[2].weight[:, 0] *= 3000
        network[0].weight[0] /= 3000
        network[0].bias[0] /= 3000
    network.eval()
    inputs = torch.randn(2000, 16)
    targets = network(inputs).argmax(1)
    batches = list(inputs[:512].split(64))
    recipe = Recipe("static", "x86", "minmax", reduce="weights")
    ranking = [layer.name for layer in rank_layers(observe_network(network, recipe, batches), recipe, batches)]

    def build(kept):
        keeping = replace(recipe, keep_float=kept)
        return convert(observe_network(network, keeping, batches), keeping)

    def score(int8):
        return (outputs_of(int8, [inputs]).argmax(1) == targets).float().mean().item()

    found = keep_sensitive_layers(ranking, build, score, float_score=1.0, max_drop=5.0)
    assert found.is_met
    assert found.chosen.kept == ("2",)
    assert found.attempts[0].drop > 10
