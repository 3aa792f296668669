"""Sampling: exact shares, a function of (seed, epoch), random numbers of their own for what comes again."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dlkit.config import load_mapping
from dlkit.core.data import DataSplits, LoaderSplit, build_data
from dlkit.core.distributed import World
from dlkit.errors import ConfigError, DataError

CPU = torch.device("cpu")
COUNTS = (90, 9, 1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """100 samples in three classes; each input is its number, and its weight too."""
    labels = np.repeat(np.arange(3), COUNTS)
    numbers = np.arange(100.0)[:, None]
    arrays = {"x_train": numbers, "y_train": labels, "w_train": numbers[:, 0], "negative": numbers[:, 0] - 1}
    np.savez(tmp_path / "a.npz", **arrays, zeros=np.zeros(100), short=np.ones(3))
    return tmp_path / "a.npz"


def read(path: Path, sampling: Any, *, batch_size: int = 32, world: World | None = None, **options: Any) -> DataSplits:
    data = {"name": "npz", "path": str(path), "val": "none", "normalize": "none", "sampling": sampling}
    values = {
        "data": {**data, "batch_size": batch_size, "num_workers": 0, "drop_last": False, **options},
        "model": "mlp",
    }
    return build_data(load_mapping(values), device=CPU, seed=3, **({"world": world} if world else {}))


def drawn(data: DataSplits, epoch: int = 0, start: int = 0) -> list[int]:
    return [int(number) for batch in data.train.batches(epoch, start) for number in batch.inputs[:, 0]]


def shares(numbers: list[int]) -> list[int]:
    labels = np.repeat(np.arange(3), COUNTS)
    return np.bincount(labels[numbers], minlength=3).tolist()


@pytest.mark.parametrize(
    ("sampling", "due"),
    [
        ("balanced", [100 / 3] * 3),
        ({"power": 0.0}, [100 / 3] * 3),
        ({"power": 0.5}, [100 * count**0.5 / sum(other**0.5 for other in COUNTS) for count in COUNTS]),
        ({"power": 1.0}, list(COUNTS)),
    ],
)
def test_classes_come_as_often_as_they_are_due(path: Path, sampling: Any, due: list[float]) -> None:
    data = read(path, sampling)
    for epoch in range(5):
        numbers = drawn(data, epoch)
        assert len(numbers) == 100
        assert all(abs(found - wanted) <= 1 for found, wanted in zip(shares(numbers), due, strict=True))
        counts = np.bincount(numbers, minlength=100)
        each = [wanted / count for wanted, count in zip(due, COUNTS, strict=True)]
        assert (np.abs(counts - np.repeat(each, COUNTS)) <= 1).all()  # all of a class, to one
    assert drawn(data, 0) != drawn(data, 1) and drawn(data, 1) == drawn(read(path, sampling), 1)
    assert f"1 {due[1]:.1f}% (9.0% of the data)" in " ".join(data.notes)


def test_over_epochs_every_sample_of_a_large_class_comes(path: Path) -> None:
    data = read(path, "balanced")
    counts = sum(np.bincount(drawn(data, epoch), minlength=100) for epoch in range(60))
    # due 60 * 33.3 / 90 = 22.2 each
    assert counts[:90].min() > 8 and counts[:90].max() < 40


def test_weights_of_ones_own(path: Path) -> None:
    data = read(path, {"weights": "w"})
    counts = np.bincount(drawn(data), minlength=100)
    assert (np.abs(counts - np.arange(100) / 4950 * 100) < 1.0001).all() and counts[0] == 0
    values = {"loss": "mse"}
    section = {"name": "npz", "path": str(path), "val": "none", "sampling": {"weights": "w_train"}, "num_workers": 0}
    regression = build_data(load_mapping({"data": section, "model": "mlp", **values}), device=CPU, seed=3)
    assert (
        regression.info.task == "regression" and sum(len(batch.inputs) for batch in regression.train.batches()) == 100
    )


@pytest.mark.parametrize("num_ranks", [2, 3])
def test_processes_share_the_batches_of_one(path: Path, num_ranks: int) -> None:
    one = read(path, "balanced", batch_size=8 * num_ranks)
    parts = [read(path, "balanced", batch_size=8, world=World(rank, num_ranks)) for rank in range(num_ranks)]
    for epoch in (0, 2):
        wholes = list(one.train.batches(epoch))
        pieces = zip(*(part.train.batches(epoch) for part in parts), strict=True)
        for whole, turn in zip(wholes, pieces, strict=True):
            assert torch.equal(whole.inputs, torch.cat([batch.inputs for batch in turn if batch.is_counted]))


def test_an_epoch_can_be_entered_anywhere(path: Path) -> None:
    data = read(path, {"power": 0.3})
    assert drawn(data, 4)[64:] == drawn(data, 4, start=2)


@pytest.mark.parametrize("cache", ["memory", "none"])
def test_what_comes_again_is_augmented_anew(tmp_path: Path, cache: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (100, 9, 9), dtype=np.uint8)
    np.savez(tmp_path / "p.npz", x=pixels, y=np.repeat(np.arange(3), COUNTS))
    crop = [{"name": "RandomCrop", "size": 9, "padding": 4}]
    data = read(tmp_path / "p.npz", "balanced", transforms=crop, cache=cache)
    assert isinstance(data.train, LoaderSplit) == (cache == "none")
    alone = torch.cat([batch.inputs[batch.indices == 99] for batch in data.train.batches()])
    assert len(alone) in (33, 34)
    assert len(torch.unique(alone, dim=0)) > 25  # of 81 places


@pytest.mark.parametrize(
    ("sampling", "error", "words"),
    [
        ({"weights": "weights"}, ConfigError, "data.sampling: .* has no array 'weights' of weights"),
        ({"weights": "negative"}, DataError, "weights must be 0 or more; sample 0 has -1"),
        ({"weights": "zeros"}, DataError, "weights of all training samples are 0"),
        ({"weights": "short"}, DataError, "weights must be 100 numbers, one for each sample"),
        ({"power": 0.5, "weights": "w"}, ConfigError, "expected balanced, {power: 0.5} or {weights: column}"),
        ({}, ConfigError, "expected balanced, {power: 0.5} or {weights: column}"),
        ({"power": -1}, ConfigError, "data.sampling.power: expected a number from 0 to 1"),
        ("fair", ConfigError, "data.sampling: expected 'none', 'balanced'"),
    ],
)
def test_what_cannot_be(path: Path, sampling: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        read(path, sampling)


def test_what_does_not_go_together(path: Path) -> None:
    with pytest.raises(ConfigError, match="data.shuffle is false"):
        read(path, "balanced", shuffle=False)
    with pytest.raises(ConfigError, match="no columns to take weights from"):
        build_data(
            load_mapping({"data": {"name": "digits", "sampling": {"weights": "w"}}, "model": "mlp"}), device=CPU, seed=0
        )
    section = {"name": "npz", "path": str(path), "sampling": "balanced"}
    for other in ({"task": "regression"}, {"loss": "mse"}):
        with pytest.raises(ConfigError, match="balances classes, but the task is regression"):
            build_data(load_mapping({"data": section, "model": "mlp", **other}), device=CPU, seed=0)
