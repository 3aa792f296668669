"""Finding the weights that make the network's outputs: their channels are classes and are never removed."""

from typing import Any

import torch
from torch import Tensor, nn

from dlkit.core.models import eval_mode, tensors_in
from dlkit.prune.masks.weights import PrunableWeight


def find_output_weights(network: nn.Module, example: Tensor, weights: list[PrunableWeight]) -> set[str]:
    """Names of the weights whose output channels reach the network's outputs without another weight between.

    Found by walking the autograd graph of one forward pass in evaluation mode back from the outputs to the first weights.
    """
    names = {id(weight.parameter): weight.name for weight in weights}
    with eval_mode(network), torch.enable_grad():
        outputs = tensors_in(network(example))
    found: set[str] = set()
    pending, seen = [output.grad_fn for output in outputs], set()
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


def _owner(node: Any) -> int | None:
    """The id of the parameter at the end of a chain of operators with one input, such as a transpose."""
    while node is not None and len(node.next_functions) == 1:
        node = node.next_functions[0][0]
    variable = getattr(node, "variable", None)
    return None if variable is None else id(variable)
