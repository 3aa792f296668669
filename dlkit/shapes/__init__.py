"""Shape arithmetic without torch."""

from dlkit.shapes.conv import Conv, ConvTranspose
from dlkit.shapes.dense import Flatten, Linear, Norm, Pointwise, Unflatten
from dlkit.shapes.fold import Fold, Unfold
from dlkit.shapes.layer import Layer, Spatial
from dlkit.shapes.pool import AdaptivePool, Pool, Unpool
from dlkit.shapes.resample import PixelShuffle, PixelUnshuffle, Upsample
from dlkit.shapes.size import Shape, ShapeError, Size

__all__ = [
    "AdaptivePool",
    "Conv",
    "ConvTranspose",
    "Flatten",
    "Fold",
    "Layer",
    "Linear",
    "Norm",
    "PixelShuffle",
    "PixelUnshuffle",
    "Pointwise",
    "Pool",
    "Shape",
    "ShapeError",
    "Size",
    "Spatial",
    "Unflatten",
    "Unfold",
    "Unpool",
    "Upsample",
]
