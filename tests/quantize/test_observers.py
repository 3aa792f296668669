import pytest
import torch
from dlkit.quantize.fx import convert, no_deprecations
from torch import nn

from dlkit.quantize import MSEObserver, PercentileObserver, Recipe, observe_network, observed_tensors

EVERY = ("histogram", "minmax", "percentile", "mse")


def span(observer):
    """Length of the range that has codes."""
    scale, _ = observer.calculate_qparams()
    return float(scale) * (observer.quant_max - observer.quant_min)


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
    scale, zero_point = observer.calculate_qparams()
    codes = (torch.tensor([-1.0, 5.0]) / scale).round() + zero_point
    assert observer.quant_max == most
    assert codes[0] == pytest.approx(0, abs=3)
    assert codes[1] == pytest.approx(most, abs=3)


def test_percentile_agrees_with_torch():
    values = torch.randn(400_000, generator=torch.Generator().manual_seed(2)).exp()
    with no_deprecations():
        observer = PercentileObserver(percentile=99.9, dtype=torch.quint8)
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
@pytest.mark.parametrize("reduce_range", [False, True])
def test_mse_is_as_good_as_brute_force(shape, reduce_range):
    normal = torch.randn(20_000, generator=torch.Generator().manual_seed(3))
    values = {
        "normal": normal,
        "long tail": normal * normal.abs() ** 2,
        "two humps": torch.cat([normal * 0.1 - 1, normal + 6]),
        "positive": normal.relu(),
    }[shape]
    with no_deprecations():
        observer = MSEObserver(dtype=torch.quint8, reduce_range=reduce_range)
    for batch in values.split(999):
        observer(batch)
    scale, zero_point = observer.calculate_qparams()
    found = error_of(values, scale, zero_point, observer.quant_max)
    assert found <= 1.02 * least_error(values, observer.quant_max)


@pytest.mark.parametrize("kind", ["percentile", "mse"])
def test_ranges_are_the_same_for_every_order_of_batches(kind):
    batches = list(
        torch.randn(6, 100, 8, generator=torch.Generator().manual_seed(4)) * torch.arange(1, 7).reshape(6, 1, 1)
    )
    forth, back = input_observer(kind, batches), input_observer(kind, batches[::-1])
    assert forth.calculate_qparams() == back.calculate_qparams()


@pytest.mark.parametrize("kind", EVERY)
def test_each_observer_makes_a_network_that_is_close(kind):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 10)).eval()
    recipe = Recipe("static", "x86", kind, reduce="weights")
    batches = [torch.randn(16, 3, 8, 8) for _ in range(4)]
    reference = network(batches[0])
    noise = convert(observe_network(network, recipe, batches), recipe)(batches[0]) - reference
    assert noise.std() < 0.03 * reference.std()


def test_an_observer_that_saw_nothing_gives_the_identity():
    with no_deprecations():
        observer = MSEObserver(dtype=torch.quint8)
    observer(torch.empty(0, 3))
    assert observer.calculate_qparams() == (torch.ones(1), torch.zeros(1))
