"""Shape arithmetic without torch."""

from dlkit.shapes.build import KINDS, POINTWISE, build_layer
from dlkit.shapes.chain import ChainError, Field, Row, find_mends, run_chain, total
from dlkit.shapes.chain_text import ChainStep, is_layer, parse_chain, parse_step, spell
from dlkit.shapes.conv import Conv, ConvTranspose
from dlkit.shapes.dense import Flatten, Linear, Norm, Pointwise, Unflatten
from dlkit.shapes.drawing import draw_fields, draw_windows
from dlkit.shapes.explain import Explained, explain_transposed, explanation_lines
from dlkit.shapes.fold import Fold, Unfold
from dlkit.shapes.inverse import SOLVABLE, Asked, Geometry, LayerSolution, SearchLimits, forward, inputs_for, solve
from dlkit.shapes.layer import Layer, Spatial
from dlkit.shapes.passing import Passing, chain_sizes, find_passing
from dlkit.shapes.pool import AdaptivePool, Pool, Unpool
from dlkit.shapes.reach import IDENTITY, Reach, Taps, compose, shares, spread_windows, union, whole, windows
from dlkit.shapes.resample import PixelShuffle, PixelUnshuffle, Upsample
from dlkit.shapes.size import Shape, ShapeError, Size, count_text, parse_numbers, short_count, size_text, spread
from dlkit.shapes.window import Window, conv_size, pool_size, transposed_size

__all__ = [
    "IDENTITY",
    "KINDS",
    "POINTWISE",
    "SOLVABLE",
    "AdaptivePool",
    "Asked",
    "ChainError",
    "ChainStep",
    "Conv",
    "ConvTranspose",
    "Explained",
    "Field",
    "Flatten",
    "Fold",
    "Geometry",
    "Layer",
    "LayerSolution",
    "Linear",
    "Norm",
    "Passing",
    "PixelShuffle",
    "PixelUnshuffle",
    "Pointwise",
    "Pool",
    "Reach",
    "Row",
    "SearchLimits",
    "Shape",
    "ShapeError",
    "Size",
    "Spatial",
    "Taps",
    "Unflatten",
    "Unfold",
    "Unpool",
    "Upsample",
    "Window",
    "build_layer",
    "chain_sizes",
    "compose",
    "conv_size",
    "count_text",
    "draw_fields",
    "draw_windows",
    "explain_transposed",
    "explanation_lines",
    "find_mends",
    "find_passing",
    "forward",
    "inputs_for",
    "is_layer",
    "parse_chain",
    "parse_numbers",
    "parse_step",
    "pool_size",
    "run_chain",
    "shares",
    "short_count",
    "size_text",
    "solve",
    "spell",
    "spread",
    "spread_windows",
    "total",
    "transposed_size",
    "union",
    "whole",
    "windows",
]
