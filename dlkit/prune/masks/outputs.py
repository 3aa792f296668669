"""Finding the weights that make the network's outputs: their channels are classes and are never removed."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from dlkit.core.models import eval_mode, tensors_in
from dlkit.prune.computed_weights import find_computed_weights
from dlkit.prune.masks.weights import PrunableWeight


def find_output_weights(network: nn.Module, example: Tensor, weights: list[PrunableWeight]) -> set[str]:
    """Names of the weights whose output channels reach the network's outputs without another weight between.

    Found by walking the autograd graph of one forward pass in evaluation mode back from the outputs to the first weights.
    What layers with a computed weight give ends a walk, too.
    """
    names = {id(weight.parameter): weight.name for weight in weights}
    ends: set[Any] = set()
    with eval_mode(network), torch.enable_grad(), _noted_outputs(network, ends):
        outputs = tensors_in(network(example))
    found: set[str] = set()
    pending, seen = [output.grad_fn for output in outputs], ends
    while pending:
        node = pending.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        inputs = [function for function, _ in node.next_functions]
        if consumed := {names[owner] for owner in map(_owner, inputs) if owner in names}:
            found |= consumed
        else:
            pending += inputs
    return found


@contextmanager
def _noted_outputs(network: nn.Module, noted: set[Any]) -> Iterator[None]:
    """Note the autograd nodes of what layers with a computed weight give while the network runs."""

    def note(module: nn.Module, inputs: Any, output: Any) -> None:
        noted.update(tensor.grad_fn for tensor in tensors_in(output))

    handles = [network.get_submodule(layer).register_forward_hook(note) for layer in find_computed_weights(network)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _owner(node: Any) -> int | None:
    """The id of the parameter at the end of a chain of operators with one input, such as a transpose."""
    while node is not None and len(node.next_functions) == 1:
        node = node.next_functions[0][0]
    variable = getattr(node, "variable", None)
    return None if variable is None else id(variable)
