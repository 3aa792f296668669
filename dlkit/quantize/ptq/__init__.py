"""Static quantization by calibration, and what makes it accurate: ranges, equalization, smoothing, biases, layers kept in float."""

from dlkit.quantize.ptq.bias_correction import correct_bias, shift_biases
from dlkit.quantize.ptq.calibration import calibrate, first_samples, observe_network
from dlkit.quantize.ptq.channel_links import find_links
from dlkit.quantize.ptq.channel_scaling import scale_link
from dlkit.quantize.ptq.equalization import equalize
from dlkit.quantize.ptq.fallback import Fallback, keep_sensitive_layers
from dlkit.quantize.ptq.fidelity import Fidelity, fidelity_of, outputs_of
from dlkit.quantize.ptq.search import Int8, Remedies, Trial, quantize_accurately
from dlkit.quantize.ptq.sensitivity import LayerSensitivity, rank_layers
from dlkit.quantize.ptq.smoothing import find_smoothable, smooth
from dlkit.quantize.ptq.stability import observe_in_halves
