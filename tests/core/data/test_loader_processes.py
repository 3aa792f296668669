"""Loader processes that hang, run out of memory, get signals, or are started anew instead of forked."""

import os
import signal

import pytest
import torch

from dlkit.core.data import build_data
from dlkit.errors import DataError, OutOfResource

TROUBLE = """
import time
import torch

class Trouble:
    def __init__(self, what="none", at=37):
        self.what, self.at = what, at

    def __len__(self):
        return 64

    def __getitem__(self, index):
        if index == self.at and self.what == "hang":
            time.sleep(600)
        if self.what == "slow":
            time.sleep(0.3)
        if index == self.at and self.what == "memory":
            torch.empty(1 << 60)
        if index == self.at and self.what == "python memory":
            raise MemoryError
        return torch.tensor([float(index), float(signals_ignored())]), index % 2

def signals_ignored():
    with open("/proc/self/status") as file:
        return int(next(line.split()[1] for line in file if line.startswith("SigIgn")), 16) & 0xFFFF
"""


@pytest.fixture
def trouble(load, write_config):
    named = f"{write_config(TROUBLE, 'trouble.py')}:Trouble"

    def build(what="none", **options):
        section = {"name": named, "what": what, "val": "none", "test": "none", "batch_size": 8, "shuffle": False}
        section |= {"normalize": "none", "cache": "none", **options}
        return build_data(load(section), device=torch.device("cpu"), seed=0).train

    return build


@pytest.mark.parametrize("num_workers", [pytest.param(0, marks=pytest.mark.posix), 2])
def test_a_sample_that_hangs_is_named(trouble, num_workers):
    with pytest.raises(DataError, match=r"Trouble\[37\]: reading it has taken more than 1 s.*data\.timeout"):
        list(trouble("hang", num_workers=num_workers, timeout=1.0).batches())


@pytest.mark.posix
def test_a_sample_that_hangs_before_training_is_named(trouble):
    with pytest.raises(DataError, match=r"Trouble\[0\]: reading it has taken more than 1 s"):
        trouble("hang", at=0, num_workers=0, timeout="1s")


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize("what", ["memory", "python memory"])
def test_a_sample_without_room_is_named(trouble, what, num_workers):
    with pytest.raises(OutOfResource, match=r"Trouble\[37\]: memory ran out while it was read"):
        list(trouble(what, num_workers=num_workers).batches())


def test_samples_may_be_slow_as_long_as_each_comes(trouble):
    """The limit is for one sample, not for a batch."""
    batches = list(trouble("slow", num_workers=1, timeout=1.5, limit=8).batches())
    assert [len(batch.inputs) for batch in batches] == [8]


@pytest.mark.posix
def test_loader_processes_ignore_what_stops_or_saves(trouble):
    ignored = int(next(trouble(num_workers=1).batches()).inputs[0, 1])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        assert ignored >> (number - 1) & 1, number


@pytest.mark.slow
def test_processes_that_are_started_anew_find_code_of_ones_own(trouble, monkeypatch, tmp_path):
    """As on Windows and macOS: a data set from a file, and one from a module in the current folder."""
    monkeypatch.delattr(os, "fork")
    assert [batch.inputs[0, 0].item() for batch in trouble(num_workers=1).batches()] == list(range(0, 64, 8))
    monkeypatch.chdir(tmp_path)
    batches = trouble(num_workers=1, name="trouble:Trouble").batches()
    assert [batch.inputs[0, 0].item() for batch in batches] == list(range(0, 64, 8))
