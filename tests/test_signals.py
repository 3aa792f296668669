"""A stop that is raised as an exception: where exceptions are lost, in imports, and twice."""

import signal
import sys
import time
import weakref

import pytest

from dlkit.errors import Interrupted
from dlkit.signals import STOPPING, handled_signals, stopped_by_signals, stops_held, stops_ignored


class Thing:
    pass


def wait_for_stop():
    for _ in range(1000):
        time.sleep(0.01)
    raise AssertionError("not stopped")


def test_the_message_says_what_is_left():
    before = signal.getsignal(signal.SIGTERM)
    words = "stopped by SIGTERM; nothing was written"
    with pytest.raises(Interrupted, match=words) as found, stopped_by_signals("nothing was written"):
        signal.raise_signal(signal.SIGTERM)
    assert found.value.exit_code == 143 and signal.getsignal(signal.SIGTERM) is before


def test_a_stop_that_a_callback_swallows_is_raised_again(monkeypatch):
    monkeypatch.setattr(sys, "unraisablehook", lambda lost: None)  # pytest's keeps what was lost

    def raise_in_callback():
        thing = Thing()
        reference = weakref.ref(thing, lambda _: signal.raise_signal(signal.SIGINT))
        del thing
        return reference

    started = time.monotonic()
    with pytest.raises(Interrupted, match="stopped by SIGINT"), stopped_by_signals():
        raise_in_callback()
        wait_for_stop()
    assert time.monotonic() - started < 5


def test_a_stop_waits_for_an_import_to_end(tmp_path, monkeypatch):
    (tmp_path / "loads_long.py").write_text("import signal\nsignal.raise_signal(signal.SIGTERM)\nis_whole = True\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(Interrupted), stopped_by_signals():
        import loads_long

        wait_for_stop()
    assert sys.modules.pop("loads_long").is_whole and loads_long.is_whole


def test_whatever_comes_of_a_stop_is_a_stop():
    """Extension modules and other processes turn it into errors of their own."""
    with pytest.raises(Interrupted, match="stopped by SIGTERM"), stopped_by_signals():
        try:
            signal.raise_signal(signal.SIGTERM)
        except BaseException:
            raise ImportError("initialization failed") from None


def test_a_block_within_another_leaves_the_words_to_it():
    outer, inner = stopped_by_signals("nothing was written"), stopped_by_signals()
    with pytest.raises(Interrupted, match="nothing was written"), outer, inner:
        signal.raise_signal(signal.SIGTERM)


def test_a_stop_waits_for_a_block_that_must_not_be_interrupted():
    done = []
    with pytest.raises(Interrupted), stopped_by_signals():
        with stops_held():
            signal.raise_signal(signal.SIGTERM)
            done.append("held")
        done.append("gone on")
    assert done == ["held"]


def test_the_last_moments_are_not_stopped():
    with stopped_by_signals(), stops_ignored():
        for number in STOPPING:
            signal.raise_signal(number)


def test_a_later_signal_acts_as_it_would_have_without_us(monkeypatch):
    seen = []
    monkeypatch.setattr("dlkit.signals.time.monotonic", lambda: 12.0 if seen else 10.0)
    outer = handled_signals([signal.SIGTERM], lambda number: seen.append("outer"))
    with outer, handled_signals([signal.SIGTERM], lambda number: seen.append("inner"), is_once=True):
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
    assert seen == ["inner", "outer"]
