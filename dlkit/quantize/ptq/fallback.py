"""Keep the most sensitive layers in float until the score falls by no more than was asked for: `--max-drop`.

First layers are added in the order of the ranking, 1, 2, 4, 8 and so on, until the drop is met; then the number is halved in
on; then each kept layer is tried in int8 again, the least sensitive first, because not all that rank high are needed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn

from dlkit.events import Emit, Note, ignore

MOST_RETURNS = 8

Build = Callable[[tuple[str, ...]], nn.Module]
Score = Callable[[nn.Module], float]


@dataclass(frozen=True)
class Attempt:
    """An int8 network with these modules in float, and by how many points of the score it is worse than all of it in float."""

    kept: tuple[str, ...]
    drop: float


@dataclass(frozen=True)
class Fallback:
    """The network that was settled on, its attempt, all attempts in their order, and whether the drop is met.

    Where it is not, the network is the one with the least drop, and with the fewest layers in float among equals.
    """

    network: nn.Module
    chosen: Attempt
    attempts: tuple[Attempt, ...]
    is_met: bool


def keep_sensitive_layers(
    ranking: Sequence[str],
    build: Build,
    score: Score,
    *,
    float_score: float,
    max_drop: float,
    metric: str = "accuracy",
    emit: Emit = ignore,
) -> Fallback:
    """Find few layers to keep in float such that the score, called `metric` in notes, drops by at most `max_drop` points.

    `ranking` names modules, the most sensitive first. `build` makes the int8 network that keeps some in float, and may raise
    nothing; it is called with the names in the order of the ranking. `score` returns a fraction of 1, as is `float_score`.
    """
    search = _FallbackSearch(tuple(ranking), build, score, float_score, max_drop, metric, emit)
    num_kept = search.fewest_from_the_top()
    if num_kept is not None:
        search.return_to_int8(search.ranking[:num_kept])
    return search.outcome()


class _FallbackSearch:
    """The attempts so far, with the best network."""

    def __init__(
        self,
        ranking: tuple[str, ...],
        build: Build,
        score: Score,
        float_score: float,
        max_drop: float,
        metric: str,
        emit: Emit,
    ) -> None:
        self.ranking = ranking
        self._build, self._score, self._emit = build, score, emit
        self._float_score, self._max_drop, self._metric = float_score, max_drop, metric
        self._attempts: dict[tuple[str, ...], Attempt] = {}
        self._best: tuple[Attempt, nn.Module] | None = None

    def is_met_by(self, kept: tuple[str, ...]) -> bool:
        """Try it, unless it was tried, and say whether the drop is met."""
        if kept not in self._attempts:
            network = self._build(kept)
            attempt = Attempt(kept, 100 * (self._float_score - self._score(network)))
            self._attempts[kept] = attempt
            if self._best is None or self._rank(attempt) < self._rank(self._best[0]):
                self._best = attempt, network
            self._emit(Note(_describe(attempt, self._metric)))
        return self._meets(self._attempts[kept])

    def _meets(self, attempt: Attempt) -> bool:
        return attempt.drop <= self._max_drop + 1e-9

    def _rank(self, attempt: Attempt) -> tuple[bool, float, float]:
        """What is best comes first: those that meet the drop, by layers kept; then the others, by drop."""
        is_met = self._meets(attempt)
        return not is_met, 0.0 if is_met else attempt.drop, len(attempt.kept)

    def fewest_from_the_top(self) -> int | None:
        """How many of the ranking's first layers are enough; None when all of them are not."""
        failed, count = -1, 0
        while not self.is_met_by(self.ranking[:count]):
            if count >= len(self.ranking):
                return None
            failed, count = count, min(max(1, 2 * count), len(self.ranking))
        while count - failed > 1:
            middle = (failed + count) // 2
            if self.is_met_by(self.ranking[:middle]):
                count = middle
            else:
                failed = middle
        return count

    def return_to_int8(self, kept: tuple[str, ...]) -> None:
        """Try to do without each of the least sensitive of those that are kept."""
        for name in reversed(kept[:-1][-MOST_RETURNS:]):  # the last one was needed: without it the drop was not met
            fewer = tuple(other for other in kept if other != name)
            if self.is_met_by(fewer):
                kept = fewer

    def outcome(self) -> Fallback:
        """The best attempt."""
        assert self._best is not None
        attempt, network = self._best
        return Fallback(network, attempt, tuple(self._attempts.values()), self._meets(attempt))


def _describe(attempt: Attempt, metric: str) -> str:
    kept = attempt.kept
    change = f"{metric} {'drops' if attempt.drop >= 0 else 'rises'} by {abs(attempt.drop):.2f} points"
    if not kept:
        return f"all layers in int8: {change}"
    names = ", ".join(kept[:3]) + (f" and {len(kept) - 3} more" if len(kept) > 3 else "")
    return f"{names} in float: {change}"
