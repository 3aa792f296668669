"""Builders of networks: torchvision's by name, small ones of our own, and lists of layers."""

from dlkit.core.models.activations import Swish, build_activation, known_activations
from dlkit.core.models.arch import Arch
from dlkit.core.models.auxiliary import AuxiliaryOutputs, main_output
from dlkit.core.models.build import build_model, build_on_meta, check_timm_model, plan_arch, resolve_arch
from dlkit.core.models.checkpointing import disable_checkpointing, enable_checkpointing
from dlkit.core.models.cifarnet import cifarnet
from dlkit.core.models.computed_weights import has_computed_weights, with_plain_weights
from dlkit.core.models.copying import copy_network
from dlkit.core.models.eval_mode import eval_mode, kept_modes, unfused_attention
from dlkit.core.models.guessing import guess_classifiers
from dlkit.core.models.image_sizes import OTHERS, SizeStep, find_size_step, size_problem
from dlkit.core.models.int8_layers import fitted_copy, has_int8_layers, is_int8_layer, unpacked_copy
from dlkit.core.models.layer_kinds import KINDS
from dlkit.core.models.layers import build_layers
from dlkit.core.models.lazy_layers import initialize_lazy_layers
from dlkit.core.models.meta import AllocateNothing, meta_copy, output_shape
from dlkit.core.models.nets import mlp, small_cnn
from dlkit.core.models.published import published_input, timm_input
from dlkit.core.models.resnet_small import resnet_small
from dlkit.core.models.running import RunningModule, RunningModules
from dlkit.core.models.sequence import lstm
from dlkit.core.models.summary import SummaryRow, parameter_count, summarize
from dlkit.core.models.tensors import first_tensor, random_inputs, tensors_in, top1_matches
from dlkit.core.models.timm import PREFIX as TIMM
from dlkit.core.models.timm import find_timm, is_timm_name, plan_timm_size, pretrained_config, timm_entries
from dlkit.core.models.torchvision import (
    AUX_HEAD,
    AUX_WEIGHT,
    HAS_AUX_HEADS,
    find_first_conv,
    fit_channels,
    imagenet_classes,
    makes_maps,
    plan_torchvision_size,
    pretrained_state_dict,
    torchvision_options,
)
from dlkit.core.models.unet import unet
from dlkit.core.models.weight_files import (
    FoundWeights,
    StateDict,
    find_weights,
    read_state_dict,
    read_tensors,
    read_weights,
)
from dlkit.core.models.weight_names import Reading, common_prefix, plain_reading, take_prefix
from dlkit.core.models.weights import (
    WeightsReport,
    find_head,
    load_initial_weights,
    load_weights,
    match_weights,
)
