"""One forward pass in which every number carries the channel that it belongs to.

A dispatch mode sees each operator below autograd, whatever the Python code around it looks like. Operators that only move
numbers are replayed on the labels, so views, shuffles, rolls, concatenations and permutations need no arithmetic of their
own; operators that combine channels join their classes. What is not understood fixes the channels that enter it.
"""

import torch
from torch import Tensor, nn

from dlkit.core.models import eval_mode, output_tensors, unfused_attention
from dlkit.prune.dependency.operators import follow
from dlkit.prune.dependency.tracer import Findings, Tracer


def trace(network: nn.Module, example: Tensor) -> Findings:
    """Follow the channels of a network, in evaluation mode, on an example of shape (N, ...).

    Raises whatever the network raises for this input.
    """
    with eval_mode(network), unfused_attention(), torch.no_grad():
        tracer = Tracer(network, follow)
        example = example.detach().clone()
        if example.is_floating_point():
            tracer.add_input(example)
        with tracer:
            output = network(example)
        for tensor in output_tensors(output):
            tracer.fix_tensor(tensor, "reaches the model's output")
    return tracer.findings
