"""Codes, layers and their cases for the tests of int8 programs."""

import zlib
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from dlkit.quantize.int8 import CONVOLUTIONS, Affine, Epilogue, Int8ConvTranspose, find_kernels

U8, S8 = torch.uint8, torch.int8
REFERENCE = find_kernels("reference")
TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
FLOAT = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


def at(scale, place, dtype=U8):
    """A mapping with its zero point so far above the lowest code."""
    return Affine(scale, place - (128 if dtype == S8 else 0), dtype)


def codes_of(affine, *shape, seed=0, channels_last=False):
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(affine.lowest, affine.highest + 1, shape, generator=generator).to(affine.dtype)
    return codes.movedim(1, -1).contiguous().movedim(-1, 1) if channels_last and codes.dim() > 2 else codes


def real(codes, affine):
    return (codes.double() - affine.zero_point) * affine.scale


def rounded(values, affine):
    """The nearest codes, by the definition."""
    steps = (values / affine.scale).round() + affine.zero_point
    return steps.clamp(affine.lowest, affine.highest).to(affine.dtype)


@dataclass(frozen=True)
class ConvCase:
    """One convolution of a grid; zero points are counted from the lowest code."""

    num: int = 2
    batch: int = 1
    channels: tuple[int, int, int] = (8, 16, 1)  # in, out, groups
    kernel: int = 3
    stride: int = 1
    padding: int = 1
    dilation: int = 1
    activation: str = "none"
    x_zero: int = 77
    y_zero: int = 100
    x_dtype: torch.dtype = U8
    y_dtype: torch.dtype | None = U8
    per_channel: bool = True
    residual: bool = False
    bias: bool = True
    size: int = 7
    channels_last: bool = False
    transposed: bool = False

    @property
    def x(self):
        return at(0.03, self.x_zero, self.x_dtype)

    @property
    def y(self):
        return None if self.y_dtype is None else at(0.04, self.y_zero, self.y_dtype)

    @property
    def added(self):
        return at(0.023, 33, self.y_dtype or U8) if self.residual else None

    def build(self, bits=8, **options):
        torch.manual_seed(zlib.crc32(repr(self).encode()))
        into, out, groups = self.channels
        places = {"stride": self.stride, "padding": self.padding, "dilation": self.dilation, "groups": groups}
        kinds = TRANSPOSED if self.transposed else FLOAT
        layer = kinds[self.num](into, out, self.kernel, bias=self.bias, **places, **options)
        build = Int8ConvTranspose if self.transposed else CONVOLUTIONS[self.num]
        epilogue = Epilogue(self.y, self.activation, self.added)
        return build.from_float(layer, x=self.x, epilogue=epilogue, bits=bits, is_per_channel=self.per_channel)

    def inputs(self, layer):
        """The input and what is added, in a fresh memory."""
        x = codes_of(self.x, self.batch, self.channels[0], *[self.size] * self.num, channels_last=self.channels_last)
        if not self.residual:
            return (x,)
        layer.bind(REFERENCE)
        alone = layer(x)  # of the shape of what is to be added
        return x, codes_of(self.added, *alone.shape, seed=1, channels_last=self.channels_last)


@pytest.fixture(scope="session")
def tools():
    """What is above, for tests in other files."""
    names = {"at": at, "codes_of": codes_of, "real": real, "rounded": rounded, "ConvCase": ConvCase}
    return SimpleNamespace(reference=REFERENCE, **names)
