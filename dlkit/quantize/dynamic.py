"""Dynamic quantization: int8 weights, inputs quantized while the layer runs. Needs no calibration data."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dlkit.core.models import RunningModules, eval_mode, is_int8_layer
from dlkit.quantize.fx import check_names, is_below, swap_dynamic
from dlkit.quantize.recipe import Recipe

# exact types: torch swaps no subclasses, and attention uses the weight of its output projection directly
DYNAMIC_TYPES = (nn.Linear, nn.LSTM, nn.GRU, nn.LSTMCell, nn.GRUCell, nn.RNNCell)


def quantize_dynamic(network: nn.Module, recipe: Recipe, *, example: Tensor | None = None) -> nn.Module:
    """A copy of the network, on the CPU, whose linear and recurrent layers are int8; a bare layer works too.

    With an example, one batch of inputs, the float network runs once, and layers that are never called stay in float: a
    network that reads their weights directly (torchvision's Swin) could not read those of an int8 layer.
    """
    check_names(network, recipe)
    names = [name for name, module in network.named_modules() if can_be_dynamic(name, module, recipe)]
    if example is not None:
        called = called_modules(network, example)
        names = [name for name in names if name in called]
    return swap_dynamic(network, names, recipe)


def can_be_dynamic(name: str, module: nn.Module, recipe: Recipe) -> bool:
    """Whether torch has a dynamic form of this layer and the recipe wants it."""
    return type(module) in DYNAMIC_TYPES and why_float(name, module, recipe) is None


def why_float(name: str, module: nn.Module, recipe: Recipe) -> str | None:
    """Why this linear or recurrent layer stays in float under the recipe, or None."""
    if is_below(name, recipe.keep_float):
        return "kept in float by the user"
    if getattr(module, "proj_size", 0):
        return "torch has no int8 LSTM with a projection (proj_size)"
    return None


def called_modules(network: nn.Module, example: Tensor) -> set[str]:
    """Names of the modules that a run over `example` calls, in evaluation mode."""
    called: set[nn.Module] = set()
    device = next((parameter.device for parameter in network.parameters()), example.device)
    running = RunningModules(lambda name, module, output: called.add(module))
    with torch.no_grad(), eval_mode(network), running.followed(network):
        network(example.to(device))
    return {name for name, module in network.named_modules(remove_duplicate=False) if module in called}


def int8_layers(network: nn.Module) -> list[str]:
    """Names of the int8 layers of a dynamically quantized network; "" is the network itself."""
    return [name for name, module in network.named_modules() if is_int8_layer(module)]


def requantize(network: nn.Module, recipe: Recipe, names: Sequence[str]) -> nn.Module:
    """What `quantize_dynamic` made, with exactly the named layers in int8. Raises ValueError for a layer that cannot be."""
    modules = dict(network.named_modules())
    for name in names:
        if name not in modules or not can_be_dynamic(name, modules[name], recipe):
            raise ValueError(f"{name!r:.80} is no layer that can be int8 dynamically")
    return swap_dynamic(network, names, recipe)
