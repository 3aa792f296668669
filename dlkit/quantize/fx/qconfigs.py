"""Which observers and which weight scheme every operation gets: torch's default mapping, edited for a recipe.

The default is edited and never built from nothing, because it knows operations with fixed ranges (sigmoid, softmax,
tanh), layers whose weights stay in float (LayerNorm) and others that share the range of their input (reshape).
"""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import torch
from torch.ao.quantization import (
    FusedMovingAvgObsFakeQuantize,
    HistogramObserver,
    MinMaxObserver,
    MovingAverageMinMaxObserver,
    PerChannelMinMaxObserver,
    PlaceholderObserver,
    QConfig,
    QConfigMapping,
    get_default_qat_qconfig_mapping,
    get_default_qconfig_mapping,
)

from dlkit.quantize.fx.fake_quant import weight_fake_quant
from dlkit.quantize.fx.kernel_faults import TRANSPOSED, float_operations
from dlkit.quantize.recipe import Recipe

SEVEN_BITS = (-64, 63)
EIGHT_BITS = (-128, 127)
_FAKE: Any = FusedMovingAvgObsFakeQuantize  # observes and rounds in one step

# what watches activations: torch's classes, or "module:name" of ours with a `with_args` like theirs (dtype, reduce_range)
ACTIVATION_OBSERVERS: dict[str, Any] = {
    "histogram": HistogramObserver,
    "minmax": MinMaxObserver,
    "percentile": "dlkit.quantize.observers:PercentileObserver",
    "mse": "dlkit.quantize.observers:MSEObserver",
}


def qconfig_mapping(recipe: Recipe, also_float: Sequence[str] = ()) -> QConfigMapping:
    """torch's mapping for the backend, with the recipe's observer and weight scheme, and without what stays in float."""
    if recipe.mode == "qat":
        mapping = get_default_qat_qconfig_mapping(recipe.backend)
    else:
        mapping = get_default_qconfig_mapping(recipe.backend)
    _edit(mapping, recipe)
    for operation in float_operations(recipe.backend):
        mapping.set_object_type(operation, None)
    for name in (*recipe.keep_float, *also_float):
        mapping.set_module_name(name, None)
    return mapping


def _edit(mapping: QConfigMapping, recipe: Recipe) -> None:
    default = mapping.global_qconfig
    assert default is not None
    activation = _fake_activation(recipe) if recipe.mode == "qat" else activation_observer(recipe)
    mapping.set_global(_qconfig(activation, _weight(recipe, is_per_channel=recipe.is_per_channel)))
    for pattern, qconfig in list(mapping.object_type_qconfigs.items()):
        if qconfig is not None and qconfig.activation is default.activation:
            # transposed convolutions have no kernel for scales per channel
            is_per_channel = recipe.is_per_channel and pattern not in TRANSPOSED
            is_float = qconfig.weight is PlaceholderObserver  # as of LayerNorm
            weight = qconfig.weight if is_float else _weight(recipe, is_per_channel=is_per_channel)
            mapping.set_object_type(pattern, _qconfig(activation, weight))


def _qconfig(activation: Any, weight: Any) -> QConfig:
    return QConfig(activation, weight)  # type: ignore[no-untyped-call]


def _weight(recipe: Recipe, *, is_per_channel: bool) -> Any:
    low, high = SEVEN_BITS if recipe.reduce == "weights" else EIGHT_BITS
    if recipe.mode == "qat":
        return weight_fake_quant(is_per_channel=is_per_channel, low=low, high=high)
    scheme = torch.per_channel_symmetric if is_per_channel else torch.per_tensor_symmetric
    numbers = {"quant_min": low, "quant_max": high, "dtype": torch.qint8, "qscheme": scheme}
    return (PerChannelMinMaxObserver if is_per_channel else MinMaxObserver).with_args(**numbers)


def _fake_activation(recipe: Recipe) -> Any:
    high = 127 if recipe.reduce == "activations" else 255
    return _FAKE.with_args(observer=MovingAverageMinMaxObserver, quant_min=0, quant_max=high, dtype=torch.quint8)


def activation_observer(recipe: Recipe) -> Any:
    """The recipe's observer of activations: 8 bits, or 7 where the recipe takes the bit from them."""
    found: Any = ACTIVATION_OBSERVERS[recipe.observer]
    if isinstance(found, str):
        module, _, name = found.partition(":")
        found = getattr(import_module(module), name)
    return found.with_args(dtype=torch.quint8, reduce_range=recipe.reduce == "activations")
