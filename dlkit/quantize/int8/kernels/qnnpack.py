"""QNNPACK's kernels, for ARM; they run on x86 too, slowly. The same way as FBGEMM's, and as long as torch has them.

They round their biases to whole steps of a product and scale sums in integers, so that more codes than elsewhere are one step off.
"""

from dlkit.quantize.int8.kernels.fbgemm import QuantizedTensorKernels

QNNPACK = QuantizedTensorKernels(
    "qnnpack", "this torch has no kernels of QNNPACK on quantized tensors; torch is removing them"
)
