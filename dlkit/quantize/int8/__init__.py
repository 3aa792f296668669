"""An int8 program: layers on plain tensors of codes, and the kernels that run them. No quantized tensor, no torch.ao."""

from dlkit.quantize.int8.activations import FUSED, Activation, activate, lookup_table
from dlkit.quantize.int8.arithmetic import (
    Affine,
    ChannelAffine,
    dequantize,
    quantize,
    quantize_weight,
    range_affine,
    real_values,
    requantize,
    weight_scale,
)
from dlkit.quantize.int8.binding import (
    bind_kernels,
    fitted_copy,
    int8_layers,
    lost_sums_note,
    unpack_kernels,
    unpacked_copy,
)
from dlkit.quantize.int8.kernels import (
    KERNEL_NAMES,
    Kernels,
    available_kernels,
    find_kernels,
    is_arm,
    pick_kernels,
    runnable_backends,
    saturating_shapes,
    saturation_note,
    weight_bits,
)
from dlkit.quantize.int8.layer import AFFINES, Epilogue, Int8Layer
from dlkit.quantize.int8.pointwise import Dequantize, Int8Add, Int8Cat, Int8Clamp, Int8Lookup, Int8Mul, Quantize
from dlkit.quantize.int8.pooling import Int8AdaptiveAvgPool, Int8AvgPool, Int8MaxPool, Int8Pad, Int8Resize, PoolGeometry
from dlkit.quantize.int8.products import (
    CONVOLUTIONS,
    LARGEST_DEPTH,
    ConvGeometry,
    Int8Conv,
    Int8Conv1d,
    Int8Conv2d,
    Int8Conv3d,
    Int8DynamicLinear,
    Int8Linear,
    Int8Product,
)
from dlkit.quantize.int8.program import code_affines
from dlkit.quantize.int8.recurrent import Int8Cell, Int8Recurrent
from dlkit.quantize.int8.transposed import Int8ConvTranspose, product_of
