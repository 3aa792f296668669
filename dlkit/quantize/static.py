"""Static quantization: watch the activations of a few batches, then convert."""

from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from dlkit.core.models import eval_mode
from dlkit.errors import DataError, UsageError
from dlkit.events import Emit, Throttle, Working, ignore
from dlkit.quantize.fx import convert, no_deprecations, prepare
from dlkit.quantize.recipe import Recipe

# relative, between the float network and its graph, whose observers cut off what activations behind them let vanish (SiLU
# below -8); deep networks blow that up to some per cent, dropout that is always on makes it half of the output or more
MOST_DIFFERENCE = 0.1
# untrained deep networks blow up whatever they are given: there it may be this many times what 1 % of noise in the input does
MOST_AMPLIFIED, NOISE = 5, 0.01


class Batches(Protocol):
    """Inputs for calibration, such as a list of tensors; iterating anew gives the same ones again."""

    def __iter__(self) -> Iterator[Tensor]:
        """The batches, each as the network takes it."""

    def __len__(self) -> int:
        """How many there are."""


def quantize_static(
    network: nn.Module, recipe: Recipe, batches: Batches, *, example: Tensor, emit: Emit = ignore
) -> GraphModule:
    """The int8 network; `network` itself is left as it was. `example` is one batch of inputs.

    Raises UsageError when the network's graph gives other outputs than the network, because it is random in evaluation mode.
    """
    prepared = prepare(network, recipe, example)
    _observe(prepared, batches, emit, check=network)
    return convert(prepared, recipe)


def calibrate(prepared: GraphModule, batches: Batches, emit: Emit = ignore) -> None:
    """Let the observers of a prepared network see the batches: without gradients, in evaluation mode, in which it stays.

    Dropout is off, running statistics stay as they are, and nothing is random. Raises DataError when there is no batch and
    when inputs, weights or outputs are not finite, because no range would be right for them.
    """
    _observe(prepared, batches, emit, check=None)


def _observe(prepared: GraphModule, batches: Batches, emit: Emit, *, check: nn.Module | None) -> None:
    prepared.eval()
    total, throttle = len(batches), Throttle()
    if not total:
        raise DataError("calibration needs at least one batch of inputs")
    _check_weights(prepared)
    device = next((parameter.device for parameter in prepared.parameters()), torch.device("cpu"))
    with torch.no_grad(), no_deprecations():
        for done, batch in enumerate(batches, start=1):
            batch = batch.to(device)
            if not batch.isfinite().all():
                raise DataError(f"batch {done} of calibration holds inputs that are not finite")
            outputs = prepared(batch)
            if isinstance(outputs, Tensor) and not outputs.isfinite().all():
                raise DataError(f"the float network's outputs for batch {done} of calibration are not finite")
            if check is not None and done == 1 and isinstance(outputs, Tensor):
                _check_same(check, batch, outputs)
            if throttle.is_due() or done == total:
                emit(Working("calibrating", done, total))


def _check_weights(prepared: GraphModule) -> None:
    for name, parameter in prepared.named_parameters():
        if not parameter.isfinite().all():
            raise DataError(f"the network's {name} holds values that are not finite")


def _check_same(network: nn.Module, batch: Tensor, outputs: Tensor) -> None:
    """Raise UsageError when the prepared network does not compute what the float one does."""
    device = next((parameter.device for parameter in network.parameters()), batch.device)
    batch = batch.to(device)
    with eval_mode(network):
        expected = network(batch)
        difference = _relative(outputs, expected)
        is_wrong = difference > MOST_DIFFERENCE and difference > _most_amplified(network, batch, expected)
    if is_wrong:
        raise UsageError(
            f"the network's graph gives other outputs than the network (they differ by {difference:.1%}): what it computes "
            "in evaluation mode is random, or depends on more than its input. Keep that part in float: --keep-float NAME"
        )


def _most_amplified(network: nn.Module, batch: Tensor, expected: Tensor) -> float:
    """The difference that is still sound for a network that blows up what it is given; 0 for one that is random."""
    noise = torch.randn(batch.shape, generator=torch.Generator().manual_seed(0)).to(batch)
    noisy = network(batch + NOISE * batch.std(correction=0) * noise)
    is_random = _relative(network(batch), expected) > NOISE
    return 0 if is_random else MOST_AMPLIFIED * _relative(noisy, expected)


def _relative(found: Tensor, expected: Tensor) -> float:
    return float((found.cpu() - expected.cpu()).norm()) / max(float(expected.norm()), 1e-12)


def first_samples(batches: Sequence[Tensor], most: int) -> list[Tensor]:
    """The first batches, cut off after this many samples."""
    found: list[Tensor] = []
    left = most
    for batch in batches:
        if left > 0:
            found.append(batch[:left])
            left -= len(batch)
    return found
