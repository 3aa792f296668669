import math

import pytest
import torch

from dlkit.quantize.int8 import (
    Affine,
    ChannelAffine,
    dequantize,
    lookup_table,
    quantize,
    quantize_weight,
    range_affine,
    requantize,
)

SIGNED = Affine(0.5, -3, torch.int8)


def test_halves_go_to_even_codes():
    x = torch.tensor([-1.5, -0.5, 0.5, 1.5, 2.5]) * 0.25
    assert quantize(x, Affine(0.25, 10)).tolist() == [8, 10, 10, 12, 12]
    assert quantize(x, Affine(0.25, 11)).tolist() == [9, 11, 11, 13, 13]  # even steps, whatever the zero point


def test_what_is_out_of_range_becomes_the_last_code():
    x = torch.tensor([-1e9, -1.0, 1.0, 1e9, math.inf])
    assert quantize(x, Affine(0.01, 100)).tolist() == [0, 0, 200, 255, 255]
    assert quantize(x, SIGNED).tolist() == [-128, -5, -1, 127, 127]


@pytest.mark.parametrize("affine", [Affine(0.1, 0), Affine(0.037, 255), Affine(3e-4, 128), SIGNED])
def test_codes_survive_the_way_through_float32(affine):
    codes = torch.arange(affine.lowest, affine.highest + 1).to(affine.dtype)
    real = dequantize(codes, affine)
    assert real.dtype == torch.float32
    assert torch.equal(quantize(real, affine), codes)
    assert torch.equal(real, ((codes.double() - affine.zero_point) * affine.scale).float())
    assert [affine.code_of(value) for value in real.tolist()] == codes.tolist()


def test_each_channel_has_its_scale():
    affine = ChannelAffine(torch.tensor([0.5, 0.25]), torch.tensor([0, 1]), axis=1)
    codes = quantize(torch.tensor([[1.0, 1.0], [-2.0, 100.0]]), affine)
    assert codes.dtype == torch.int8
    assert codes.tolist() == [[2, 5], [-4, 127]]
    assert dequantize(codes, affine).tolist() == [[1.0, 1.0], [-2.0, 31.5]]


def test_requantizing_is_rounding_the_real_numbers():
    source, target = Affine(0.3, 7), Affine(0.11, -20, torch.int8)
    codes = torch.arange(256).to(torch.uint8)
    want = (((codes.double() - 7) * source.scale) / target.scale).round() - 20
    assert torch.equal(requantize(codes, source, target), want.clamp(-128, 127).to(torch.int8))
    assert requantize(codes, source, source) is codes


@pytest.mark.parametrize(
    ("scale", "zero_point", "dtype"),
    [(0.0, 0, torch.uint8), (-1.0, 0, torch.uint8), (math.inf, 0, torch.uint8), (math.nan, 0, torch.uint8),
     (1e-60, 0, torch.uint8), (1.0, -1, torch.uint8), (1.0, 256, torch.uint8), (1.0, 128, torch.int8), (1.0, 0, torch.int32)],
)  # fmt: skip
def test_what_no_kernel_can_use_is_refused(scale, zero_point, dtype):
    with pytest.raises(ValueError):
        Affine(scale, zero_point, dtype)


def test_scales_are_float32():
    assert Affine(0.1, 0).scale == torch.tensor(0.1).item() != 0.1


@pytest.mark.parametrize(("bits", "low", "high"), [(8, -128, 127), (7, -64, 63)])
def test_weights_fill_their_bits_in_every_channel(bits, low, high):
    weight = torch.randn(5, 3, 2, generator=torch.Generator().manual_seed(0)) * torch.logspace(-3, 3, 5)[:, None, None]
    codes, scale = quantize_weight(weight, axis=0, bits=bits)
    assert codes.dtype == torch.int8 and scale.dtype == torch.float32 and scale.shape == (5,)
    assert codes.min() >= low and codes.max() <= high
    assert (codes.flatten(1).int().abs().amax(1) >= high).all()
    assert ((codes.double() * scale.double()[:, None, None] - weight).abs() <= scale[:, None, None] * 0.5001).all()
    codes, scale = quantize_weight(weight, axis=None, bits=bits)
    assert scale.shape == (1,) and codes[0].abs().max() == 0  # the small channels are lost


def test_a_weight_of_zeros_has_a_scale():
    codes, scale = quantize_weight(torch.zeros(2, 3), axis=0)
    assert not codes.any() and (scale > 0).all()


@pytest.mark.parametrize("x", [[0.0, 1.0], [-2.0, -1.0], [-1.0, 3.0], [0.0, 0.0], [5.0, 5.0]])
def test_a_range_covers_the_numbers_and_zero(x):
    x = torch.tensor(x)
    affine = Affine(*range_affine(x))
    assert dequantize(quantize(torch.zeros(1), affine), affine) == 0
    assert (dequantize(quantize(x, affine), affine) - x).abs().max() <= affine.scale / 2 * 1.0001


def test_a_range_is_the_same_when_it_is_traced():
    x = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    scale, zero_point = torch.compile(range_affine, backend="eager")(x)
    assert (scale.item(), zero_point.item()) == range_affine(x)


@pytest.mark.parametrize("function", [torch.sigmoid, torch.tanh, torch.nn.functional.gelu, lambda x: x**3])
@pytest.mark.parametrize("x", [Affine(0.03, 100), SIGNED])
def test_tables_are_exact(function, x):
    y = Affine(0.01, 60)
    codes = torch.arange(x.lowest, x.highest + 1)
    want = (function((codes.double() - x.zero_point) * x.scale) / y.scale).round() + 60
    assert torch.equal(lookup_table(function, x, y), want.clamp(0, 255).to(torch.uint8))
