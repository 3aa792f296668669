"""Interleaved timing with a clock that the test turns, ratios per round, and what must be put back."""

import gc

import numpy as np
import pytest
import torch

from dlkit.core.benchmark import MIN_ROUNDS, WARM_UPS, Latency, measure_interleaved, speedup
from dlkit.events import Note, Working


class Clock:
    """Time that passes only when a call takes some."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def takes(self, *durations, name="", log=None):
        """A call that takes the durations in turn, over and over."""
        turn = iter(range(10**9))

        def call():
            if log is not None:
                log.append(name)
            self.now += durations[next(turn) % len(durations)]

        return call


def test_rounds_are_interleaved():
    clock, log = Clock(), []
    calls = {name: clock.takes(0.1, name=name, log=log) for name in "abc"}  # long calls have no untimed run before them
    found = measure_interleaved(calls, batch=4, seconds=6.0, clock=clock)
    assert "".join(log) == "abc" * (WARM_UPS + 20)
    assert {latency.runs for latency in found.values()} == {20} and found["a"].batch == 4
    assert found["b"].threads == torch.get_num_threads()
    assert found["c"].samples_per_s == pytest.approx(40)


def test_short_calls_settle_before_they_are_timed():
    clock, log = Clock(), []
    calls = {"quick": clock.takes(0.001, name="q", log=log), "slow": clock.takes(0.2, name="s", log=log)}
    measure_interleaved(calls, batch=1, seconds=0.0, clock=clock)
    assert "".join(log) == "qs" * WARM_UPS + "qqs" * MIN_ROUNDS


def test_one_call_alone_needs_no_settling():
    clock, log = Clock(), []
    measure_interleaved({"only": clock.takes(0.001, name="o", log=log)}, batch=1, seconds=0.0, clock=clock)
    assert len(log) == WARM_UPS + MIN_ROUNDS


def test_quantiles_are_those_of_numpy():
    clock = Clock()
    durations = np.random.default_rng(0).uniform(0.06, 0.2, size=37).tolist()
    found = measure_interleaved({"x": clock.takes(*durations)}, batch=1, seconds=9.0, clock=clock)["x"]
    measured = 1000 * np.resize(np.roll(durations, -WARM_UPS), found.runs)
    assert found.rounds_ms == pytest.approx(measured)
    expected = np.percentile(measured, [10, 50, 90])
    assert (found.p10_ms, found.median_ms, found.p90_ms) == pytest.approx(tuple(expected))


def test_time_runs_out_when_the_machine_gets_slow():
    clock = Clock()
    calls = {"x": clock.takes(*[0.1] * WARM_UPS, *[1.0] * 1000)}
    assert measure_interleaved(calls, batch=1, seconds=15.0, clock=clock)["x"].runs == 16
    assert measure_interleaved(calls, batch=1, seconds=0.5, clock=clock)["x"].runs == MIN_ROUNDS


def test_ratios_are_taken_round_by_round():
    # the machine alternates between quick and slow for both, so that medians alone would say anything
    slow = Latency(0, 0, 0, 4, 1, 1, (10.0, 40.0, 10.0, 40.0))
    quick = Latency(0, 0, 0, 4, 1, 1, (5.0, 20.0, 5.0, 20.0))
    ratio = speedup(slow, quick)
    assert (ratio.median, ratio.p10, ratio.p90) == (2.0, 2.0, 2.0)
    assert speedup(quick, slow).median == 0.5
    spread = speedup(slow, Latency(0, 0, 0, 4, 1, 1, (10.0, 20.0, 5.0, 10.0)))
    assert (spread.p10, spread.median, spread.p90) == pytest.approx(tuple(np.percentile([1, 2, 2, 4], [10, 50, 90])))


def test_ratios_of_separate_measurements_are_refused():
    with pytest.raises(ValueError, match="same rounds"):
        speedup(Latency(1, 1, 1, 2, 1, 1, (1.0, 1.0)), Latency(1, 1, 1, 3, 1, 1, (1.0, 1.0, 1.0)))


def test_a_noisy_machine_is_told():
    clock, events = Clock(), []
    calls = {"steady": clock.takes(0.1), "jumpy": clock.takes(0.1, 0.3)}
    found = measure_interleaved(calls, batch=1, seconds=4.0, clock=clock, emit=events.append)
    notes = [event.text for event in events if isinstance(event, Note)]
    assert len(notes) == 1 and "1 of 2" in notes[0] and "jumpy" in notes[0] and "3.0x" in notes[0]
    assert found["jumpy"].is_noisy and not found["steady"].is_noisy
    progress = [event for event in events if isinstance(event, Working)]
    assert progress and all(event.done < event.total for event in progress)


def test_a_gpu_is_waited_for_before_the_clock_starts_and_before_it_stops(monkeypatch):
    log, clock = [], Clock()
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: log.append("wait"))

    def read():
        log.append("clock")
        return clock.now

    call = clock.takes(0.1, name="call", log=log)
    measure_interleaved({"x": call}, batch=1, seconds=0.0, device=torch.device("cuda"), clock=read)
    assert log[:5] == log[5:10] == ["wait", "clock", "call", "wait", "clock"]


def test_plain_values_have_no_rounds():
    plain = Latency(2.0, 1.0, 4.0, 3, 8, 1, (1.0, 2.0, 4.0)).to_dict()
    assert plain == {
        "median_ms": 2.0, "p10_ms": 1.0, "p90_ms": 4.0, "runs": 3, "batch": 8, "threads": 1, "samples_per_s": 4000.0,
        "is_noisy": True,
    }  # fmt: skip


@pytest.mark.parametrize("was_enabled", [True, False])
def test_the_collector_is_off_only_while_measuring(was_enabled):
    seen = []

    def fail():
        seen.append((gc.isenabled(), torch.is_inference_mode_enabled()))
        if len(seen) > 5:
            raise RuntimeError("broken")

    (gc.enable if was_enabled else gc.disable)()
    try:
        with pytest.raises(RuntimeError, match="broken"):
            measure_interleaved({"x": fail}, batch=1, seconds=1.0)
        assert gc.isenabled() == was_enabled and not torch.is_inference_mode_enabled()
    finally:
        gc.enable()
    assert set(seen) == {(False, True)}
