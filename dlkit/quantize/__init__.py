"""Post-training and quantization-aware int8."""

from dlkit.quantize.accuracy import Remedies, quantize_accurately
from dlkit.quantize.backends import cpu_notes, has_depthwise, pick_backend, pick_reduce
from dlkit.quantize.bias_correction import correct_bias, shift_biases
from dlkit.quantize.calibration_data import open_model_data
from dlkit.quantize.channel_links import Link, find_links
from dlkit.quantize.channel_scaling import columns_range, rows_range, scale_link
from dlkit.quantize.clipping import clip_to_activations
from dlkit.quantize.coverage import LayerStatus, layer_statuses
from dlkit.quantize.decoding import decode
from dlkit.quantize.dynamic import quantize_dynamic
from dlkit.quantize.encoding import encode
from dlkit.quantize.equalization import equalize
from dlkit.quantize.fallback import keep_sensitive_layers
from dlkit.quantize.fidelity import fidelity_of, outputs_of
from dlkit.quantize.fx import convert, prepare, quantized_engine
from dlkit.quantize.histogram import HALF, Histogram
from dlkit.quantize.keeping import match_modules
from dlkit.quantize.kernels import count_int8_kernels, require_int8
from dlkit.quantize.observed import observed_tensors, without_observers
from dlkit.quantize.observers import MSEObserver, PercentileObserver
from dlkit.quantize.qat import QatSettings, build_qat, prepare_training, quantize_aware, train_quantized
from dlkit.quantize.qat_comparison import is_chance
from dlkit.quantize.qat_phases import Phases
from dlkit.quantize.qdq_cleanup import clean_qdq
from dlkit.quantize.qdq_graph import AS_FLOAT
from dlkit.quantize.ranking import Ranking, describe_ranking, run_ranking
from dlkit.quantize.recipe import Recipe
from dlkit.quantize.replay import replay, rewrite_entry
from dlkit.quantize.report import Coverage, Outcome, describe_outcome
from dlkit.quantize.request import QuantizeRequest, check_request, plan_paths
from dlkit.quantize.run import run_quantization
from dlkit.quantize.saving import check_reload, save_quantized
from dlkit.quantize.sensitivity import LayerSensitivity, rank_layers
from dlkit.quantize.sharing import copy_sharing_weights
from dlkit.quantize.smoothing import smooth, smoothable_links
from dlkit.quantize.stability import calibration_stability
from dlkit.quantize.static import calibrate, first_samples, observe_network

__all__ = [
    "AS_FLOAT",
    "HALF",
    "Coverage",
    "Histogram",
    "LayerSensitivity",
    "LayerStatus",
    "Link",
    "MSEObserver",
    "Outcome",
    "PercentileObserver",
    "Phases",
    "QatSettings",
    "QuantizeRequest",
    "Ranking",
    "Recipe",
    "Remedies",
    "build_qat",
    "calibrate",
    "calibration_stability",
    "check_reload",
    "check_request",
    "clean_qdq",
    "clip_to_activations",
    "columns_range",
    "convert",
    "copy_sharing_weights",
    "correct_bias",
    "count_int8_kernels",
    "cpu_notes",
    "decode",
    "describe_outcome",
    "describe_ranking",
    "encode",
    "equalize",
    "fidelity_of",
    "find_links",
    "first_samples",
    "has_depthwise",
    "is_chance",
    "keep_sensitive_layers",
    "layer_statuses",
    "match_modules",
    "observe_network",
    "observed_tensors",
    "open_model_data",
    "outputs_of",
    "pick_backend",
    "pick_reduce",
    "plan_paths",
    "prepare",
    "prepare_training",
    "quantize_accurately",
    "quantize_aware",
    "quantize_dynamic",
    "quantized_engine",
    "rank_layers",
    "replay",
    "require_int8",
    "rewrite_entry",
    "rows_range",
    "run_quantization",
    "run_ranking",
    "save_quantized",
    "scale_link",
    "shift_biases",
    "smooth",
    "smoothable_links",
    "train_quantized",
    "without_observers",
]
