"""Normalization: statistics of the training split, and their use."""

from collections.abc import Iterable
from functools import lru_cache

import torch
from torch import Tensor

from dlkit.core.data.contract import DataInfo

Statistics = tuple[tuple[float, ...], tuple[float, ...]]


def measure_statistics(chunks: Iterable[Tensor], *, is_image: bool) -> Statistics:
    """Mean and population standard deviation over all samples, in float64.

    Images (N, C, H, W) give one number per channel, uint8 ones being scaled to 0..1; features (N, F) and sequences (N,
    T, F) give one per feature. A channel that never varies gets a deviation of 1, which leaves it at 0 after
    normalization.
    """
    count, mean, squares = 0, torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    for chunk in chunks:
        values = _by_channel(chunk, is_image=is_image)
        # Chan, Golub and LeVeque 1979: merging means and sums of squared deviations loses no digits, as sums of squares
        # do
        chunk_mean, size = values.mean(1), values.shape[1]
        delta = chunk_mean - mean
        squares = squares + ((values - chunk_mean[:, None]) ** 2).sum(1) + delta**2 * (count * size / (count + size))
        mean = mean + delta * (size / (count + size))
        count += size
    std = (squares / count).sqrt()
    std = torch.where(std > 1e-7 * mean.abs().clamp(min=1e-5), std, torch.ones_like(std))
    return tuple(mean.tolist()), tuple(std.tolist())


def _by_channel(chunk: Tensor, *, is_image: bool) -> Tensor:
    if is_image:
        values = chunk.transpose(0, 1).flatten(1).double()
        return values if chunk.is_floating_point() else values / 255
    return chunk.flatten(0, -2).t().double()


def normalize_inputs(inputs: Tensor, info: DataInfo) -> Tensor:
    """A batch as the model takes it, float32: uint8 images (N, C, H, W) scaled to 0..1; then (x - mean) / std."""
    if info.kind != "image":
        return _normalize_features(inputs, info)
    scale = 1.0 if inputs.is_floating_point() else 1 / 255
    if info.mean is None or info.std is None:
        return inputs.float().mul_(scale) if scale != 1.0 else inputs.float()
    # one multiplication and one addition instead of a division, a subtraction and a division
    factor, offset = _factor_and_offset(info.mean, info.std, scale, inputs.device)
    return inputs.float().mul(factor).add_(offset)


@lru_cache(maxsize=16)
def _factor_and_offset(
    mean: tuple[float, ...], std: tuple[float, ...], scale: float, device: torch.device
) -> tuple[Tensor, Tensor]:
    # remembered, since copying numbers to a GPU for every batch would make it wait
    means, stds = torch.tensor(mean, dtype=torch.float64), torch.tensor(std, dtype=torch.float64)
    pair = torch.stack([scale / stds, -means / stds]).float().view(2, -1, 1, 1).to(device)
    return pair[0], pair[1]


def _normalize_features(inputs: Tensor, info: DataInfo) -> Tensor:
    if info.mean is None or info.std is None:
        return inputs.float()
    # large offsets, a year for example, need the digits of float64 until the mean is off; not every device has it
    wide = inputs.double() if inputs.device.type != "mps" else inputs
    mean, std = torch.tensor(info.mean, dtype=wide.dtype), torch.tensor(info.std, dtype=wide.dtype)
    return ((wide - mean.to(wide.device)) / std.to(wide.device)).float()
