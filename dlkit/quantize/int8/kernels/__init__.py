"""Kernels that run the layers of an int8 program: exact ones, and adapters of fast ones."""

from dlkit.quantize.int8.kernels.choice import (
    KERNEL_NAMES,
    available_kernels,
    find_kernels,
    is_arm,
    pick_kernels,
    runnable_backends,
    saturating_shapes,
    saturation_note,
    weight_bits,
)
from dlkit.quantize.int8.kernels.onednn import describe_packing
from dlkit.quantize.int8.kernels.pixels import makes_one_place, reads_float_codes
from dlkit.quantize.int8.kernels.protocol import Kernels
from dlkit.quantize.int8.kernels.saturation import saturates
