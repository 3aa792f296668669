"""Both ways of loading: the same numbers, whatever the workers, the start and the cutting."""

import hashlib
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from dlkit.core.data import Batch, DataSplits, LoaderSplit, MemorySplit, Split, build_data
from dlkit.errors import DataError, DlkitError

CPU = torch.device("cpu")
AUGMENTED: dict[str, Any] = {
    "name": "digits",
    "limit": 90,
    "batch_size": 16,
    "transforms": [
        {"name": "RandomCrop", "size": 8, "padding": 1},
        "RandomHorizontalFlip",
        {"name": "RandomAffine", "degrees": 10, "translate": [0.1, 0.1], "interpolation": "bilinear"},
        "RandomErasing",
        "alternating_flip",
    ],
    "batch_transforms": ["mixup", {"name": "cutmix", "alpha": 0.5}],
}


class Dice:
    """Every sample is what the three global generators say."""

    classes = ("low", "high")

    def __init__(self, size: int = 40) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.tensor([random.random(), float(np.random.rand()), float(torch.rand(())), float(index)]), index % 2


class Dying(Dice):
    """One sample ends its process."""

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if index == 33 and torch.utils.data.get_worker_info() is not None:
            import os

            os._exit(1)
        return super().__getitem__(index)


class Broken(Dice):
    """One sample cannot be read, but only after the first."""

    targets = [0, 1] * 20

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if index == 7:
            raise OSError("the disk is gone")
        return super().__getitem__(index)


def digest(batches: list[Batch]) -> list[str]:
    return [hashlib.sha256(b"".join(part.numpy().tobytes() for part in batch[:3])).hexdigest() for batch in batches]


def digests(split: Split, epoch: int, start: int = 0) -> list[str]:
    return digest(list(split.batches(epoch, start)))


def dice(load: Any, **options: Any) -> DataSplits:
    section = {"name": f"{__file__}:Dice", "normalize": "none", "batch_size": 7, "val": 0.25, **options}
    return build_data(load(section), device=CPU, seed=3)


def test_memory_and_loader_give_the_same_batches(load: Any) -> None:
    kept = build_data(load(AUGMENTED), device=CPU, seed=0)
    read = build_data(load({**AUGMENTED, "cache": "none", "num_workers": 0}), device=CPU, seed=0)
    assert isinstance(kept.train, MemorySplit) and isinstance(read.train, LoaderSplit)
    assert kept.info == read.info
    for epoch in (0, 1):
        for ours, theirs in zip(kept.train.batches(epoch), read.train.batches(epoch), strict=True):
            torch.testing.assert_close(ours.inputs, theirs.inputs, rtol=1e-6, atol=1e-6)
            torch.testing.assert_close(ours.targets, theirs.targets)
            assert torch.equal(ours.indices, theirs.indices)
    for name in ("val", "test"):
        assert digests(getattr(kept, name), 0) == digests(getattr(read, name), 0)


@pytest.mark.parametrize("cache", ["memory", "none"])
def test_epochs_differ_and_repeat(load: Any, cache: str) -> None:
    section = {**AUGMENTED, "cache": cache, "num_workers": 0}
    first, second = (build_data(load(section), device=CPU, seed=0).train for _ in range(2))
    other = build_data(load(section), device=CPU, seed=1).train
    assert digests(first, 0) == digests(second, 0)
    assert digests(first, 1) == digests(second, 1)
    assert not set(digests(first, 0)) & set(digests(first, 1))
    assert not set(digests(first, 0)) & set(digests(other, 0))


@pytest.mark.parametrize("cache", ["memory", "none"])
@pytest.mark.parametrize("start", [1, 4, 5, 6])
def test_an_epoch_can_be_entered_at_any_batch(load: Any, cache: str, start: int) -> None:
    train = build_data(load({**AUGMENTED, "cache": cache, "num_workers": 0}), device=CPU, seed=0).train
    assert train.num_batches == 6
    assert digests(train, 2, start) == digests(train, 2)[start:]


@pytest.mark.slow
def test_batches_do_not_depend_on_workers_or_on_what_ran_before(load: Any) -> None:
    expected = [digests(dice(load, num_workers=0).train, epoch) for epoch in range(3)]
    for workers in (1, 2):
        for persistent in (False, True):
            for prefetch in (None, 1):
                options = {"num_workers": workers, "persistent_workers": persistent, "prefetch_factor": prefetch}
                train = dice(load, **options).train
                assert [digests(train, epoch) for epoch in range(2)] == expected[:2], options
                abandoned = train.batches(1, 1)
                next(abandoned)
                assert digests(train, 2, 2) == expected[2][2:], options
                del abandoned


@pytest.mark.slow
def test_file_augmentation_by_torchvision_does_not_depend_on_workers(load: Any, image_folder: Path) -> None:
    section = {
        "name": "imagefolder",
        "path": str(image_folder),
        "image_size": 16,
        "batch_size": 4,
        "transforms": [{"name": "RandomResizedCrop", "size": 16}, {"name": "ColorJitter", "brightness": 0.5}],
    }
    found = [
        [
            digests(build_data(load({**section, "num_workers": workers}), device=CPU, seed=0).train, epoch)
            for epoch in (0, 1)
        ]
        for workers in (0, 2)
    ]
    assert found[0] == found[1]
    assert found[0][0] != found[0][1]


