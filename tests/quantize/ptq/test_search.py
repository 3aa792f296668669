import pytest
import torch
from torch import nn
from torchvision.ops import SqueezeExcitation

from dlkit.quantize import Recipe
from dlkit.quantize.graph import convert
from dlkit.quantize.ptq import Remedies, fidelity_of, first_samples, observe_network, outputs_of, quantize_accurately

NOTHING = Remedies(bias_correction=False, equalization="off", smoothing="off")


def recipe_of(**options):
    return Recipe("static", "x86", **{"observer": "histogram", "reduce": "weights", **options})


def with_dead_channels():
    """Depthwise layers with folded weights whose ranges differ by more than 100, because some inputs hardly vary."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 16, 3, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 16, 3, groups=16, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 16, 1), nn.Flatten(), nn.Linear(256, 5),
    )  # fmt: skip
    network[1].weight.data[:4] = 0.0  # what weight decay does to channels that are of no use
    network[1].bias.data[:4] = 0.0
    for _ in range(10):
        network.train()(torch.randn(32, 3, 8, 8))
    network[4].running_var[:4] = 0.0
    return network.eval()


@pytest.fixture
def batches():
    return list(torch.randn(4, 32, 3, 8, 8, generator=torch.Generator().manual_seed(1)))


def test_per_channel_weights_stand_channels_of_unlike_range(batches):
    """Trap 4.4."""
    network = with_dead_channels()
    folded = torch.nn.utils.fusion.fuse_conv_bn_eval(network[3], network[4]).weight.flatten(1).abs().amax(1)
    assert folded.max() / folded.median() > 100
    sqnr = {
        is_per_channel: quantize_accurately(
            network, recipe_of(is_per_channel=is_per_channel), batches, remedies=NOTHING
        ).fidelity.sqnr_db
        for is_per_channel in (True, False)
    }
    assert sqnr[True] > 30
    assert sqnr[False] < 15
    assert Recipe("static", "x86").is_per_channel


def test_squeeze_and_excitation(batches):
    """Trap 4.18: products of two activations, and hard sigmoid with its fixed range."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.Hardswish(),
        SqueezeExcitation(16, 8, scale_activation=nn.Hardsigmoid), nn.Conv2d(16, 16, 1),
    ).eval()  # fmt: skip
    prepared = observe_network(network, recipe_of(), batches)
    outputs = outputs_of(convert(prepared, recipe_of()), batches)
    assert fidelity_of(outputs_of(network, batches), outputs, task="regression").sqnr_db > 30


def test_every_trial_is_told_and_the_best_is_kept(batches):
    network = with_dead_channels()
    recipe = recipe_of(is_per_channel=False)
    found = quantize_accurately(network, recipe, batches, remedies=Remedies(observers=("minmax", "mse")))
    assert [trial.what for trial in found.trials] == [
        "observer histogram", "observer minmax", "observer mse", "equalization", "bias correction",
    ]  # fmt: skip
    best = float("inf")
    for trial in found.trials:
        assert trial.is_kept == (trial.fidelity.error < best)
        best = min(best, trial.fidelity.error)
    outputs = outputs_of(found.network, batches)
    assert fidelity_of(outputs_of(network, batches), outputs).sqnr_db == pytest.approx(found.fidelity.sqnr_db)
    kept = [trial.what for trial in found.trials if trial.is_kept and trial.what.startswith("observer")]
    assert found.recipe.observer == kept[-1].removeprefix("observer ")


def test_the_given_network_and_recipe_stay_as_they_are(batches):
    network = with_dead_channels()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    found = quantize_accurately(network, recipe_of(), batches, remedies=Remedies(equalization="on"))
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert list(found.origin.state_dict()) == list(before)
    assert found.recipe == recipe_of()
    torch.testing.assert_close(outputs_of(found.origin, batches), outputs_of(network, batches), rtol=1e-4, atol=1e-5)


def test_what_is_off_is_not_tried_and_what_is_on_is_kept(batches):
    network = with_dead_channels()
    plain = quantize_accurately(network, recipe_of(), batches, remedies=NOTHING)
    assert [trial.what for trial in plain.trials] == ["observer histogram"]
    forced = quantize_accurately(
        network, recipe_of(), batches, remedies=Remedies(bias_correction=False, equalization="on", smoothing="off")
    )
    assert [trial.is_kept for trial in forced.trials] == [True, True]


def test_it_is_the_same_every_time(batches):
    runs = [quantize_accurately(with_dead_channels(), recipe_of(), batches, remedies=Remedies()) for _ in range(2)]
    assert runs[0].trials == runs[1].trials
    assert torch.equal(runs[0].network(batches[0]), runs[1].network(batches[0]))


def test_the_first_samples():
    batches = [torch.arange(4), torch.arange(4, 8)]
    assert [part.tolist() for part in first_samples(batches, 6)] == [[0, 1, 2, 3], [4, 5]]
    assert len(torch.cat(first_samples(batches, 100))) == 8
