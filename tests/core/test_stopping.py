import math
import os
import signal
import threading

import pytest

from dlkit.core.stopping import StopRequest, watch_signals


def test_the_first_signal_asks_its_echo_does_nothing_and_a_second_acts(monkeypatch):
    stop, clock = StopRequest(), iter([10.0, 10.5, 12.0])
    monkeypatch.setattr("dlkit.signals.time.monotonic", lambda: next(clock))
    with pytest.raises(KeyboardInterrupt), watch_signals(stop):
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.is_due and stop.signal_number == signal.SIGINT
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.posix
def test_usr1_asks_for_one_save():
    stop = StopRequest()
    with watch_signals(stop):
        os.kill(os.getpid(), signal.SIGUSR1)
        assert not stop.is_due
        assert stop.take_save_request() and not stop.take_save_request()


def test_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        stop = StopRequest()
        with watch_signals(stop):
            os.kill(os.getpid(), signal.SIGHUP)
        assert not stop.is_due and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_other_threads_watch_nothing():
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def work():
        with watch_signals(StopRequest()):
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


@pytest.mark.posix
def test_processes_that_share_a_stop_act_on_settled_votes_only():
    """What one was asked for holds for both, from the same step on, and nothing before it is settled."""
    first, second = StopRequest(deadline=math.inf, is_shared=True), StopRequest(deadline=math.inf, is_shared=True)
    second.ask(signal.SIGTERM)
    second.ask(signal.SIGUSR1)
    assert second.is_asked and not second.is_due and not second.take_save_request()
    counts = [one + two for one, two in zip(first.votes(), second.votes(), strict=True)]
    for stop in (first, second):
        stop.settle(counts)
        assert stop.is_due and stop.signal_number == signal.SIGTERM
        assert stop.take_save_request() and not stop.take_save_request()
    assert sum(second.votes()) == 1  # the wish for a checkpoint was granted, that to stop stays


def test_time_that_is_up_for_one_process_is_up_for_all():
    late, early = StopRequest(deadline=-math.inf, is_shared=True), StopRequest(deadline=math.inf, is_shared=True)
    assert late.is_late and not late.is_due
    for stop in (late, early):
        stop.settle(late.votes())
        assert stop.is_due and stop.signal_number is None
