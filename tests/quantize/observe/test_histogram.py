import numpy as np
import pytest
import torch

from dlkit.quantize.observe import Histogram


def filled(*batches):
    histogram = Histogram()
    for batch in batches:
        histogram.add(batch)
    return histogram


def test_order_and_batching_make_no_difference():
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(30_000, generator=generator) * torch.logspace(-4, 2, 30_000)
    whole, parts = filled(values), filled(*values.flip(0).split(977))
    assert torch.equal(whole.counts, parts.counts)
    assert whole.exponent == parts.exponent
    assert (whole.least, whole.greatest) == (parts.least, parts.greatest) == (values.min().item(), values.max().item())
    assert int(whole.counts.sum()) == 30_000


def test_every_value_lies_in_its_bin():
    values = torch.tensor([-1.0, -1e-9, 0.0, 1e-9, 0.25, 0.999999])
    histogram = filled(values)
    centers, counts = histogram.bins()
    assert counts.sum() == len(values)
    for value in values.tolist():
        assert (centers - value).abs().min() <= histogram.bin_width / 2


@pytest.mark.parametrize("fraction", [0.0001, 0.01, 0.5, 0.99, 0.9999])
def test_quantiles_agree_with_numpy(fraction):
    values = torch.randn(200_000, generator=torch.Generator().manual_seed(1)).exp()
    histogram = filled(*values.split(10_000))
    assert histogram.quantile(fraction) == pytest.approx(
        np.quantile(values.numpy(), fraction), abs=2 * histogram.bin_width
    )


def test_the_ends_are_exact():
    values = torch.tensor([-3.3, 1.0, 7.7])
    histogram = filled(values)
    assert histogram.quantile(0.0) == pytest.approx(-3.3, abs=histogram.bin_width)
    assert histogram.quantile(1.0) == values.max().item()


def test_infinite_values_are_left_out_and_nan_is_refused():
    histogram = filled(torch.tensor([1.0, -torch.inf, torch.inf]))
    assert (histogram.least, histogram.greatest) == (1.0, 1.0)
    with pytest.raises(ValueError, match="not a number"):
        histogram.add(torch.tensor([0.0, torch.nan]))


def test_zeros_alone_and_huge_values():
    assert filled(torch.zeros(5)).quantile(0.5) == 0.0
    assert filled(torch.tensor([3e38, 1e-30])).greatest == pytest.approx(3e38)


def test_zeros_first_leave_room_for_small_values():
    """A layer that is silent for the first batch: all that comes later would be one bin."""
    small = torch.linspace(1e-6, 1e-5, 1000)
    first, last = filled(torch.zeros(10), small), filled(small, torch.zeros(10))
    assert torch.equal(first.counts, last.counts) and first.exponent == last.exponent
    assert first.quantile(0.5) == pytest.approx(5.5e-6, rel=0.02)
