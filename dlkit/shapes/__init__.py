"""Shape arithmetic without torch: sizes, costs and receptive fields of layers and chains, forwards and backwards."""

from typing import TYPE_CHECKING

from dlkit.doors import lazy_door

if TYPE_CHECKING:
    from dlkit.shapes.chain import AxisFields, ChainError, ChainRow, chain_totals, find_fixes, run_chain
    from dlkit.shapes.chain_parser import ChainStep, is_layer, layer_kind, parse_chain, parse_step
    from dlkit.shapes.conv import Conv, ConvTranspose
    from dlkit.shapes.dense import Flatten, Linear, Norm, Pointwise, Unflatten
    from dlkit.shapes.drawing import draw_fields, draw_windows
    from dlkit.shapes.explain import Explained, explain_transposed, explanation_lines
    from dlkit.shapes.fold import Fold, Unfold
    from dlkit.shapes.inverse import LayerSolution, SearchLimits, SolveRequest, solve
    from dlkit.shapes.layer import Layer, Spatial
    from dlkit.shapes.layer_table import KINDS, build_layer
    from dlkit.shapes.pool import AdaptivePool, Pool, Unpool
    from dlkit.shapes.resample import PixelShuffle, PixelUnshuffle, Upsample
    from dlkit.shapes.size import Shape, ShapeError, Size, count_text, parse_numbers, per_axis, short_count, size_text
    from dlkit.shapes.taps import (
        IDENTITY,
        ReceptiveField,
        Taps,
        adaptive_taps,
        compose,
        transposed_taps,
        union,
        window_taps,
    )
    from dlkit.shapes.valid_sizes import ValidSizes, find_valid_sizes, valid_chain_sizes
    from dlkit.shapes.window import Window

__getattr__, __all__ = lazy_door(
    __name__,
    {
        "chain": "AxisFields ChainError ChainRow chain_totals find_fixes run_chain",
        "chain_parser": "ChainStep is_layer layer_kind parse_chain parse_step",
        "conv": "Conv ConvTranspose",
        "dense": "Flatten Linear Norm Pointwise Unflatten",
        "drawing": "draw_fields draw_windows",
        "explain": "Explained explain_transposed explanation_lines",
        "fold": "Fold Unfold",
        "inverse": "LayerSolution SearchLimits SolveRequest solve",
        "layer": "Layer Spatial",
        "layer_table": "KINDS build_layer",
        "pool": "AdaptivePool Pool Unpool",
        "resample": "PixelShuffle PixelUnshuffle Upsample",
        "size": "Shape ShapeError Size count_text parse_numbers per_axis short_count size_text",
        "taps": "IDENTITY ReceptiveField Taps adaptive_taps compose transposed_taps union window_taps",
        "valid_sizes": "ValidSizes find_valid_sizes valid_chain_sizes",
        "window": "Window",
    },
)
