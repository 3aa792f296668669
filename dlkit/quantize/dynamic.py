"""Dynamic quantization: int8 weights, inputs quantized while the layer runs. Needs no calibration data."""

import copy
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from dlkit.core.models import RunningModules, eval_mode, is_int8_layer, with_plain_weights
from dlkit.quantize.graph import check_names, is_below
from dlkit.quantize.int8 import Int8Cell, Int8DynamicLinear, Int8Recurrent, bind_kernels
from dlkit.quantize.recipe import Recipe

# exact types: subclasses may compute something else, and attention uses the weight of its output projection directly
_CELLS = (nn.LSTMCell, nn.GRUCell, nn.RNNCell)
_RECURRENT = (nn.LSTM, nn.GRU, nn.RNN)
DYNAMIC_TYPES = (nn.Linear, *_RECURRENT, *_CELLS)


def quantize_dynamic(network: nn.Module, recipe: Recipe, *, example: Tensor | None = None) -> nn.Module:
    """A copy of the network, on the CPU, whose linear and recurrent layers are int8; a bare layer works too.

    With an example, one batch of inputs, the float network runs once, and layers that are never called stay in float: a
    network that reads their weights directly (torchvision's Swin) could not read those of an int8 layer.
    """
    check_names(network, recipe)
    network = with_plain_weights(network)
    names = [name for name, module in network.named_modules() if can_be_dynamic(name, module, recipe)]
    if example is not None:
        called = called_modules(network, example)
        names = [name for name in names if name in called]
    quantized = _replace(network, names, recipe)
    bind_kernels(quantized, recipe.backend)
    return quantized


def can_be_dynamic(name: str, module: nn.Module, recipe: Recipe) -> bool:
    """Whether this layer has a dynamic form and the recipe wants it."""
    return type(module) in DYNAMIC_TYPES and why_float(name, recipe) is None


def why_float(name: str, recipe: Recipe) -> str | None:
    """Why this linear or recurrent layer stays in float under the recipe, or None."""
    return "kept in float by the user" if is_below(name, recipe.keep_float) else None


def called_modules(network: nn.Module, example: Tensor) -> set[str]:
    """Names of the modules that a run over `example` calls, in evaluation mode."""
    called: set[nn.Module] = set()
    device = next((parameter.device for parameter in network.parameters()), example.device)
    running = RunningModules(lambda name, module, output: called.add(module))
    with torch.no_grad(), eval_mode(network), running.followed(network):
        network(example.to(device))
    return {name for name, module in network.named_modules(remove_duplicate=False) if module in called}


def int8_layers(network: nn.Module) -> list[str]:
    """Names of the int8 layers of a dynamically quantized network, those inside of others left out; "" is the network itself."""
    names = [name for name, module in network.named_modules() if is_int8_layer(module)]
    if "" in names:
        return [""]
    return [name for name in names if not any(name != other and is_below(name, (other,)) for other in names)]


def requantize(network: nn.Module, recipe: Recipe, names: Sequence[str]) -> nn.Module:
    """What `quantize_dynamic` made, with exactly the named layers in int8, without kernels. Raises ValueError for one that cannot be."""
    network = with_plain_weights(network)
    modules = dict(network.named_modules())
    for name in names:
        if name not in modules or not can_be_dynamic(name, modules[name], recipe):
            raise ValueError(f"{name!r:.80} is no layer that can be int8 dynamically")
    return _replace(network, names, recipe)


def _replace(network: nn.Module, names: Iterable[str], recipe: Recipe) -> nn.Module:
    """A copy of the network, on the CPU and in evaluation mode, with the named layers in int8."""
    network = copy.deepcopy(network).cpu().eval()
    made = {id(network.get_submodule(name)): _int8_form(network.get_submodule(name), recipe) for name in names}
    if id(network) in made:
        return made[id(network)]
    for name, module in list(network.named_modules(remove_duplicate=False)):
        if id(module) in made:
            network.set_submodule(name, made[id(module)])
        if isinstance(module, nn.TransformerEncoderLayer):
            module.activation_relu_or_gelu = 0  # else it would read the weights of its linear layers and not call them
    return network


def _int8_form(layer: nn.Module, recipe: Recipe) -> nn.Module:
    bits, is_per_channel = recipe.weight_bits, recipe.is_per_channel
    if isinstance(layer, nn.Linear):
        return Int8DynamicLinear.from_weight(layer.weight, layer.bias, bits=bits, is_per_channel=is_per_channel).eval()
    build = Int8Recurrent if isinstance(layer, nn.RNNBase) else Int8Cell
    return build.from_float(layer, bits=bits, is_per_channel=is_per_channel).eval()  # type: ignore[arg-type]
