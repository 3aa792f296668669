import copy

import pytest
import torch
from torch import nn

from dlkit.core.data import DataInfo
from dlkit.core.modelfile import ModelSpec, load_model
from dlkit.core.models import Arch
from dlkit.quantize import Recipe, save_quantized
from dlkit.quantize.graph import convert, observed_tensors, without_observers
from dlkit.quantize.ptq import correct_bias, fidelity_of, observe_network, outputs_of, shift_biases

COARSE = Recipe("static", "x86", is_per_channel=False, reduce="weights")


@pytest.fixture(autouse=True)
def engine():
    yield


def block(inputs, outputs, activation, **options):
    return [nn.Conv2d(inputs, outputs, 3, bias=False, **options), nn.BatchNorm2d(outputs), activation]


def deep_network(activation=nn.ReLU, seed=0):
    """Depthwise-separable layers with channels of unlike range, as trained ones have, so that one scale for all is coarse."""
    torch.manual_seed(seed)
    layers = block(3, 16, activation(), padding=1)
    for _ in range(4):
        layers += block(16, 16, activation(), padding=1, groups=16) + block(16, 16, activation())
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data = torch.rand(16) * 2 + 0.05
            module.bias.data = torch.randn(16) * 0.3
    for _ in range(10):
        network.train()(torch.randn(32, 3, 14, 14))
    return network.eval()


def quantized(network, batches, recipe=COARSE):
    prepared = observe_network(network, recipe, batches)
    return prepared, convert(prepared, recipe)


@pytest.fixture
def batches():
    return list(torch.randn(4, 16, 3, 14, 14, generator=torch.Generator().manual_seed(7)))


@pytest.mark.parametrize("activation", [nn.ReLU, nn.ReLU6, nn.Hardswish])
def test_without_observers_it_is_the_float_network(activation, batches):
    """Also where a clamp was moved into an observer."""
    network = deep_network(activation)
    prepared, _ = quantized(network, batches)
    plain = without_observers(prepared)
    torch.testing.assert_close(outputs_of(plain, batches), outputs_of(network, batches), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("activation", [nn.ReLU, nn.ReLU6, nn.Hardswish])
def test_outputs_come_closer_on_new_inputs(activation, batches):
    network = deep_network(activation)
    prepared, converted = quantized(network, batches)
    new = list(torch.randn(4, 16, 3, 14, 14, generator=torch.Generator().manual_seed(8)))
    before = fidelity_of(outputs_of(network, new), outputs_of(converted, new))
    found = correct_bias(prepared, converted, batches)
    after = fidelity_of(outputs_of(network, new), outputs_of(converted, new))
    assert found.is_kept
    assert found.num_layers == 10
    assert found.after.error < found.before.error
    assert after.error < 0.8 * before.error
    assert after.sqnr_db > before.sqnr_db


def test_means_of_a_linear_layer_are_those_in_float():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(64, 8)).eval()
    batches = list(torch.rand(3, 500, 64) + 1)
    prepared, converted = quantized(network, batches)
    wanted = outputs_of(network, batches).mean(0)
    off = (outputs_of(converted, batches).mean(0) - wanted).abs().max()
    shift_biases(prepared, converted, batches)
    assert (outputs_of(converted, batches).mean(0) - wanted).abs().max() < 0.1 * off


def test_what_a_relu_hides_is_not_corrected():
    """All of the second channel's outputs are negative: its shift does not matter, and correcting it gains nothing."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(32, 2), nn.ReLU()).eval()
    network[0].bias.data = torch.tensor([0.0, -100.0])
    batches = [torch.rand(500, 32) + 1]
    prepared, converted = quantized(network, batches)
    old = converted.get_submodule("0").bias.clone()
    shift_biases(prepared, converted, batches)
    new = converted.get_submodule("0").bias
    assert new[0] != old[0]
    assert new[1] == old[1]


def test_a_correction_that_does_harm_is_taken_back():
    """As it now and then does where there is little to correct, on few samples."""
    batches, num_taken_back = list(torch.randn(2, 4, 3, 14, 14, generator=torch.Generator().manual_seed(7))), 0
    for seed in range(12):
        torch.manual_seed(seed)
        hidden = (nn.Linear(588, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU())
        network = nn.Sequential(nn.Flatten(), *hidden, nn.Linear(16, 3)).eval()
        prepared, converted = quantized(network, batches, Recipe("static", "x86", reduce="weights"))
        before = outputs_of(converted, batches)
        found = correct_bias(prepared, converted, batches)
        assert found.is_kept == (found.after.error < found.before.error)
        assert found.is_kept != torch.equal(outputs_of(converted, batches), before)
        num_taken_back += not found.is_kept
    assert num_taken_back


def test_the_prepared_network_stays_as_it_is(batches):
    prepared, converted = quantized(deep_network(), batches)
    before = [observed.observer.affine() for observed in observed_tensors(prepared)]
    state = {name: tensor.clone() for name, tensor in prepared.state_dict().items()}
    correct_bias(prepared, converted, [batch * 5 for batch in batches])
    assert before == [observed.observer.affine() for observed in observed_tensors(prepared)]
    assert all(torch.equal(tensor, state[name]) for name, tensor in prepared.state_dict().items())


def test_layers_without_a_bias_get_one_that_can_be_stored(tmp_path):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3, bias=False))
    batches = [torch.rand(64, 3, 8, 8) + 1]
    prepared, converted = quantized(network.eval(), batches)
    assert correct_bias(prepared, converted, batches).is_kept
    spec = ModelSpec(Arch("user", "tests:net", {}), DataInfo("classification", "image", (3, 8, 8), 3, None, None, None))
    save_quantized(tmp_path / "net.pt", spec, converted, recipe=COARSE, example=batches[0])
    rebuilt = load_model(tmp_path / "net.pt", model=lambda: copy.deepcopy(network))
    assert torch.equal(rebuilt(batches[0]), converted(batches[0]))


def test_layers_kept_in_float_are_left_alone(batches):
    recipe = Recipe("static", "x86", is_per_channel=False, reduce="weights", keep_float=("0", "9"))
    network = deep_network()
    prepared, converted = quantized(network, batches, recipe)
    found = correct_bias(prepared, converted, batches)
    assert found.num_layers == 8
    assert found.is_kept


class Regression(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv1d(2, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36, 1))

    def forward(self, x):
        return self.layers(x)


def test_regression_is_judged_by_noise():
    torch.manual_seed(1)
    network, batches = Regression().eval(), list(torch.rand(2, 64, 2, 8))
    prepared, converted = quantized(network, batches)
    found = correct_bias(prepared, converted, batches, task="regression")
    assert found.before.shift == pytest.approx(10 ** (-found.before.sqnr_db / 20))
    assert found.after.error <= found.before.error or not found.is_kept
