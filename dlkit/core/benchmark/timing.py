"""How long calls take, measured side by side: every round runs all candidates once, so that noise hits all alike.

Medians of different candidates may come from different moments of a busy machine; ratios are therefore taken round by round.
"""

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from dlkit.events import Emit, Note, Throttle, Working, ignore

WARM_UPS = 3  # TorchScript profiles on its first call and optimizes on its second
MIN_ROUNDS, MAX_ROUNDS = 10, 1000
SETTLE_BELOW_S = 0.05
NOISY = 1.5

Call = Callable[[], object]
Clock = Callable[[], float]


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one call on `batch` samples; `rounds_ms` has every measured one, in their order."""

    median_ms: float
    p10_ms: float
    p90_ms: float
    runs: int
    batch: int
    threads: int
    rounds_ms: tuple[float, ...] = field(default=(), repr=False)

    @property
    def samples_per_s(self) -> float:
        """Samples per second at the median."""
        return 1000 * self.batch / self.median_ms

    @property
    def is_noisy(self) -> bool:
        """Whether the slow calls took more than half as long again as the quick ones."""
        return self.p90_ms > NOISY * self.p10_ms

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the single rounds."""
        plain = {key: value for key, value in asdict(self).items() if key != "rounds_ms"}
        return {**plain, "samples_per_s": self.samples_per_s, "is_noisy": self.is_noisy}


@dataclass(frozen=True)
class Ratio:
    """A ratio and its spread over the rounds."""

    median: float
    p10: float
    p90: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.p10:.2f}-{self.p90:.2f})"


def speedup(baseline: Latency, candidate: Latency) -> Ratio:
    """How many times as fast the candidate is, from the ratio of each round. Raises ValueError for separate measurements."""
    if not baseline.rounds_ms or len(baseline.rounds_ms) != len(candidate.rounds_ms):
        raise ValueError("a speed-up needs two latencies of the same rounds")
    ratios = [slow / quick for slow, quick in zip(baseline.rounds_ms, candidate.rounds_ms, strict=True)]
    p10, median, p90 = _quantiles(ratios)
    return Ratio(median, p10, p90)


def measure_interleaved(
    calls: Mapping[str, Call],
    *,
    batch: int,
    seconds: float,
    device: torch.device | None = None,
    emit: Emit = ignore,
    clock: Clock = time.perf_counter,
) -> dict[str, Latency]:
    """Latencies of all calls, by their names, each of which works on `batch` samples.

    After a warm-up, rounds A B C A B C ... fill about `seconds`, at least 10 and at most 1000 of them, in inference mode and
    without garbage collection. Calls under 50 ms run once untimed in each turn, because the caches hold the candidate
    before them. A note is reported when a candidate's p90 is over 1.5 times its p10.
    """
    synchronize = _synchronization(device)
    with torch.inference_mode(), _without_collection():
        for _ in range(WARM_UPS):
            first = {name: _time_call(call, synchronize, clock) for name, call in calls.items()}
        settling = {name for name, took in first.items() if took < SETTLE_BELOW_S and len(calls) > 1}
        cost = sum(took * (2 if name in settling else 1) for name, took in first.items())
        planned = min(MAX_ROUNDS, max(MIN_ROUNDS, int(seconds / max(cost, 1e-9))))
        times: dict[str, list[float]] = {name: [] for name in calls}
        for _ in _rounds(
            planned, seconds, clock, lambda done: emit(Working(f"measuring latency, batch {batch}", done, planned))
        ):
            for name, call in calls.items():
                if name in settling:
                    call()
                times[name].append(_time_call(call, synchronize, clock))
    latencies = {name: _latency(found, batch) for name, found in times.items()}
    _note_noise(latencies, emit)
    return latencies


def _rounds(planned: int, seconds: float, clock: Clock, tell: Callable[[int], None]) -> Iterator[int]:
    """Numbers of rounds; ends early, but not before the least number, when other work on the machine eats up the time."""
    started, throttle = clock(), Throttle(clock=clock)
    for number in range(planned):
        if number >= MIN_ROUNDS and clock() - started > seconds:
            return
        if throttle.is_due():
            tell(number)
        yield number


def _time_call(call: Call, synchronize: Callable[[], object], clock: Clock) -> float:
    synchronize()
    started = clock()
    call()
    synchronize()
    return clock() - started


def _synchronization(device: torch.device | None) -> Callable[[], object]:
    """What waits for the device to finish: a GPU takes work and returns at once."""
    if device is not None and device.type == "cuda":
        return lambda: torch.cuda.synchronize(device)
    if device is not None and device.type == "mps":
        return torch.mps.synchronize
    return lambda: None


@contextmanager
def _without_collection() -> Iterator[None]:
    """Keep Python's cyclic collector from running in the middle of a call."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _latency(times: Sequence[float], batch: int) -> Latency:
    rounds_ms = tuple(1000 * took for took in times)
    p10, median, p90 = _quantiles(rounds_ms)
    return Latency(median, p10, p90, len(times), batch, torch.get_num_threads(), rounds_ms)


def _quantiles(values: Sequence[float]) -> tuple[float, float, float]:
    """The 10 %, 50 % and 90 % points, interpolated between neighbours."""
    deciles = statistics.quantiles(values, n=10, method="inclusive")
    return deciles[0], deciles[4], deciles[8]


def _note_noise(latencies: Mapping[str, Latency], emit: Emit) -> None:
    noisy = [(found.p90_ms / found.p10_ms, name) for name, found in latencies.items() if found.is_noisy]
    if noisy:
        spread, name = max(noisy)
        emit(
            Note(
                f"the machine is busy or its clock changes: {len(noisy)} of {len(latencies)} latencies spread by more than "
                f"{NOISY}x (p90 of {name} is {spread:.1f}x its p10); trust ratios more than milliseconds"
            )
        )
