"""MixUp and CutMix with a draw of its own for every sample; the partner is the sample before it in the batch, as in
torchvision.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dlkit.core.data.counter_rng import Draws, Stream, hash_key, integers

Mixer = Callable[[Tensor, Tensor, Draws], tuple[Tensor, Tensor]]


class MixUp:
    """Blend each sample and its target with its partner's, in shares from Beta(alpha, alpha).

    Source: Zhang et al., mixup: Beyond Empirical Risk Minimization, 2018 (arXiv 1710.09412). A larger alpha mixes more
    evenly.
    """

    needs_images = False

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = _positive(alpha)

    def __call__(self, inputs: Tensor, targets: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """Inputs (N, ...) and float targets (N, num_outputs), mixed."""
        share = draws.beta(self.alpha)
        return _blend(inputs, share), _blend(targets, share)


class CutMix:
    """Paste a box of the partner into each image, of area 1 - share; targets mix by the area that was really pasted.

    Source: Yun et al., CutMix, 2019 (arXiv 1905.04899).
    """

    needs_images = True

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = _positive(alpha)

    def __call__(self, inputs: Tensor, targets: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """Images (N, C, H, W) and float targets (N, num_outputs), mixed."""
        height, width = inputs.shape[-2:]
        half = 0.5 * (1 - draws.beta(self.alpha)).sqrt()
        u = draws.stage(2).uniforms(2)
        rows, height_pasted = _span(integers(u[:, 0], height), (half * height).long(), height)
        columns, width_pasted = _span(integers(u[:, 1], width), (half * width).long(), width)
        # zeros and ones: exact, and faster than torch.where
        pasted = (rows[:, None, :, None].to(inputs.dtype) * columns[:, None, None, :]).to(inputs.device)
        share = 1 - height_pasted * width_pasted / (height * width)
        return inputs * (1 - pasted) + inputs.roll(1, 0) * pasted, _blend(targets, share)


@dataclass(frozen=True)
class MixingPlan:
    """Which of the mixers works on which batch, as a function of (seed, epoch, first sample of the batch).

    `p` is the chance that any does, `switch` that of CutMix where there are two (None for evenly), `end` the first of the last epochs,
    which are not mixed.
    """

    mixers: tuple[Mixer, ...]
    p: float = 1.0
    switch: float | None = None
    end: int | None = None

    def pick(self, seed: int, epoch: int, first: int) -> Mixer | None:
        """Returns the mixer of a batch, None for a batch that stays as it is."""
        if self.end is not None and epoch >= self.end:
            return None
        key = hash_key(seed, Stream.MIX, epoch, first)
        if hash_key(key, 0) >= self.p * 2**64:
            return None
        if self.switch is None:
            return self.mixers[
                key % len(self.mixers)
            ]  # as torchvision's recipe does with RandomChoice([cutmix, mixup])
        wants_cut = hash_key(key, 1) < self.switch * 2**64
        return next(mixer for mixer in self.mixers if isinstance(mixer, CutMix) == wants_cut)


def _positive(alpha: float) -> float:
    if not alpha > 0:
        raise ValueError(f"alpha must be above 0, got {alpha}")
    return float(alpha)


def _span(middle: Tensor, half: Tensor, size: int) -> tuple[Tensor, Tensor]:
    first, last = (middle - half).clamp(min=0), (middle + half).clamp(max=size)
    positions = torch.arange(size)
    return (positions >= first[:, None]) & (positions < last[:, None]), last - first


def _blend(values: Tensor, share: Tensor) -> Tensor:
    share = share.to(values).view(-1, *[1] * (values.ndim - 1))
    return values * share + values.roll(1, 0) * (1 - share)
