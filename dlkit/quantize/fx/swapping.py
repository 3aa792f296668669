"""Swapping layers for those that quantize their input while they run, by torch.ao's eager mode."""

import copy
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.ao.quantization import (
    default_dynamic_qconfig,
    per_channel_dynamic_qconfig,
    quantize_dynamic,
)

from dlkit.quantize.fx.engine import bind_to_engine, no_deprecations, quantized_engine
from dlkit.quantize.recipe import Recipe


def swap_dynamic(network: nn.Module, names: Iterable[str], recipe: Recipe) -> nn.Module:
    """A copy of the network, on the CPU and in evaluation mode, with the named layers in int8; "" is the network itself."""
    # torch only swaps what lies in a container, so that a bare LSTM needs one around it
    container = nn.ModuleDict({"network": copy.deepcopy(network).cpu().eval()})
    qconfig = per_channel_dynamic_qconfig if recipe.is_per_channel else default_dynamic_qconfig
    wanted = {f"network.{name}".rstrip("."): qconfig for name in names}
    for name in wanted:
        layer = container.get_submodule(name)
        if isinstance(layer, nn.RNNBase | nn.RNNCellBase) and not layer.bias:
            container.set_submodule(name, _with_bias(layer))
    with quantized_engine(recipe.backend), no_deprecations():
        quantize_dynamic(container, wanted, dtype=torch.qint8, inplace=True)  # type: ignore[no-untyped-call]
        if recipe.backend == "qnnpack":
            _spend_range_warning()
    for module in container.modules():
        if isinstance(module, nn.TransformerEncoderLayer):
            module.activation_relu_or_gelu = 0  # else it would read the weights of its linear layers and not call them
    bind_to_engine(container["network"], recipe.backend)
    return container["network"]


def _with_bias(layer: nn.RNNBase | nn.RNNCellBase) -> nn.Module:
    """The same recurrent layer with biases of zero: torch's int8 forms must have some."""
    options: dict[str, Any] = {"bias": True}
    for name in ("num_layers", "batch_first", "dropout", "bidirectional", "nonlinearity"):
        if hasattr(layer, name):
            options[name] = getattr(layer, name)
    build: Callable[..., nn.Module] = type(layer)
    made = build(layer.input_size, layer.hidden_size, **options)
    for parameter in made.parameters():
        nn.init.zeros_(parameter)
    made.load_state_dict(layer.state_dict(), strict=False)
    return made.train(layer.training)


def _spend_range_warning() -> None:
    """Let torch say here, where nobody hears it, what it says once per process: that qnnpack needs no reduced range."""
    weight = torch.quantize_per_tensor(torch.zeros(1, 1), 1.0, 0, torch.qint8)
    packed = torch.ops.quantized.linear_prepack(weight, None)
    torch.ops.quantized.linear_dynamic(torch.zeros(1, 1), packed, True)
