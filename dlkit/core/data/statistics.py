"""Normalization of inputs and of regression targets: statistics of the training split, and their use."""

from collections.abc import Iterable
from functools import lru_cache
from itertools import chain

import torch
from torch import Tensor

from dlkit.core.data.contract import DataInfo

Statistics = tuple[tuple[float, ...], tuple[float, ...]]


def measure_statistics(chunks: Iterable[Tensor], *, is_image: bool) -> Statistics:
    """Returns mean and population standard deviation over all samples, in float64, from chunks of one dtype.

    Images (N, C, H, W) give one number per channel, uint8 ones being scaled to 0..1; features (N, F) and sequences
    (N, T, F) give one per feature. What never varies gets a deviation of 1, so that it is 0 after normalization.
    """
    remaining = iter(chunks)
    first = next(remaining)
    of_bytes = is_image and first.dtype == torch.uint8
    values = (_by_channel(chunk, is_image=is_image) for chunk in chain([first], remaining))
    mean, std = _measure_bytes(values) if of_bytes else _measure_floats(values)
    # rounding lets a constant deviate by about 1e-16 of its size
    std = torch.where(std > 1e-13 * mean.abs(), std, torch.ones_like(std))
    return tuple(mean.tolist()), tuple(std.tolist())


def _by_channel(chunk: Tensor, *, is_image: bool) -> Tensor:
    return chunk.transpose(0, 1).flatten(1) if is_image else chunk.flatten(0, -2).t()


def _measure_bytes(chunks: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    # sums of whole numbers are exact, so that the result does not depend on how the samples come
    count, total, squares = 0, torch.tensor(0), torch.tensor(0)
    for chunk in chunks:
        values = chunk.int()
        count += values.shape[1]
        total = total + values.sum(1, dtype=torch.int64)
        squares = squares + (values * values).sum(1, dtype=torch.int64)
    sums = list(zip(total.tolist(), squares.tolist(), strict=True))
    mean = torch.tensor([channel / (255 * count) for channel, _ in sums], dtype=torch.float64)
    variance = [(count * square - channel**2) / (255 * count) ** 2 for channel, square in sums]
    return mean, torch.tensor(variance, dtype=torch.float64).sqrt()


def _measure_floats(chunks: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    # Chan, Golub and LeVeque 1979: merging means and sums of squared deviations loses no digits, as sums of squares do
    count, mean, squares = 0, torch.tensor(0.0, dtype=torch.float64), torch.tensor(0.0, dtype=torch.float64)
    for chunk in chunks:
        values = chunk.double()
        chunk_mean, size = values.mean(1), values.shape[1]
        delta = chunk_mean - mean
        squares = squares + ((values - chunk_mean[:, None]) ** 2).sum(1)
        squares = squares + delta**2 * (count * size / (count + size))
        mean = mean + delta * (size / (count + size))
        count += size
    return mean, (squares / count).sqrt()


def normalize_inputs(inputs: Tensor, info: DataInfo) -> Tensor:
    """Returns a batch as the model takes it, float32: uint8 images (N, C, H, W) scaled to 0..1; then (x - mean) / std."""
    if info.kind != "image":
        return _normalize_features(inputs, info)
    scale = 1.0 if inputs.is_floating_point() else 1 / 255
    if info.mean is None or info.std is None:
        return inputs.float().mul_(scale) if scale != 1.0 else inputs.float()
    # one multiplication and one addition instead of a division, a subtraction and a division
    factor, offset = _factor_and_offset(info.mean, info.std, scale, device=inputs.device)
    numbers = inputs.float()
    # in place where the numbers are a copy already: new memory costs more than both operations
    return (numbers.mul(factor) if numbers is inputs else numbers.mul_(factor)).add_(offset)


@lru_cache(maxsize=16)
def _factor_and_offset(
    mean: tuple[float, ...], std: tuple[float, ...], scale: float, *, device: torch.device
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


def standardize_targets(targets: Tensor, info: DataInfo) -> Tensor:
    """Returns targets (N, num_outputs) as the network is trained on them, float32; classes as they are."""
    if not targets.is_floating_point():
        return targets
    scale = _target_scale(info)
    return targets.float() if scale is None else ((targets.double() - scale[0]) / scale[1]).float()


def restore_targets(values: Tensor, info: DataInfo) -> Tensor:
    """Returns outputs of a network, or targets that it was trained on, on the CPU, in the units of the data, float64."""
    scale = _target_scale(info)
    return values.double() if scale is None else values.double() * scale[1] + scale[0]


def _target_scale(info: DataInfo) -> tuple[Tensor, Tensor] | None:
    return None if info.target_mean is None else _as_rows(info.target_mean, info.target_std or ())


@lru_cache(maxsize=16)
def _as_rows(mean: tuple[float, ...], std: tuple[float, ...]) -> tuple[Tensor, Tensor]:
    return torch.tensor(mean, dtype=torch.float64), torch.tensor(std, dtype=torch.float64)
