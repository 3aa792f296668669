"""Building an int8 network again from what a model file says, without calibration data."""

import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from dlkit.core.release_memory import release_memory
from dlkit.errors import UsageError
from dlkit.quantize.dynamic import int8_layers, requantize
from dlkit.quantize.graph import convert, prepare
from dlkit.quantize.int8 import AFFINES, bind_kernels, lost_sums_note, runnable_backends
from dlkit.quantize.recipe import Recipe

PROGRAM = 1  # of the layout of programs: names and numbers in a file follow from it
MOST_DIMENSIONS, LARGEST_SIDE = 5, 1 << 16
_MOST_LINES = 8


def rewrite_entry(recipe: Recipe, network: nn.Module, example: Tensor) -> dict[str, Any]:
    """The entry of a model file's `transforms` that `replay` reads, for a quantized network. `example` is a batch of inputs."""
    made_with = {"example_shape": list(example.shape), "torch": str(torch.__version__), "program": PROGRAM}
    entry = {"op": "quantize", **recipe.to_dict(), **made_with}
    return entry | ({"int8_layers": int8_layers(network)} if recipe.mode == "dynamic" else {})


def replay(
    network: nn.Module, rewrite: Mapping[str, Any], state: Mapping[str, Tensor]
) -> tuple[nn.Module, dict[str, Any]]:
    """The int8 structure of a float network, and the file's tensors as its `load_state_dict` takes them.

    Afterwards `after_loading` gives it kernels. Raises ValueError when the entry or the tensors are broken, or of an older format.
    """
    program_version = rewrite.get("program")
    if isinstance(program_version, int) and program_version > PROGRAM:
        raise ValueError("holds an int8 network in the format of a newer dlkit: install that one")
    if program_version != PROGRAM:
        raise ValueError(
            "holds an int8 network in the format of an older dlkit, which stood on a part of torch that is being removed. "
            f"Make it anew from the float model: dlkit quantize MODEL.pt --{rewrite.get('mode', 'static')!s:.10}"
        )
    recipe = Recipe.from_dict(rewrite)
    program = rebuild(network, recipe, rewrite)
    problems = _differences(program.state_dict(), state)
    if problems:
        more = [f"and {len(problems) - _MOST_LINES} more"] if len(problems) > _MOST_LINES else []
        lines = "\n  ".join(problems[:_MOST_LINES] + more)
        raise ValueError(f"its tensors are not those of its int8 network:\n  {lines}{_other_torch(rewrite)}")
    return program, dict(state)


def after_loading(network: nn.Module, rewrite: Mapping[str, Any]) -> None:
    """Give the layers kernels: those that the file was made for, or others that are here. Warns where they lose large sums."""
    recipe = Recipe.from_dict(rewrite)
    backend = recipe.backend if recipe.backend in runnable_backends() else "auto"
    bind_kernels(network, backend)
    if note := lost_sums_note(network):
        warnings.warn(note, stacklevel=2)


def _other_torch(rewrite: Mapping[str, Any]) -> str:
    made_with = rewrite.get("torch")
    if made_with == str(torch.__version__):
        return ""
    return f"\nIt was made with torch {made_with!r:.40}, and this is {torch.__version__}"


def _differences(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """What is wrong with the tensors of a file, a line each: names, shapes, dtypes, scales that are none."""
    lines = [f"missing: {name}" for name in wanted if name not in found]
    lines += [f"unexpected: {name}" for name in found if name not in wanted]
    for name in wanted.keys() & found.keys():
        like, value = wanted[name], found[name]
        if value.shape != like.shape or value.dtype != like.dtype:
            lines.append(f"{name}: {_describe(value)} in the file, {_describe(like)} in the network")
        elif not _are_scales(name, value):
            lines.append(f"{name}: a scale is not a positive number, or a zero point no code")
    return lines


def _are_scales(name: str, value: Tensor) -> bool:
    """Whether the scales and zero points in an entry of these are such; True for an entry of another kind."""
    if name.endswith(f".{AFFINES}"):
        scale, zero_point = value.unbind(1)
        is_code = (zero_point >= -128) & (zero_point <= 255) & (zero_point == zero_point.round())
        return bool((torch.isfinite(scale) & (scale > 0) & is_code).all())
    return not name.endswith("scale") or bool((torch.isfinite(value) & (value > 0)).all())


def _describe(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} of {str(tensor.dtype).removeprefix('torch.')}"


def rebuild(network: nn.Module, recipe: Recipe, rewrite: Mapping[str, Any]) -> nn.Module:
    """The int8 network without its numbers and without kernels: scales are those of observers that saw nothing. Raises ValueError."""
    if recipe.mode == "dynamic":
        return requantize(network, recipe, _int8_layers(rewrite))
    example = _example(rewrite)
    try:
        # nothing is observed or trained, so that the kind of observer is all the same
        recipe = replace(recipe, mode="static", observer="minmax")
        program: GraphModule = convert(prepare(network, recipe, example), recipe, is_bound=False)
    except UsageError as error:
        raise ValueError(str(error)) from error
    release_memory(network.parameters())
    return program


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
