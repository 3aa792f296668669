"""Static quantization: observers in a network's graph, and the batches that they watch."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.utils._pytree import tree_leaves

from dlkit.core.models import eval_mode
from dlkit.errors import DataError, UsageError
from dlkit.events import Emit, Throttle, Working, ignore
from dlkit.quantize.graph import clip_to_activations, prepare, without_observers
from dlkit.quantize.observe import NotANumber
from dlkit.quantize.recipe import Recipe

CALIBRATING = "calibrating"
CHECKED = 4  # samples that the network and its graph are compared on
MOST_DIFFERENCE = 0.01  # relative; rounding in another order makes a millionth of EfficientNet-B4's outputs
LAST_BITS = 1e-7  # of a float32 number, relative
MOST_BLOWN_UP = 10  # by how much more than by its inputs a chaotic network may be moved by rounding in all layers


def observe_network(
    network: nn.Module, recipe: Recipe, batches: Sequence[Tensor], emit: Emit = ignore, *, what: str = CALIBRATING
) -> GraphModule:
    """The graph of a float network with observers that saw the batches, ready to `convert`; `network` is left as it was.

    Raises UsageError for a network that cannot be followed, and for one whose graph gives other outputs than the network
    itself. Raises DataError as `calibrate` does.
    """
    prepared = prepare_to_observe(network, recipe, batches[0])
    calibrate(prepared, batches, emit, what=what)
    return prepared


def prepare_to_observe(network: nn.Module, recipe: Recipe, batch: Tensor) -> GraphModule:
    """The graph with observers that have seen nothing. Raises UsageError as `observe_network` does."""
    prepared = prepare(network, recipe, batch[:1])
    _check_same(network, prepared, batch[:CHECKED])
    clip_to_activations(prepared)
    return prepared


def calibrate(
    prepared: GraphModule, batches: Sequence[Tensor], emit: Emit = ignore, *, what: str = CALIBRATING
) -> None:
    """Let the observers of a prepared network see the batches: in evaluation mode, without gradients.

    Dropout is off, running statistics stay as they are, and nothing is random. Raises DataError when there is no batch and
    when inputs, weights or outputs are not finite, because no range would be right for them.
    """
    calibrate_part(prepared, batches, range(len(batches)), emit, what=what)


def calibrate_part(
    prepared: GraphModule,
    batches: Sequence[Tensor],
    numbers: range,
    emit: Emit,
    *,
    what: str = CALIBRATING,
    done: int = 0,
) -> None:
    """As `calibrate`, with the batches of these numbers alone, after so many others."""
    prepared.eval()
    total, throttle = len(batches), Throttle()
    if not total:
        raise DataError("calibration needs at least one batch of inputs")
    _check_weights(prepared)
    device = _device_of(prepared)
    with torch.no_grad():
        for ready, number in enumerate(numbers, start=done + 1):
            batch = batches[number].to(device)
            if not batch.isfinite().all():
                raise DataError(f"batch {number + 1} of calibration holds inputs that are not finite")
            if not _run_finite(prepared, batch):
                raise DataError(f"the float network's outputs for batch {number + 1} of calibration are not finite")
            if throttle.is_due() or ready in (1, total):
                emit(Working(what, ready, total))


def _run_finite(prepared: GraphModule, batch: Tensor) -> bool:
    """Run a batch; whether outputs are finite, and nothing on the way is NaN."""
    try:
        outputs = prepared(batch)
    except NotANumber:
        return False
    return not isinstance(outputs, Tensor) or bool(outputs.isfinite().all())


def _device_of(network: nn.Module) -> torch.device:
    return next((parameter.device for parameter in network.parameters()), torch.device("cpu"))


def _check_weights(prepared: GraphModule) -> None:
    for name, parameter in prepared.named_parameters():
        if not parameter.isfinite().all():
            raise DataError(f"the network's {name} holds values that are not finite")


def _check_same(network: nn.Module, prepared: GraphModule, batch: Tensor) -> None:
    """Raise UsageError when a graph that is prepared but not clipped does not compute what its float network does, twice."""
    with torch.no_grad(), eval_mode(network):
        # observers would count these samples, and count them again in calibration
        found = without_observers(prepared)(batch.to(_device_of(prepared), copy=True))
        expected = [network(batch.to(_device_of(network), copy=True)) for _ in range(2)]
    difference = max(_relative(found, each) for each in expected)
    if difference > MOST_DIFFERENCE and not _is_chaotic(network, batch, expected, difference):
        raise UsageError(
            f"the network's graph gives other outputs than the network (they differ by {difference:.1%}): what it computes "
            "in evaluation mode is random, or depends on more than its input. Keep that part in float: --keep-float NAME"
        )


def _is_chaotic(network: nn.Module, batch: Tensor, expected: list[Any], difference: float) -> bool:
    """Whether the network does the same on every call, but blows up the last bits of its inputs to a difference like this one.

    So do deep networks with random weights: in float64 they give other outputs than in float32. Folding a norm rounds like that.
    """
    if _relative(*expected) > MOST_DIFFERENCE:
        return False
    noise = LAST_BITS * torch.randn(batch.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), eval_mode(network):
        noisy = network((batch.cpu() * (1 + noise)).to(_device_of(network)))
    return _relative(noisy, expected[0]) > difference / MOST_BLOWN_UP


def _relative(found: Any, expected: Any) -> float:
    """The largest difference of two nests of tensors, each relative to its tensor."""
    pairs = list(zip(_tensors(found), _tensors(expected), strict=False))
    if len(_tensors(found)) != len(_tensors(expected)) or any(one.shape != other.shape for one, other in pairs):
        return math.inf
    return max(
        (float((one.cpu() - other.cpu()).norm()) / max(float(other.norm()), 1e-12) for one, other in pairs), default=0.0
    )


def _tensors(nest: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(nest) if isinstance(leaf, Tensor) and leaf.is_floating_point()]


def first_samples(batches: Sequence[Tensor], most: int) -> list[Tensor]:
    """The first batches, cut off after this many samples."""
    found: list[Tensor] = []
    left = most
    for batch in batches:
        if left > 0:
            found.append(batch[:left])
            left -= len(batch)
    return found
