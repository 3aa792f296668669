"""Post-training and quantization-aware int8."""

from dlkit.quantize.accuracy import Remedies, quantize_accurately
from dlkit.quantize.backends import cpu_notes, pick_backend, pick_reduce
from dlkit.quantize.bias_correction import correct_bias, shift_biases
from dlkit.quantize.channel_links import find_links
from dlkit.quantize.channel_scaling import scale_link
from dlkit.quantize.clipping import clip_to_activations
from dlkit.quantize.coverage import LayerStatus, layer_statuses
from dlkit.quantize.dynamic import quantize_dynamic
from dlkit.quantize.equalization import equalize
from dlkit.quantize.fallback import keep_sensitive_layers
from dlkit.quantize.fidelity import fidelity_of, outputs_of
from dlkit.quantize.fx import convert, prepare, quantized_engine
from dlkit.quantize.histogram import Histogram
from dlkit.quantize.kernels import count_int8_kernels, require_int8
from dlkit.quantize.observed import observed_tensors, without_observers
from dlkit.quantize.observers import MSEObserver, PercentileObserver
from dlkit.quantize.qat import QatSettings, build_qat, prepare_training, quantize_aware, train_quantized
from dlkit.quantize.qat_comparison import is_chance
from dlkit.quantize.qat_phases import Phases
from dlkit.quantize.ranking import Ranking, describe_ranking, run_ranking
from dlkit.quantize.recipe import Recipe
from dlkit.quantize.replay import loading, replay
from dlkit.quantize.report import Coverage, Outcome, describe_outcome
from dlkit.quantize.request import QuantizeRequest
from dlkit.quantize.run import run_quantization
from dlkit.quantize.saving import save_quantized
from dlkit.quantize.sensitivity import LayerSensitivity, rank_layers
from dlkit.quantize.smoothing import smooth
from dlkit.quantize.stability import calibration_stability
from dlkit.quantize.static import calibrate, first_samples, observe_network
