"""Dynamic quantization: int8 weights, inputs quantized while the layer runs. Needs no calibration data."""

from torch import nn

from dlkit.quantize.fx import swap_dynamic
from dlkit.quantize.recipe import Recipe

# exact types: torch swaps no subclasses, and attention uses its output projection's weight directly
DYNAMIC_TYPES = (nn.Linear, nn.LSTM, nn.GRU, nn.LSTMCell, nn.GRUCell, nn.RNNCell)


def quantize_dynamic(network: nn.Module, recipe: Recipe) -> nn.Module:
    """A copy of the network whose linear and recurrent layers are int8; a network that is one bare layer works too."""
    names = [
        name
        for name, module in network.named_modules()
        if type(module) in DYNAMIC_TYPES and why_float(name, module, recipe) is None
    ]
    return swap_dynamic(network, names, recipe)


def why_float(name: str, module: nn.Module, recipe: Recipe) -> str | None:
    """Why this linear or recurrent layer stays in float under the recipe, or None."""
    if any(kept in ("", name) or name.startswith(f"{kept}.") for kept in recipe.keep_float):
        return "kept by the user"
    if getattr(module, "proj_size", 0):
        return "torch has no int8 LSTM with a projection (proj_size)"
    return None
