"""Temperature scaling against scipy, and on outputs whose temperature is known."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from dlkit.core.evaluation import Predictions, calibration_error, confidence_bins, fit_temperature
from dlkit.errors import DataError


def overconfident(temperature, num_samples=4000, num_classes=5, seed=0):
    """Outputs that are too sure by this factor: targets are drawn by the softmax of what they are divided to."""
    generator = torch.Generator().manual_seed(seed)
    outputs = 2 * torch.randn(num_samples, num_classes, generator=generator)
    targets = torch.multinomial(outputs.softmax(1), 1, generator=generator)[:, 0]
    return Predictions(temperature * outputs, targets, torch.arange(num_samples))


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0, 40.0])
def test_the_least_likelihood_is_that_of_scipy(temperature):
    optimize = pytest.importorskip("scipy.optimize")
    found = overconfident(temperature)

    def loss(logarithm):
        return float(cross_entropy(found.outputs.double() / float(torch.tensor(logarithm).exp()), found.targets))

    wanted = optimize.minimize_scalar(loss, bounds=(-4.6, 4.6), method="bounded", options={"xatol": 1e-10})
    fitted = fit_temperature(found)
    assert fitted == pytest.approx(float(torch.tensor(wanted.x).exp()), rel=1e-5)
    assert fitted == pytest.approx(temperature, rel=0.1)


def test_the_calibration_error_goes_down():
    found, unseen = overconfident(3.0), overconfident(3.0, seed=1)
    scaled = Predictions(unseen.outputs / fit_temperature(found), unseen.targets, unseen.indices)
    before, after = (calibration_error(confidence_bins(part)) for part in (unseen, scaled))
    assert before > 0.15 and after < 0.03


@pytest.mark.parametrize("sign", [1, -1])
def test_what_has_no_temperature(sign):
    outputs = sign * 8 * torch.eye(4).repeat(5, 1)
    found = Predictions(outputs, torch.arange(4).repeat(5), torch.arange(20))
    with pytest.raises(DataError, match="no temperature between 0.01 and 100"):
        fit_temperature(found)


@pytest.mark.parametrize("outputs", [torch.full((6, 3), float("nan")), torch.zeros(0, 3)])
def test_outputs_that_are_no_numbers_and_no_outputs(outputs):
    found = Predictions(outputs, torch.zeros(len(outputs), dtype=torch.int64), torch.arange(len(outputs)))
    with pytest.raises(DataError, match="no temperature"):
        fit_temperature(found)
