import pytest
import torch
from torch import nn

from dlkit.events import Working
from dlkit.quantize import Recipe, layer_statuses
from dlkit.quantize.graph import convert, observed_tensors
from dlkit.quantize.ptq import fidelity_of, observe_network, outputs_of, rank_layers


def network_with_a_bad_layer():
    """The third layer reads one input that is always near zero with weights that are far larger than all others."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3),
        nn.ReLU(),
        nn.Conv2d(8, 8, 1),
        nn.Flatten(),
        nn.Linear(128, 4),
    )
    network[4].weight.data[:, 0] *= 300
    network[2].weight.data[0] /= 300
    network[2].bias.data[0] /= 300
    return network.eval()


def calibrated(network, batches, **options):
    recipe = Recipe("static", "x86", "minmax", reduce="weights", **options)
    return observe_network(network, recipe, batches), recipe


@pytest.fixture
def batches():
    return list(torch.randn(3, 16, 3, 8, 8, generator=torch.Generator().manual_seed(5)))


def test_the_layer_that_hurts_comes_first(batches):
    prepared, recipe = calibrated(network_with_a_bad_layer(), batches)
    ranked = rank_layers(prepared, recipe, batches)
    assert ranked[0].name == "4"
    assert {layer.name for layer in ranked} == {"0", "2", "4", "6"}
    errors = [layer.fidelity.error for layer in ranked]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 3 * errors[1]


@pytest.mark.parametrize("name", ["0", "2", "4", "6"])
def test_it_predicts_what_the_int8_kernel_does(name, batches):
    """Against a network in which really all layers but this one are kept in float."""
    network = network_with_a_bad_layer()
    others = tuple(other for other in ("0", "2", "4", "6") if other != name)
    prepared, recipe = calibrated(network, batches, keep_float=others)
    (layer,) = rank_layers(prepared, recipe, batches)
    assert layer.name == name
    outputs = outputs_of(convert(prepared, recipe), batches)
    real = fidelity_of(outputs_of(network, batches), outputs)
    assert layer.fidelity.sqnr_db == pytest.approx(real.sqnr_db, abs=1.5)


def test_nothing_is_left_changed(batches):
    prepared, recipe = calibrated(network_with_a_bad_layer(), batches)
    state = {name: tensor.clone() for name, tensor in prepared.state_dict().items()}
    before = [observed.observer.affine() for observed in observed_tensors(prepared)]
    first, second = rank_layers(prepared, recipe, batches), rank_layers(prepared, recipe, batches)
    assert first == second
    assert all(torch.equal(tensor, state[name]) for name, tensor in prepared.state_dict().items())
    assert before == [observed.observer.affine() for observed in observed_tensors(prepared)]


def test_first_and_last_are_ranked_like_all_others_and_can_be_kept(batches):
    """Trap 4.14."""
    network = network_with_a_bad_layer()
    prepared, recipe = calibrated(network, batches, keep_float=("0", "6"))
    assert {layer.name for layer in rank_layers(prepared, recipe, batches)} == {"2", "4"}
    statuses = layer_statuses(network, convert(prepared, recipe), recipe)
    assert {status.name for status in statuses if not status.is_int8} == {"0", "6"}


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.shared, self.last = nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x):
        return self.last(self.shared(self.shared(x).relu()))


class Attending(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention, self.last = nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, 3)

    def forward(self, x):
        return self.last(self.attention(x, x, x, need_weights=False)[0]).mean(1)


@pytest.mark.parametrize(("kind", "names"), [(Twice, {"shared", "last"}), (Attending, {"attention", "last"})])
def test_names_are_those_of_the_float_network(kind, names):
    torch.manual_seed(0)
    batches = [torch.randn(16, 8) if kind is Twice else torch.randn(16, 5, 8)]
    prepared, recipe = calibrated(kind().eval(), batches)
    assert {layer.name for layer in rank_layers(prepared, recipe, batches)} == names


def test_progress_is_reported(batches):
    events = []
    prepared, recipe = calibrated(network_with_a_bad_layer(), batches)
    rank_layers(prepared, recipe, batches, emit=events.append)
    assert events[-1] == Working("ranking layers", 4, 4)


def test_one_scale_per_weight_and_layers_of_one_dimension():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv1d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6, 3)).eval()
    batches = [torch.randn(64, 3, 8)]
    prepared, recipe = calibrated(network, batches, is_per_channel=False)
    assert {layer.name for layer in rank_layers(prepared, recipe, batches)} == {"0", "3"}


def test_a_clamp_that_was_moved_into_an_observer_counts(batches):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU6(), nn.Flatten(), nn.Linear(4 * 36, 3)).eval()
    network[0].weight.data *= 50
    prepared, recipe = calibrated(network, batches)
    assert min(layer.fidelity.sqnr_db for layer in rank_layers(prepared, recipe, batches)) > 25
