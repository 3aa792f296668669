"""One forward pass in which every number carries the channel that it belongs to.

A dispatch mode sees each operator below autograd, whatever the Python code around it looks like. Operators that only move
numbers are replayed on the labels, so views, shuffles, rolls, concatenations and permutations need no arithmetic of their
own; operators that combine channels join their classes. What is not understood fixes the channels that enter it.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from dlkit.prune.coupling.operators import follow
from dlkit.prune.coupling.tracer import Findings, Tracer


def trace(network: nn.Module, example: Tensor) -> Findings:
    """Follow the channels of a network, in evaluation mode, on an example of shape (N, ...).

    Raises whatever the network raises for this input.
    """
    with evaluating(network), torch.no_grad():
        tracer = Tracer(network, follow)
        example = example.detach().clone()
        if example.is_floating_point():
            tracer.add_input(example)
        with tracer:
            output = network(example)
        for tensor in output_tensors(output):
            tracer.fix_tensor(tensor, "reaches the model's output")
    return tracer.findings


def output_tensors(output: Any) -> list[Tensor]:
    """Every tensor in a network's output, however it is nested."""
    if isinstance(output, Mapping):
        output = dict(output)  # also a library's own kind of mapping
    return [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Evaluation mode without the fused attention kernel, which hides its parts."""
    modes = {module: module.training for module in network.modules()}
    fast_path = torch.backends.mha.get_fastpath_enabled()
    network.eval()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
        for module, was_training in modes.items():
            module.training = was_training
