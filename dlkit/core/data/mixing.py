"""MixUp and CutMix with a draw of its own for every sample; the partner is the sample before it in the batch, as in
torchvision.
"""

import torch
from torch import Tensor

from dlkit.core.data.counter_rng import Draws, integers


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
        pasted = (rows[:, None, :, None] & columns[:, None, None, :]).to(inputs.device)
        share = 1 - height_pasted * width_pasted / (height * width)
        return torch.where(pasted, inputs.roll(1, 0), inputs), _blend(targets, share)


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
