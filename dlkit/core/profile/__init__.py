"""What a network costs without running it: parameters, MACs, activation memory and receptive fields, layer by layer."""

from dlkit.core.profile.activation_memory import measure_peak_bytes, measure_saved_bytes
from dlkit.core.profile.costs import InputSpec, ModelProfile, ProfileError, output_shape, profile_model
from dlkit.core.profile.receptive_fields import ModuleField, trace_fields
from dlkit.core.profile.source import ProfiledModel, fit_to_inputs, model_from
