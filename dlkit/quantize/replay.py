"""Building an int8 network again from what a model file says, without calibration data."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from dlkit.core.release_memory import release_memory
from dlkit.errors import UsageError
from dlkit.quantize.decoding import decode
from dlkit.quantize.dynamic import int8_layers, requantize
from dlkit.quantize.fx import convert, no_deprecations, prepare, quantized_engine
from dlkit.quantize.recipe import Recipe

MOST_DIMENSIONS, LARGEST_SIDE = 5, 1 << 16


def rewrite_entry(recipe: Recipe, network: nn.Module, example: Tensor) -> dict[str, Any]:
    """The entry of a model file's `transforms` that `replay` reads, for a quantized network. `example` is a batch of inputs."""
    made_with = {"example_shape": list(example.shape), "torch": str(torch.__version__)}
    entry = {"op": "quantize", **recipe.to_dict(), **made_with}
    return entry | ({"int8_layers": int8_layers(network)} if recipe.mode == "dynamic" else {})


def replay(
    network: nn.Module, rewrite: Mapping[str, Any], state: Mapping[str, Tensor]
) -> tuple[nn.Module, dict[str, Any]]:
    """The int8 structure of a float network, and the file's tensors as its `load_state_dict` takes them.

    Loading must happen inside `loading(rewrite)`. Raises ValueError when the entry or the tensors are broken.
    """
    recipe = Recipe.from_dict(rewrite)
    with loading(rewrite):
        converted = rebuild(network, recipe, rewrite)
        try:
            return converted, decode(state, converted)
        except ValueError as error:
            raise ValueError(f"{error}{_other_torch(rewrite)}") from None


def _other_torch(rewrite: Mapping[str, Any]) -> str:
    made_with = rewrite.get("torch")
    if made_with == str(torch.__version__):
        return ""
    return f"\nIt was made with torch {made_with!r:.40}, and this is {torch.__version__}"


@contextmanager
def loading(rewrite: Mapping[str, Any]) -> Iterator[None]:
    """What must hold while int8 weights are packed: the engine that the file was made for."""
    recipe = Recipe.from_dict(rewrite)
    if recipe.backend not in torch.backends.quantized.supported_engines:
        raise ValueError(f"made for the engine {recipe.backend}, which this torch has not")
    with quantized_engine(recipe.backend), no_deprecations():
        yield


def rebuild(network: nn.Module, recipe: Recipe, rewrite: Mapping[str, Any]) -> nn.Module:
    """The int8 network without its numbers: scales are those of observers that saw nothing. Raises ValueError."""
    if recipe.mode == "dynamic":
        return requantize(network, recipe, _int8_layers(rewrite))
    example = _example(rewrite)
    try:
        # nothing is observed, so that the kind of observer is all the same
        recipe = replace(recipe, observer="minmax")
        converted = convert(prepare(network, recipe, example), recipe)
    except UsageError as error:
        raise ValueError(str(error)) from error
    release_memory(network.parameters())
    return converted


def _int8_layers(rewrite: Mapping[str, Any]) -> list[str]:
    names = rewrite.get("int8_layers")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("int8_layers must list names of layers")
    return names


def _example(rewrite: Mapping[str, Any]) -> Tensor:
    shape = rewrite.get("example_shape")
    if (
        not isinstance(shape, list)
        or not 1 <= len(shape) <= MOST_DIMENSIONS
        or not all(type(side) is int and 1 <= side <= LARGEST_SIDE for side in shape)
    ):
        raise ValueError(f"example_shape must list 1 to {MOST_DIMENSIONS} sizes, got {shape!r:.80}")
    return torch.zeros(1).expand(shape)  # takes no memory, however large it claims to be
