"""How often samples are read: once for every look at the data before training, then once an epoch."""

from collections import Counter

import pytest

SOURCE = """
from pathlib import Path
import torch


class Data:
    def __init__(self):
        self.log = Path(__file__).with_suffix(".log")

    def __len__(self):
        return 48

    def __getitem__(self, index):
        with self.log.open("a") as file:
            file.write(f"{index}\\n")
        return torch.full((1, 8, 8), index / 48), index % 3


class Labelled(Data):
    def __init__(self):
        super().__init__()
        self.targets = [index % 3 for index in range(48)]
"""
CONFIG = """
data: {name: './mine.py:Data', batch_size: 8, num_workers: 0, val: none}
model: {name: small_cnn, width: 4}
train: {epochs: 3}
"""


@pytest.fixture
def count_reads(dlkit, write_config, tmp_path):
    """`count_reads(change, ...)` is how often each sample was read by `dlkit train` with these changes."""
    (tmp_path / "mine.py").write_text(SOURCE)

    def count(*changes):
        done = dlkit("train", write_config(CONFIG), *changes)
        assert done.code == 0, done.err
        return Counter(map(int, (tmp_path / "mine.log").read_text().split()))

    return count


@pytest.mark.parametrize("name", ["Data", "Labelled"])
@pytest.mark.parametrize("normalize", ["auto", "none", "{mean: [0.5], std: [0.2]}"])
def test_sample_0_is_read_once_before_training(count_reads, tmp_path, name, normalize):
    reads = count_reads(
        f"data.name={tmp_path}/mine.py:{name}", f"data.normalize={normalize}", "--out", tmp_path / "run"
    )
    assert reads[0] == 1 + 3
    # the others: for their targets where the data set does not list them, for statistics, and then for training
    assert reads[5] == (name == "Data") + (normalize == "auto") + 3


def test_in_memory_each_sample_is_read_once_and_its_target_with_it(count_reads, tmp_path):
    reads = count_reads("data.cache=memory", "--out", tmp_path / "run")
    assert reads[0] == 1 and reads[5] == 2


def test_held_out_samples_are_read_once_at_every_validation(count_reads, tmp_path):
    changes = ["data.val=0.5", "seed=1", f"data.name={tmp_path}/mine.py:Labelled", "data.normalize=none"]
    reads = count_reads(*changes, "--out", tmp_path / "run")
    assert set(reads.values()) == {3, 4}
    assert reads[0] == 1 + 3


def test_a_dry_run_reads_the_first_batch_once(count_reads, tmp_path):
    changes = [f"data.name={tmp_path}/mine.py:Labelled", "data.normalize=none", "data.shuffle=false", "--dry-run"]
    reads = count_reads(*changes)
    assert reads[0] == 2 and reads[5] == 1 and reads[15] == 1


def test_print_config_reads_only_what_statistics_need(count_reads, tmp_path):
    own = f"data.name={tmp_path}/mine.py:Labelled"
    assert set(count_reads(own, "data.normalize=none", "--print-config")) == {0, 24, 47}
    (tmp_path / "mine.log").unlink()
    reads = count_reads(own, "data.val=0.5", "--print-config")
    assert sorted(reads.values()) == [1] * len(reads) and len(reads) < 30
