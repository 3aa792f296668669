"""The seam to torch.ao, the only package that touches it: preparing, converting, quantizing dynamically, packed weights.

torch.ao is deprecated but is the only torch-native path with int8 kernels for convolutions, LSTM and x86 and ARM alike
(docs: "Quantization API reference"). What it leaves behind globally (engine, warnings) is put back here.
"""

from dlkit.quantize.fx.clamps import Bounds, clamp_inputs
from dlkit.quantize.fx.conversion import (
    DYNAMIC_INT8,
    FUSED_INT8,
    INT8,
    GraphFacts,
    check_names,
    convert,
    graph_facts,
    is_below,
    prepare,
)
from dlkit.quantize.fx.engine import no_deprecations, quantized_engine
from dlkit.quantize.fx.fake_quant import (
    fake_quants,
    freeze_norms,
    steady_norms,
    switch_observers,
    switch_rounding,
    take_ranges,
)
from dlkit.quantize.fx.graph_rewrites import FloatOperation
from dlkit.quantize.fx.qconfigs import ACTIVATION_OBSERVERS, qconfig_mapping
from dlkit.quantize.fx.range_observer import RangeObserver
from dlkit.quantize.fx.swapping import swap_dynamic
from dlkit.quantize.fx.tracing import trace
