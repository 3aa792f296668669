"""Giving the layers of a program the kernels that compute them."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from dlkit.quantize.int8.kernels import (
    available_kernels,
    describe_packing,
    find_kernels,
    makes_one_place,
    pick_kernels,
    reads_float_codes,
    saturates,
)
from dlkit.quantize.int8.layer import Int8Layer


def bind_kernels(network: nn.Module, name: str = "auto", *, example: Tensor | None = None) -> None:
    """Let every int8 layer compute by the kernels of that name, or by the next best that can. Raises UsageError for a name that
    does not run here.

    With an example of the inputs of the network, weights are laid out for the sizes that come to each layer: oneDNN would lay some
    out anew in every run.
    """
    for layer in int8_layers(network).values():
        layer.codes_in_float = False
        layer.bind(pick_kernels(layer, name))
    if isinstance(network, GraphModule):
        _hand_over_floats(network)
    if example is not None:
        _visit(network, example, lambda layer, inputs: _expect(layer, inputs[0]))


def _hand_over_floats(program: GraphModule) -> None:
    """Let codes of one place travel in float32 between layers that plain kernels compute."""
    found = {str(node.target): node for node in program.graph.nodes if node.op == "call_module"}
    layers = {found[name]: layer for name, layer in int8_layers(program).items() if name in found}
    plain = {node: layer for node, layer in layers.items() if layer.kernels is find_kernels("plain")}
    for node, layer in plain.items():
        source = plain.get(node.all_input_nodes[0])
        of_one = source is not None and source.codes_in_float
        is_read_so = all(reads_float_codes(plain.get(reader)) for reader in node.users)
        if is_read_so and makes_one_place(layer, of_one=of_one):
            layer.codes_in_float = True
            layer.bind(find_kernels("plain"))


def _expect(layer: Int8Layer, x: Tensor) -> None:
    assert layer.kernels is not None
    layer.expected_shape = tuple(x.shape)
    layer.bind(layer.kernels)


def fitted_copy(network: nn.Module, example: Tensor) -> nn.Module:
    """A copy by the same kernels, with weights laid out for the sizes that this example brings to each layer."""
    copied = copy.deepcopy(network)
    _visit(copied, example, lambda layer, inputs: _expect(layer, inputs[0]))
    return copied


def _visit(network: nn.Module, example: Tensor, visit: Callable[[Int8Layer, tuple[Tensor, ...]], None]) -> None:
    """Run the network and stop at each layer, the first time that inputs come to it."""
    seen: set[nn.Module] = set()

    def stop(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, Int8Layer)
        if layer not in seen:
            seen.add(layer)
            visit(layer, inputs)

    hooks = [layer.register_forward_pre_hook(stop) for layer in int8_layers(network).values()]
    try:
        with torch.no_grad():
            network(example)
    finally:
        for hook in hooks:
            hook.remove()


def unpack_kernels(network: nn.Module) -> None:
    """Let every layer pack its weight anew in each run: for an exporter, which cannot store what is packed.

    Inductor, told to freeze, packs once when it compiles.
    """
    describe_packing()
    for layer in int8_layers(network).values():
        layer.unpack()


def unpacked_copy(network: nn.Module) -> nn.Module:
    """A copy that exporters and compilers can follow: by kernels on plain tensors alone, which pack anew in each run."""
    copied = copy.deepcopy(network)
    here = {kernels.name for kernels in available_kernels()}
    for layer in int8_layers(copied).values():
        layer.expected_shape = None
    bind_kernels(copied, "onednn" if "onednn" in here else "reference")
    unpack_kernels(copied)
    return copied


def int8_layers(network: nn.Module) -> dict[str, Int8Layer]:
    """The layers that compute on codes, by name; the parts of recurrent layers and transposed convolutions too."""
    return {name: module for name, module in network.named_modules() if isinstance(module, Int8Layer)}


def lost_sums_note(network: nn.Module) -> str | None:
    """A sentence for a user where the kernels of some layers cut off large sums of their weights; None where none do."""
    lossy = {
        name: layer.kernels.name
        for name, layer in int8_layers(network).items()
        if layer.kernels is not None and saturates(layer.kernels, layer)
    }
    if not lossy:
        return None
    name, kernels = next(iter(lossy.items()))
    return (
        f"On this CPU {kernels} cuts off large sums of weights of 8 bits, in {len(lossy)} layers such as {name}, which costs accuracy: "
        "make the file with --reduce weights, which takes 7 bits."
    )
