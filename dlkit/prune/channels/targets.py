"""Solving a target: how much to remove so that the network costs at most so many MACs, parameters or milliseconds."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from dlkit.choices import PruneScope
from dlkit.core.benchmark import measure_interleaved, speedup
from dlkit.core.models import eval_mode, meta_copy, unfused_attention
from dlkit.core.profile import InputSpec, profile_model
from dlkit.errors import UsageError
from dlkit.events import Emit, Working, ignore
from dlkit.prune.channels.choice import ChannelLimits, best_units, choose
from dlkit.prune.channels.cutting import predict_parameters, shrink
from dlkit.prune.channels.group import Group, Keep
from dlkit.prune.channels.importance import Importance
from dlkit.quantities import COUNT_UNITS
from dlkit.shapes import short_count

Cost = Literal["macs", "params", "latency"]
_STEPS = {"macs": 12, "params": 16, "latency": 7}  # halvings of the amount; measuring time is slow and rough
_FORMS = "write macs=50%, macs=1.2G, params=2M, latency=60% or latency=5ms"
_SECONDS = 1.0  # of measuring for each candidate


@dataclass(frozen=True)
class Target:
    """The most that the pruned network may cost: a share of the original, or a number of MACs, parameters or milliseconds.

    `text` is as it was written, `params=2M`.
    """

    text: str
    cost: Cost
    share: float | None = None
    value: float | None = None

    def of(self, before: float) -> float:
        """The limit as a number, for a network that costs `before`."""
        return before * self.share if self.share is not None else float(self.value or 0)

    def __str__(self) -> str:
        if self.share is not None:
            return f"{self.cost}={100 * self.share:g}%"
        return f"{self.cost}={show_cost(self.cost, float(self.value or 0))}"


@dataclass(frozen=True)
class Space:
    """What may be chosen: groups with the importance of their units, the limits, and how groups compare."""

    groups: Sequence[Group]
    importance: Importance
    limits: ChannelLimits
    scope: PruneScope = "layer"

    def choose(self, amount: float) -> Keep:
        """The units that stay when the share `amount` of the channels goes."""
        return choose(self.groups, self.importance, amount, limits=self.limits, scope=self.scope)


@dataclass(frozen=True)
class TargetSolution:
    """The units that stay, the share of channels that was asked of every group for it, and the cost before and after."""

    keep: Keep
    amount: float
    before: float
    after: float


def parse_target(text: str) -> Target:
    """The target of `--target`. Raises UsageError, with the forms that there are."""
    match = re.fullmatch(r"\s*(macs|params|latency)\s*=\s*([0-9.]+)\s*(%|ms|s|[kmg]?)\s*", text, re.IGNORECASE)
    if match is None:
        raise UsageError(f"--target {text!r}: {_FORMS}")
    name, digits, unit = match.group(1).lower(), match.group(2), match.group(3).lower()
    try:
        number = float(digits)
    except ValueError:
        raise UsageError(f"--target {text!r}: {digits!r} is no number; {_FORMS}") from None
    cost: Cost = "macs" if name == "macs" else "params" if name == "params" else "latency"
    if unit == "%":
        if not 0 < number < 100:
            raise UsageError(f"--target {text!r}: a share must be more than 0% and less than 100%")
        return Target(text, cost, share=number / 100)
    if (unit in ("ms", "s")) != (cost == "latency"):
        raise UsageError(f"--target {text!r}: {'a latency needs ms or %' if cost == 'latency' else _FORMS}")
    value = number * (1e3 if unit == "s" else 1.0 if unit == "ms" else COUNT_UNITS[unit])
    if cost != "latency" and value < 1000:
        raise UsageError(f"--target {text!r}: is that a share? {_FORMS}")
    if not value > 0:
        raise UsageError(f"--target {text!r}: must be greater than 0")
    return Target(text, cost, value=value)


def show_cost(cost: Cost, value: float) -> str:
    """A cost as a person reads it: 1.82 G, 11.7 M, 5.31 ms."""
    return f"{value:.3g} ms" if cost == "latency" else short_count(value)


def solve_target(
    network: nn.Module, space: Space, target: Target, example: Tensor, *, emit: Emit = ignore
) -> TargetSolution:
    """The least pruning that brings a network's cost down to the target, with the same amount asked of every group.

    `example` is a batch of inputs; MACs and latency, the median of the eager network, are those of one sample. Raises
    UsageError where the network costs no more than that already, and, saying what can be reached, where the limits do not
    allow it.
    """
    count = _counter(network, space, target.cost, example)
    before = count({})
    limit = target.of(before)
    if before <= limit:
        raise UsageError(f"--target {target}: the network costs {show_cost(target.cost, before)} already")
    amount, keep = _search(space, count, limit, steps=_STEPS[target.cost], emit=emit)
    after = count(keep)
    if after > limit:
        raise UsageError(f"--target {target}: {_reachable(target.cost, after, before)}")
    if target.cost != "latency":
        less = max(0.0, amount - 0.5 ** _STEPS[target.cost])
        keep, after = _give_back(space, count, limit, keep=keep, larger=space.choose(less))
    return TargetSolution(keep, amount, before, after)


def _reachable(cost: Cost, least: float, before: float) -> str:
    what = {"macs": "MACs", "params": "parameters", "latency": "latency"}[cost]
    return (
        f"the smallest reachable is {100 * least / before:.3g}% of {what}, {show_cost(cost, least)}; "
        "a lower --min-keep or --round-to, or fewer layers in --skip, allow less"
    )


def _search(
    space: Space, count: Callable[[Keep], float], limit: float, *, steps: int, emit: Emit
) -> tuple[float, Keep]:
    """Halve the range of amounts; return the smallest one found that reaches the limit, or everything where none does."""
    low, high = 0.0, 1.0
    keep = space.choose(high)
    if count(keep) > limit:
        return high, keep
    for step in range(steps):
        emit(Working("searching the amount", step, steps))
        middle = (low + high) / 2
        candidate = space.choose(middle)
        if count(candidate) <= limit:
            high, keep = middle, candidate
        else:
            low = middle
    return high, keep


def _give_back(
    space: Space, count: Callable[[Keep], float], limit: float, *, keep: Keep, larger: Keep
) -> tuple[Keep, float]:
    """Where rounding overshoots, leave single groups at their larger size, those with the most important units first."""
    kept, cost = dict(keep), count(keep)
    differing = [group for group in space.groups if len(larger.get(group.id, ())) > len(keep.get(group.id, ()))]

    def worth(group: Group) -> float:
        lost = sorted(set(larger[group.id]) - set(keep[group.id]))
        return -float(space.importance[group.id][lost].double().mean())

    for group in sorted(differing, key=worth):
        units = best_units(group, space.importance[group.id], len(larger[group.id]))
        found = count({**kept, group.id: units})
        if found <= limit:
            kept[group.id], cost = units, found
    return kept, cost


def _counter(network: nn.Module, space: Space, cost: Cost, example: Tensor) -> Callable[[Keep], float]:
    """Return the function that says what a choice costs; it remembers each answer."""
    known: dict[tuple[tuple[str, int], ...], float] = {}
    base = meta_copy(network) if cost == "macs" else network
    weigh = _counts_macs(example) if cost == "macs" else _measures_beside(network, example[:1])

    def count(keep: Keep) -> float:
        key = tuple((group_id, len(units)) for group_id, units in sorted(keep.items()))
        if key not in known and cost == "params":
            known[key] = float(predict_parameters(network, space.groups, keep))
        elif key not in known:
            known[key] = weigh(shrink(base, space.groups, keep))
        return known[key]

    return count


def _counts_macs(example: Tensor) -> Callable[[nn.Module], float]:
    """Return the function that counts a meta network's MACs for one sample; it raises ProfileError where that does not run."""
    spec = InputSpec(tuple(example.shape[1:]), example.dtype)
    return lambda network: float(profile_model(network, [spec], with_memory=False).macs)


def _measures_beside(network: nn.Module, x: Tensor) -> Callable[[nn.Module], float]:
    """Return the function that measures a candidate's milliseconds on this batch, without compiling it.

    Each candidate runs in turns with the full network. Its time is its share of the full network's, times what that took
    at first, so that a machine that slows down meanwhile does not matter.
    """
    first: list[float] = []

    def measure(candidate: nn.Module) -> float:
        with eval_mode(network), eval_mode(candidate), unfused_attention():
            calls = {"full": lambda: network(x), "candidate": lambda: candidate(x)}
            found = measure_interleaved(calls, batch=len(x), seconds=_SECONDS, device=x.device)
        first.append(found["full"].median_ms)
        return first[0] / speedup(found["full"], found["candidate"]).median

    return measure
