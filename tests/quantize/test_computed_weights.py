"""Weight norm and spectral norm, in torch's old form and the new one: int8 has the weight that they compute."""

import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from dlkit.core.models import has_computed_weights, with_plain_weights
from dlkit.quantize import Recipe, layer_statuses, quantize_dynamic
from dlkit.quantize.ptq import Remedies, quantize_accurately

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the old ones are deprecated
    KINDS = {
        "old weight norm": nn.utils.weight_norm,
        "old spectral norm": nn.utils.spectral_norm,
        "weight norm": parametrizations.weight_norm,
        "spectral norm": parametrizations.spectral_norm,
        "orthogonal": parametrizations.orthogonal,
    }


@pytest.fixture(params=KINDS)
def network(request):
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrap = KINDS[request.param]
        network = nn.Sequential(
            *(wrap(nn.Conv2d(3, 8, 3)), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
            *(wrap(nn.Linear(8, 16)), nn.ReLU(), nn.Linear(16, 4)),
        )
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for _ in range(3):
        network(torch.randn(8, 3, 8, 8)).square().mean().backward()
        optimizer.step()
    return network.eval()


def test_a_copy_has_them_as_its_own_and_the_network_goes_on_training(network):
    x = torch.randn(4, 3, 8, 8)
    before, names = network(x), list(network.state_dict())
    plain = with_plain_weights(network)
    assert not has_computed_weights(plain) and has_computed_weights(network)
    assert set(plain.state_dict()) == {"0.weight", "0.bias", "4.weight", "4.bias", "6.weight", "6.bias"}
    assert type(plain[0]) is nn.Conv2d and type(plain[4]) is nn.Linear
    torch.testing.assert_close(plain(x), before)
    plain.load_state_dict(plain.state_dict())
    assert list(network.state_dict()) == names and torch.equal(network(x), before)
    network.train()(x).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert with_plain_weights(plain) is plain


def test_layers_are_int8(network):
    batches = [torch.randn(16, 3, 8, 8) for _ in range(3)]
    recipe = Recipe("static", "x86")
    found = quantize_accurately(network, recipe, batches, remedies=Remedies())
    assert found.fidelity.sqnr_db > 25
    assert {row.name for row in layer_statuses(network, found.network, recipe) if row.is_int8} >= {"0", "4", "6"}
    recipe = Recipe("dynamic", "x86")
    dynamic = quantize_dynamic(network, recipe)
    assert {row.name for row in layer_statuses(network, dynamic, recipe) if row.is_int8} == {"4", "6"}
    x = torch.randn(16, 3, 8, 8)
    assert (dynamic(x) - network(x)).norm() < 0.05 * network(x).norm()
