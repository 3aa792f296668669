"""Random numbers as pure functions of counters: (seed, epoch, sample, number of the draw).

Nothing is stateful, so an epoch can be entered at any batch, a batch can be cut at any place and loaders can have any
number of processes, and every sample still gets the same numbers. The generator is splitmix64 (Steele, Lea and Flood:
Fast splittable pseudorandom number generators, 2014): sample `i` of a stream takes the i-th output of the splitmix64
sequence that starts at the stream's key.
"""

import math
from dataclasses import dataclass, replace
from enum import IntEnum

import torch
from torch import Tensor


class Stream(IntEnum):
    """What random numbers are for; each use has numbers of its own."""

    ORDER = 1
    AUGMENT = 2
    MIX = 3
    SAMPLE = 4
    VAL = 5
    TEST = 6
    LIMIT = 7
    STATISTICS = 8
    CALIBRATION = 9
    SAMPLING = 10


_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_MIX_1 = 0xBF58476D1CE4E5B9
_MIX_2 = 0x94D049BB133111EB


def hash_key(*numbers: int) -> int:
    """Returns a 64-bit key from any whole numbers; their order and count matter."""
    state = len(numbers)
    for number in numbers:
        state = _mix(((state ^ (number & _MASK)) + _GOLDEN) & _MASK)
    return state


def _mix(z: int) -> int:
    z = ((z ^ (z >> 30)) * _MIX_1) & _MASK
    z = ((z ^ (z >> 27)) * _MIX_2) & _MASK
    return z ^ (z >> 31)


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def hash_indices(keys: Tensor, indices: Tensor) -> Tensor:
    """64 random bits as int64 for each pair of a key and an index, which broadcast against each other."""
    z = (indices + 1) * _signed(_GOLDEN) + keys
    z = (z ^ _shift_right(z, 30)) * _signed(_MIX_1)
    z = (z ^ _shift_right(z, 27)) * _signed(_MIX_2)
    return z ^ _shift_right(z, 31)


def _shift_right(z: Tensor, bits: int) -> Tensor:
    # torch's >> keeps the sign; the mask makes it the unsigned shift
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def permutation(key: int, size: int) -> Tensor:
    """Returns an order of 0..size-1 that depends on the key only, int64."""
    return hash_indices(torch.tensor(_signed(key)), torch.arange(size)).argsort(stable=True)


@dataclass(frozen=True)
class Draws:
    """The random numbers of some samples: number `k` of a sample depends on seed, epoch, stages, the sample's index and
    `k` alone.

    `indices` is int64 (N,). `epoch` is None for numbers that stay the same in all epochs.
    """

    seed: int
    epoch: int | None
    indices: Tensor
    stages: tuple[int, ...] = ()

    def stage(self, number: int) -> "Draws":
        """Numbers of their own for one stage, so that a transform added later does not move those of its neighbours."""
        return replace(self, stages=(*self.stages, number))

    def for_all_epochs(self) -> "Draws":
        """Numbers that do not change from epoch to epoch."""
        return replace(self, epoch=None)

    def uniforms(self, count: int) -> Tensor:
        """Returns the numbers 0..count-1 of each sample in [0, 1): float64 (N, count)."""
        stream = hash_key(self.seed, -1 if self.epoch is None else self.epoch, *self.stages)
        keys = [hash_key(stream, number) for number in range(count)]
        if len(self.indices) == 1:
            # a loader asks for one sample at a time, where Python's whole numbers beat ten calls into torch
            index = int(self.indices[0])
            bits = [_mix((key + (index + 1) * _GOLDEN) & _MASK) >> 11 for key in keys]
            return torch.tensor([bits], dtype=torch.float64) * 2.0**-53
        table = torch.tensor([_signed(key) for key in keys])
        return _shift_right(hash_indices(table, self.indices[:, None]), 11).double() * 2.0**-53

    def beta(self, alpha: float) -> Tensor:
        """Returns one number of each sample from Beta(alpha, alpha): float64 (N,)."""
        # in logarithms, because a small alpha makes both gammas vanish
        return torch.sigmoid(self.stage(0)._log_gamma(alpha) - self.stage(1)._log_gamma(alpha))

    def _log_gamma(self, alpha: float) -> Tensor:
        # Marsaglia and Tsang: A simple method for generating gamma variables, 2000. One row of numbers per attempt;
        # about 95 % are accepted each time, and whether a sample is does not depend on the others.
        if alpha < 1:
            boost = (self.stage(1).uniforms(1)[:, 0] + 2.0**-54).log() / alpha
            return self.stage(0)._log_gamma(alpha + 1) + boost
        d = alpha - 1 / 3
        result = torch.full(self.indices.shape, math.nan, dtype=torch.float64)
        for attempt in range(100):
            x, u = self.stage(2 + attempt)._normal_and_uniform()
            v = (1 + x / math.sqrt(9 * d)) ** 3
            accepted = (v > 0) & (u.log() < 0.5 * x**2 + d - d * v + d * v.log())
            result = torch.where(result.isnan() & accepted, math.log(d) + v.log(), result)
            if not result.isnan().any():
                break
        return result

    def _normal_and_uniform(self) -> tuple[Tensor, Tensor]:
        u = self.uniforms(3) + 2.0**-54
        return (-2 * u[:, 0].log()).sqrt() * (2 * math.pi * u[:, 1]).cos(), u[:, 2]


def integers(u: Tensor, high: Tensor | int) -> Tensor:
    """Whole numbers 0..high-1 from numbers in [0, 1): int64."""
    return (u * high).long()
