import pytest
import torch
from torch import nn

from dlkit.quantize import Recipe
from dlkit.quantize.graph import convert, observed_tensors
from dlkit.quantize.int8 import Affine
from dlkit.quantize.observe import (
    ActivationRounding,
    MinMaxObserver,
    MSEObserver,
    PercentileObserver,
    WeightRounding,
    build_range_observer,
)
from dlkit.quantize.ptq import observe_network

EVERY = ("histogram", "minmax", "percentile", "mse")


def span(observer):
    """Length of the range that has codes."""
    return observer.affine().scale * observer.highest


def input_observer(kind, batches, reduce="weights"):
    """The calibrated observer of a network's input."""
    recipe = Recipe("static", "x86", kind, reduce=reduce)
    prepared = observe_network(nn.Sequential(nn.Linear(8, 4)), recipe, batches)
    return observed_tensors(prepared)[0].observer


@pytest.mark.parametrize("kind", EVERY)
def test_a_rare_outlier_widens_the_range_of_minmax_alone(kind):
    """Trap 4.7: one value in 4 million, ten times as large as the rest."""
    clean = list(torch.randn(64, 8192, 8, generator=torch.Generator().manual_seed(0)))
    dirty = [batch.clone() for batch in clean]
    dirty[40][5, 3] = 10 * max(batch.abs().max() for batch in clean)
    ratio = span(input_observer(kind, dirty)) / span(input_observer(kind, clean))
    if kind == "minmax":
        assert ratio > 5
    else:
        assert 0.99 < ratio < 2


@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.parametrize(("reduce", "most"), [("weights", 255), ("activations", 127)])
def test_codes_stay_in_what_the_recipe_allows(kind, reduce, most):
    observer = input_observer(kind, [torch.rand(64, 8) * 6 - 1], reduce)
    affine = observer.affine()
    codes = (torch.tensor([-1.0, 5.0]) / affine.scale).round() + affine.zero_point
    assert observer.highest == most
    assert codes[0] == pytest.approx(0, abs=3)
    assert codes[1] == pytest.approx(most, abs=3)


def test_percentile_agrees_with_torch():
    values = torch.randn(400_000, generator=torch.Generator().manual_seed(2)).exp()
    observer = PercentileObserver(percentile=99.9)
    for batch in values.split(4096):
        observer(batch)
    expected = torch.quantile(
        values.sort().values[-4096:].double(), 1 - 400 / 4096
    )  # torch takes no more than 16M values
    assert observer.pick_range()[1] == pytest.approx(expected.item(), rel=0.01)


def error_of(values, scale, zero_point, most):
    codes = (values / scale).round().add(zero_point).clamp(0, most)
    return (codes - zero_point).mul(scale).sub(values).square().mean().item()


def least_error(values, most):
    """Brute force over both ends."""
    ends = [part / 40 for part in range(1, 41)]
    found = []
    for low in [values.min().item() * end for end in [0.0, *ends]]:
        for high in [values.max().item() * end for end in ends]:
            scale = (max(high, 0.0) - min(low, 0.0)) / most
            found.append(error_of(values, scale, round(-min(low, 0.0) / scale), most))
    return min(found)


@pytest.mark.parametrize("shape", ["normal", "long tail", "two humps", "positive"])
@pytest.mark.parametrize("highest", [255, 127])
def test_mse_is_as_good_as_brute_force(shape, highest):
    normal = torch.randn(20_000, generator=torch.Generator().manual_seed(3))
    values = {
        "normal": normal,
        "long tail": normal * normal.abs() ** 2,
        "two humps": torch.cat([normal * 0.1 - 1, normal + 6]),
        "positive": normal.relu(),
    }[shape]
    observer = MSEObserver(highest=highest)
    for batch in values.split(999):
        observer(batch)
    affine = observer.affine()
    assert error_of(values, affine.scale, affine.zero_point, highest) <= 1.02 * least_error(values, highest)


@pytest.mark.parametrize("kind", ["percentile", "mse"])
def test_ranges_are_the_same_for_every_order_of_batches(kind):
    batches = list(
        torch.randn(6, 100, 8, generator=torch.Generator().manual_seed(4)) * torch.arange(1, 7).reshape(6, 1, 1)
    )
    forth, back = input_observer(kind, batches), input_observer(kind, batches[::-1])
    assert forth.affine() == back.affine()


