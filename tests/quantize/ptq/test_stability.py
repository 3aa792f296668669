import pytest
import torch
from torch import nn

from dlkit.quantize import Recipe
from dlkit.quantize.ptq import observe_in_halves


def build_network():
    """The same weights whatever ran before: how steady ranges are depends on them."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2)).eval()


NETWORK = build_network()


def stability_of(batches, observer="minmax"):
    return observe_in_halves(NETWORK, Recipe("static", "x86", observer, reduce="weights"), batches)[1]


def test_data_of_one_kind_is_stable():
    found = stability_of(list(torch.randn(8, 500, 8, generator=torch.Generator().manual_seed(0))))
    assert 1 <= found.median <= found.worst < 1.3
    assert found.note is None


def test_halves_that_differ_are_reported():
    """Trap 4.6: what a calibration set that is too small or not mixed looks like."""
    batches = list(torch.randn(8, 500, 8, generator=torch.Generator().manual_seed(0)))
    batches[3] = 10 * batches[3]
    found = stability_of(batches)
    assert found.worst > 2
    assert found.worst_name in found.note
    assert "--calib" in found.note


def test_a_robust_observer_is_steadier():
    batches = list(torch.randn(8, 4000, 8, generator=torch.Generator().manual_seed(0)))
    batches[3][0, 0] = 100
    assert stability_of(batches, "percentile").worst < 1.5 < stability_of(batches, "minmax").worst


def test_it_takes_two_batches():
    with pytest.raises(ValueError, match="at least two batches"):
        stability_of([torch.randn(4, 8)])
