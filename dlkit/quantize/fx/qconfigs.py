"""Which observers and which weight scheme every operation gets: torch's default mapping, edited for a recipe.

The default is edited and never built from nothing, because it knows operations with fixed ranges (sigmoid, softmax,
tanh), layers whose weights stay in float (LayerNorm) and others that share the range of their input (reshape).
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
from torch import nn
from torch.ao.quantization import (
    HistogramObserver,
    MinMaxObserver,
    QConfig,
    QConfigMapping,
    default_fused_per_channel_wt_fake_quant,
    default_fused_wt_fake_quant,
    default_per_channel_weight_observer,
    default_weight_observer,
    get_default_qat_qconfig_mapping,
    get_default_qconfig_mapping,
)

from dlkit.quantize.recipe import Recipe

REDUCED_RANGE = frozenset({"x86", "fbgemm"})  # their kernels add pairs of products in 16 bits (trap 4.1)
ObserverFactory = Callable[..., nn.Module]

# what watches activations, as a class here or as "module:name" of ours; each is called with `reduce_range=...`
ACTIVATION_OBSERVERS: dict[str, ObserverFactory | str] = {
    "histogram": HistogramObserver,
    "minmax": MinMaxObserver,
    "percentile": "dlkit.quantize.observers:PercentileObserver",
    "mse": "dlkit.quantize.observers:MSEObserver",
}
_TRANSPOSED: tuple[Any, ...] = (
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
    nn.functional.conv_transpose1d,
    nn.functional.conv_transpose2d,
    nn.functional.conv_transpose3d,
)


def qconfig_mapping(recipe: Recipe) -> QConfigMapping:
    """torch's mapping for the backend, with the recipe's observer and weight scheme, and without what it keeps in float."""
    if recipe.mode == "qat":
        mapping = get_default_qat_qconfig_mapping(recipe.backend)
    else:
        mapping = get_default_qconfig_mapping(recipe.backend)
    _edit(mapping, recipe)
    for name in recipe.keep_float:
        mapping.set_module_name(name, None)
    return mapping


def _edit(mapping: QConfigMapping, recipe: Recipe) -> None:
    default = mapping.global_qconfig
    activation = default.activation if recipe.mode == "qat" else activation_observer(recipe)
    mapping.set_global(QConfig(activation, _weight(recipe, is_per_channel=recipe.is_per_channel)))
    for pattern, qconfig in list(mapping.object_type_qconfigs.items()):
        if qconfig.activation is default.activation:
            # per-channel transposed convolutions have no kernel; torch's mapping knows that for x86 and fbgemm alone
            weight = _weight(recipe, is_per_channel=False) if pattern in _TRANSPOSED else qconfig.weight
            mapping.set_object_type(pattern, QConfig(activation, weight))


def _weight(recipe: Recipe, *, is_per_channel: bool) -> Any:
    if recipe.mode == "qat":
        return default_fused_per_channel_wt_fake_quant if is_per_channel else default_fused_wt_fake_quant
    return default_per_channel_weight_observer if is_per_channel else default_weight_observer


def activation_observer(recipe: Recipe) -> Any:
    """The recipe's observer of activations: 7 bits where the kernels could saturate with 8, otherwise 8."""
    found = ACTIVATION_OBSERVERS[recipe.observer]
    if isinstance(found, str):
        module, _, name = found.partition(":")
        found = getattr(import_module(module), name)
    with_args = found.with_args  # type: ignore[attr-defined]
    return with_args(dtype=torch.quint8, reduce_range=recipe.backend in REDUCED_RANGE)