@pytest.mark.parametrize("kind", EVERY)
def test_each_observer_makes_a_network_that_is_close(kind):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 10)).eval()
    recipe = Recipe("static", "x86", kind, reduce="weights")
    batches = [torch.randn(16, 3, 8, 8) for _ in range(4)]
    reference = network(batches[0])
    noise = convert(observe_network(network, recipe, batches), recipe)(batches[0]) - reference
    assert noise.std() < 0.03 * reference.std()


@pytest.mark.parametrize("observer", [MSEObserver(), MinMaxObserver(), PercentileObserver(), ActivationRounding()])
def test_an_observer_that_saw_nothing_gives_the_identity(observer):
    observer(torch.empty(0, 3))
    assert observer.affine() == Affine(1.0, 0)


@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.parametrize("value", [0.0, 2.5, -2.5])
def test_zero_always_has_a_code(kind, value):
    """Padding stands for 0."""
    observer = build_range_observer(Recipe("static", "x86", kind))
    observer(torch.full((4, 4), value))
    affine = observer.affine()
    assert 0 <= affine.zero_point <= 255
    assert (affine.code_of(value) - affine.zero_point) * affine.scale == pytest.approx(value, rel=0.01, abs=1e-6)


@pytest.mark.parametrize("kind", EVERY)
def test_bounds_are_handed_on(kind):
    observer = build_range_observer(Recipe("static", "x86", kind))
    observer.bounds = (-1.0, 2.0)
    values = torch.linspace(-9, 9, 1001)
    assert torch.equal(observer(values), values.clamp(-1, 2))
    assert span(observer) == pytest.approx(3, rel=0.02)


@pytest.mark.parametrize("kind", EVERY)
def test_what_is_not_a_number_is_refused(kind):
    with pytest.raises(ValueError, match="not a number"):
        build_range_observer(Recipe("static", "x86", kind))(torch.tensor([1.0, torch.nan]))


@pytest.mark.parametrize("highest", [255, 127])
def test_activations_are_rounded_as_torch_does(highest):
    rounding, values = ActivationRounding(highest=highest), torch.randn(1000, requires_grad=True)
    low, high = values.detach().min(), values.detach().max()
    scale = float((high - low) / highest)
    expected = torch.fake_quantize_per_tensor_affine(values, scale, round(float(-low) / scale), 0, highest)
    found = rounding(values)
    assert torch.allclose(found, expected, atol=1e-6)
    assert rounding.affine().scale == pytest.approx(scale, rel=1e-6)
    (gradient,) = torch.autograd.grad(found.sum(), values)
    assert gradient.mean() > 0.99
    rounding.is_on = False
    assert rounding(values) is values


def test_a_moving_range_follows_slowly_and_stays_when_told_to():
    rounding = ActivationRounding()
    rounding(torch.tensor([-1.0, 1.0]))
    rounding(torch.tensor([-1.0, 2.0]))
    assert (float(rounding.low), float(rounding.high)) == pytest.approx((-1, 1.01))
    rounding.is_observing = False
    rounding(torch.tensor([-9.0, 9.0]))
    assert float(rounding.high) == pytest.approx(1.01)
    rounding.take_range(Affine(0.1, 128))
    assert rounding.affine() == Affine(0.1, 128)


@pytest.mark.parametrize("is_per_channel", [True, False])
@pytest.mark.parametrize("bits", [8, 7])
def test_weights_are_rounded_to_the_steps_of_their_layer(is_per_channel, bits):
    weight = torch.randn(4, 3, 3, 3) * torch.logspace(0, -3, 4).view(-1, 1, 1, 1)
    found = WeightRounding(is_per_channel=is_per_channel, bits=bits)(weight)
    for channel in range(4):
        largest = weight[channel].abs().max() if is_per_channel else weight.abs().max()
        step = float(largest) / (2 ** (bits - 1) - 1)
        assert (found[channel] - weight[channel]).abs().max() <= step * 0.51
        assert len(found[channel].unique()) > 5 or not is_per_channel