def test_every_sample_and_epoch_has_dice_of_its_own(load: Any) -> None:
    train = dice(load, num_workers=0).train
    rows = torch.cat([batch.inputs[:, :3] for epoch in range(3) for batch in train.batches(epoch)])
    assert len(rows) == 3 * 30
    for column in range(3):
        assert len(rows[:, column].unique()) == len(rows)


@pytest.mark.parametrize("cache", ["memory", "none"])
def test_global_generators_are_left_as_they_were(load: Any, cache: str) -> None:
    def states() -> tuple[Any, ...]:
        return torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[union-attr]

    torch.manual_seed(5)
    before = states()
    data = dice(load, cache=cache, num_workers=0)
    list(data.train.batches())
    assert states() == before


def test_positions_tell_which_sample_is_which(load: Any) -> None:
    data = dice(load, num_workers=0, shuffle=True)
    by_position, again = ({} for _ in range(2))  # type: ignore[var-annotated]
    for epoch, found in ((0, by_position), (1, again)):
        for batch in data.train.batches(epoch):
            found.update(zip(batch.indices.tolist(), batch.inputs[:, 3].tolist(), strict=True))
    assert by_position == again
    assert sorted(by_position) == list(range(30))
    for batch in data.train.batches(0):
        assert torch.equal(data.train.sample_targets()[batch.indices], batch.targets)


def test_what_is_skipped_is_not_read(load: Any, image_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    section = {"name": "imagefolder", "path": str(image_folder), "image_size": 8, "cache": "none", "batch_size": 2}
    train = build_data(load({**section, "num_workers": 0, "val": "none"}), device=CPU, seed=0).train
    opened: list[str] = []
    plain = Image.open
    monkeypatch.setattr(Image, "open", lambda path: opened.append(path) or plain(path))
    assert train.num_batches == 6
    assert len(list(train.batches(0, 5))) == 1
    assert len(opened) == 2


@pytest.mark.parametrize("workers", [0, 1])
def test_a_sample_that_cannot_be_read_is_named(load: Any, workers: int) -> None:
    section = {"name": f"{__file__}:Broken", "normalize": "none", "num_workers": workers, "val": "none"}
    data = build_data(load(section), device=CPU, seed=0)
    with pytest.raises(DataError, match=r"Broken\[7\].*OSError: the disk is gone") as caught:
        list(data.train.batches())
    assert "Traceback" not in str(caught.value)


# torch's SIGCHLD handler raises between any two instructions of the main thread. Where that falls between opening
# and closing the socket over which a loader hands its tensors, Python warns of the socket: not of our making.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.slow
def test_a_loader_process_that_dies_ends_in_one_sentence(load: Any) -> None:
    section = {"name": f"{__file__}:Dying", "normalize": "none", "num_workers": 1, "val": "none", "batch_size": 4}
    data = build_data(load(section), device=CPU, seed=0)
    with pytest.raises(DlkitError, match="loader process ended unexpectedly"):
        list(data.train.batches())


def test_samples_of_different_size_name_the_way_out(load: Any, image_folder: Path) -> None:
    section = {
        "name": "imagefolder",
        "path": str(image_folder),
        "cache": "none",
        "num_workers": 0,
        "transforms": [{"name": "Resize", "size": 8}],
        "eval_transforms": [{"name": "CenterCrop", "size": 8}],
    }
    data = build_data(load(section), device=CPU, seed=0)
    with pytest.raises(DataError, match=r"differ in size \(8x\d+, .*image_size"):
        list(data.train.batches())


def test_evaluation_is_in_order_and_counts_every_sample_once(load: Any) -> None:
    data = build_data(load({**AUGMENTED, "batch_size": 10, "drop_last": True}), device=CPU, seed=0)
    assert data.val is not None and data.test is not None
    for split in (data.val, data.test):
        batches = list(split.batches())
        assert torch.equal(torch.cat([batch.indices for batch in batches]), torch.arange(split.num_samples))
        assert torch.equal(torch.cat([batch.targets for batch in batches]), split.sample_targets())
        assert len(batches) == split.num_batches
    assert [len(batch.indices) for batch in data.train.batches()] == [10] * 9


def test_mixed_targets_are_probabilities(load: Any) -> None:
    data = build_data(load(AUGMENTED), device=CPU, seed=0)
    kinds = set()
    for epoch in range(4):
        for batch in data.train.batches(epoch):
            assert batch.targets.shape == (len(batch.indices), 10) and batch.targets.dtype == torch.float32
            torch.testing.assert_close(batch.targets.sum(1), torch.ones(len(batch.indices)))
            # area shares of 8 x 8 pixels are whole 64ths, beta shares are not
            kinds.add(bool(((batch.targets * 64) % 1 < 1e-4).all()))
    assert kinds == {True, False}
    assert data.val is not None and next(iter(data.val.batches())).targets.dtype == torch.int64
