"""Random rotations and affine maps of a batch.

The arithmetic follows torchvision.transforms.v2.functional.affine and .rotate, so that one matrix gives the same pixels
there and here.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from dlkit.core.data.counter_rng import Draws


def rotate_images(transform: Any, images: Tensor, draws: Draws) -> Tensor:
    """RandomRotation without `expand`."""
    angles = _between(draws.uniforms(1)[:, 0], transform.degrees)
    none = torch.zeros_like(angles)
    matrices = inverse_affine_matrices(
        -angles, (none, none), none + 1, shears=(none, none), center=_from_middle(transform.center, images)
    )
    return warp_images(images, matrices, interpolation=transform.interpolation, fill=transform.fill)


def affine_images(transform: Any, images: Tensor, draws: Draws) -> Tensor:
    """RandomAffine: rotation, translation in whole pixels, scale and shear about the centre."""
    u = draws.uniforms(6)
    angles = _between(u[:, 0], transform.degrees)
    none = torch.zeros_like(angles)
    shift_x, shift_y, scales, shear_x, shear_y = none, none, none + 1, none, none
    if transform.translate is not None:
        most_x, most_y = transform.translate[0] * images.shape[-1], transform.translate[1] * images.shape[-2]
        shift_x, shift_y = _between(u[:, 1], (-most_x, most_x)).round(), _between(u[:, 2], (-most_y, most_y)).round()
    if transform.scale is not None:
        scales = _between(u[:, 3], transform.scale)
    if transform.shear is not None:
        shear_x = _between(u[:, 4], transform.shear[:2])
        shear_y = _between(u[:, 5], transform.shear[2:]) if len(transform.shear) == 4 else none
    matrices = inverse_affine_matrices(
        angles, (shift_x, shift_y), scales, shears=(shear_x, shear_y), center=_from_middle(transform.center, images)
    )
    return warp_images(images, matrices, interpolation=transform.interpolation, fill=transform.fill)


def _between(u: Tensor, limits: Sequence[float]) -> Tensor:
    return limits[0] + u * (limits[1] - limits[0])


def _from_middle(center: Sequence[float] | None, images: Tensor) -> tuple[float, float]:
    if center is None:
        return 0.0, 0.0
    return center[0] - images.shape[-1] * 0.5, center[1] - images.shape[-2] * 0.5


def inverse_affine_matrices(
    angles: Tensor,
    shifts: tuple[Tensor, Tensor],
    scales: Tensor,
    *,
    shears: tuple[Tensor, Tensor],
    center: tuple[float, float],
) -> Tensor:
    """From pixels of the result to pixels of the image, one matrix per sample: float64 (N, 2, 3).

    Angles and shears are in degrees, shifts in pixels, the centre in pixels from the middle of the image. The map that
    is inverted is translation, centre, rotation, scale, shear in y, shear in x, centre back; its determinant without
    scale is 1.
    """
    angle, (shear_x, shear_y) = angles.deg2rad(), (shears[0].deg2rad(), shears[1].deg2rad())
    a = (angle - shear_y).cos() / shear_y.cos()
    b = -(a * shear_x.tan() + angle.sin())
    c = (angle - shear_y).sin() / shear_y.cos()
    d = angle.cos() - c * shear_x.tan()
    linear = torch.stack([torch.stack([d, -b], 1), torch.stack([-c, a], 1)], 1) / scales[:, None, None]
    middle = torch.tensor(center, dtype=linear.dtype)
    offset = middle - (linear @ (middle + torch.stack(shifts, 1))[:, :, None])[:, :, 0]
    return torch.cat([linear, offset[:, :, None]], 2)


def warp_images(
    images: Tensor, matrices: Tensor, *, interpolation: Any, fill: float | Sequence[float] | None
) -> Tensor:
    """Sample each image (N, C, H, W) through its matrix (N, 2, 3); integer images are rounded."""
    mode = getattr(interpolation, "value", interpolation)
    pixels = images if images.is_floating_point() else images.float()
    grid = _grid(matrices.to(pixels), images.shape[-2], images.shape[-1])
    warped = grid_sample(pixels, grid, mode=mode, padding_mode="zeros", align_corners=False)
    if fill is not None and not (mode == "nearest" and fill == 0):
        warped = _fill_outside(warped, grid, images, mode=mode, fill=fill)
    return warped if images.is_floating_point() else warped.round_().to(images.dtype)


def _grid(matrices: Tensor, height: int, width: int) -> Tensor:
    y = torch.linspace((1 - height) * 0.5, (height - 1) * 0.5, height, device=matrices.device, dtype=matrices.dtype)
    x = torch.linspace((1 - width) * 0.5, (width - 1) * 0.5, width, device=matrices.device, dtype=matrices.dtype)
    points = torch.stack(
        [x.expand(height, width), y[:, None].expand(height, width), torch.ones_like(x).expand(height, width)], 2
    )
    to_unit = matrices.transpose(1, 2) / torch.tensor(
        [0.5 * width, 0.5 * height], device=matrices.device, dtype=matrices.dtype
    )
    return (points.view(1, -1, 3).expand(len(matrices), -1, -1) @ to_unit).view(len(matrices), height, width, 2)


def _fill_outside(warped: Tensor, grid: Tensor, images: Tensor, *, mode: str, fill: float | Sequence[float]) -> Tensor:
    ones = torch.ones((1, 1, *images.shape[-2:]), dtype=warped.dtype, device=warped.device).expand(
        len(images), -1, -1, -1
    )
    inside = grid_sample(ones, grid, mode=mode, padding_mode="zeros", align_corners=False)
    color = torch.tensor(fill, dtype=warped.dtype, device=warped.device).view(1, -1, 1, 1)
    if mode == "nearest":
        return torch.where(inside < 0.5, color, warped)
    # torchvision blends what grid_sample has blended with zeros already; kept, so that results are the same
    return (warped - color) * inside + color
