"""A network whose outputs depend on its inputs, so that comparing outputs can find mistakes.

A fresh network may hide them: a head of zeros, a residual branch that a norm's zero weight cuts off, or signals that fade
because running statistics were never measured.
"""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dlkit.prune.coupling.trace import evaluating, output_tensors

FAINT = 1e-6  # outputs of different inputs that are closer than this share of the largest output


def is_lively(network: nn.Module, x: Tensor) -> bool:
    """Whether every output depends on the input visibly."""
    with evaluating(network), torch.no_grad():
        outputs = [output.double() for output in output_tensors(network(x)) if output.numel()]
    return all(float((out - out[:1]).abs().max()) > FAINT * float(out.abs().max()) for out in outputs)


def enliven(network: nn.Module, x: Tensor) -> None:
    """Draw constant weights anew and measure batch norms on x, in place."""
    _draw_constants(network)
    _measure_batch_norms(network, x)


def _draw_constants(network: nn.Module) -> None:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.numel() > 1 and bool((parameter == parameter.flatten()[0]).all()):
                noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
                parameter.add_(0.1 * noise.to(parameter.device))


def _measure_batch_norms(network: nn.Module, x: Tensor) -> None:
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    with evaluating(network), torch.no_grad():
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None
            norm.train()
        network(x)
