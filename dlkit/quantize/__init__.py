"""Post-training and quantization-aware int8."""

from dlkit.quantize.backends import cpu_notes, describe_kernels, has_fast_kernels, pick_backend, pick_reduce
from dlkit.quantize.coverage import LayerStatus, float_weights_note, layer_statuses
from dlkit.quantize.dynamic import quantize_dynamic
from dlkit.quantize.graph import convert, prepare
from dlkit.quantize.int8_proof import count_int8_kernels, require_int8
from dlkit.quantize.ptq import (
    LayerSensitivity,
    Remedies,
    calibrate,
    equalize,
    fidelity_of,
    find_links,
    first_samples,
    observe_network,
    outputs_of,
    quantize_accurately,
    scale_link,
    shift_biases,
)
from dlkit.quantize.ranking import Ranking, describe_ranking, run_ranking
from dlkit.quantize.recipe import Recipe
from dlkit.quantize.report import Coverage, Outcome, describe_outcome
from dlkit.quantize.request import QuantizeRequest
from dlkit.quantize.run import run_quantization
from dlkit.quantize.storage import after_loading, replay, save_quantized
