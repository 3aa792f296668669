"""Repeated augmentation: copies are counted and augmented one by one, as a function of (seed, epoch, copy) alone."""

from collections import Counter
from itertools import chain

import pytest
import torch

from dlkit.config import load_mapping
from dlkit.core.data import BatchPlan, Draws, LoaderSplit, Stream, build_data
from dlkit.core.distributed import ALONE, World

CPU = torch.device("cpu")
CROP = [{"name": "RandomCrop", "size": 12, "padding": 4}]
FAKE = {
    "name": "fake",
    "num_samples": 100,
    "shape": [1, 12, 12],
    "num_classes": 3,
    "batch_size": 12,
    "test": "none",
    "normalize": "none",
    "num_workers": 0,
    "repeats": 3,
    "transforms": CROP,
}


def build(world=ALONE, epochs=5, **data):
    loaded = load_mapping({"data": FAKE | data, "model": "small_cnn", "train": {"epochs": epochs}})
    return build_data(loaded, device=CPU, seed=3, world=world)


SIZES = [(90, 12, 3), (100, 12, 3), (101, 16, 4), (10, 5, 5), (7, 3, 3), (41, 7, 4), (6, 12, 6), (5, 3, 2)]


@pytest.mark.parametrize(("num_samples", "batch_size", "repeats"), SIZES)
def test_so_many_epochs_hold_every_copy_of_every_sample_once(num_samples, batch_size, repeats):
    plan = BatchPlan(num_samples, batch_size, seed=3, shuffle=True, repeats=repeats)
    for first in (0, repeats):
        epochs = [torch.cat(list(plan.keys(epoch))).tolist() for epoch in range(first, first + repeats)]
        assert [len(keys) for keys in epochs] == [num_samples] * repeats
        assert sorted(chain(*epochs)) == list(range(num_samples * repeats))
        for keys in epochs:
            assert len({key % num_samples for key in keys}) <= -(-num_samples // repeats) + 1
    assert torch.cat(list(plan.keys(0))).tolist() != torch.cat(list(plan.keys(repeats))).tolist()


@pytest.mark.parametrize(("num_samples", "repeats", "times"), [(90, 3, 4), (100, 3, 2), (101, 4, 5), (41, 5, 1)])
def test_all_copies_stand_in_one_batch_that_holds_a_multiple(num_samples, repeats, times):
    plan = BatchPlan(num_samples, repeats * times, seed=0, shuffle=True, repeats=repeats)
    for epoch in range(2 * repeats):
        batches = [Counter(positions.tolist()) for positions in plan.positions(epoch)]
        whole = sum(batches, Counter())
        cut = {position for position, count in whole.items() if count != repeats}
        assert len(cut) <= 2  # shared with the epochs before and after
        assert all(count == repeats for batch in batches for position, count in batch.items() if position not in cut)


def test_copies_are_no_neighbours_where_the_batch_allows():
    # mixup pairs a sample with the one before it, the first with the last
    plan = BatchPlan(100, 12, seed=0, shuffle=True, repeats=3)
    for epoch in range(6):
        for positions in list(plan.positions(epoch))[:-1]:
            assert not (positions == positions.roll(1)).any()


def test_one_copy_is_what_was_before():
    plain, once = (BatchPlan(41, 7, seed=5, shuffle=True, **options) for options in ({}, {"repeats": 1}))
    assert all(torch.equal(*pair) for pair in zip(plain.keys(4), once.keys(4), strict=True))


@pytest.mark.parametrize("options", [{"cache": "memory"}, {"cache": "none"}, {"cache": "none", "num_workers": 2}])
def test_every_copy_is_augmented_anew_and_every_way_of_loading_the_same(options):
    data = build(**options)
    assert isinstance(data.train, LoaderSplit) == (options["cache"] == "none")
    plain = build(repeats=1, transforms=[]).train
    pixels = {
        int(at): image for batch in plain.batches() for at, image in zip(batch.indices, batch.inputs, strict=True)
    }
    pad = torch.nn.functional.pad
    for epoch in (0, 1):
        for batch, keys in zip(data.train.batches(epoch), data.train.plan.keys(epoch), strict=True):
            assert torch.equal(batch.indices, keys % 90)
            corners = Draws(3, epoch, keys, (Stream.AUGMENT,)).stage(0).uniforms(2)
            for image, key, (top, left) in zip(batch.inputs, keys, (corners * 9).long().tolist(), strict=True):
                whole = pad(pixels[int(key) % 90], (4, 4, 4, 4))
                assert torch.equal(image, whole[:, top : top + 12, left : left + 12])


@pytest.mark.parametrize("cache", ["memory", "none"])
def test_copies_differ(cache):
    images: dict[int, list[torch.Tensor]] = {}
    for batch in build(cache=cache).train.batches():
        for position, image in zip(batch.indices.tolist(), batch.inputs, strict=True):
            images.setdefault(position, []).append(image)
    assert len(images) == 30 and all(len(copies) == 3 for copies in images.values())
    different = [len(torch.unique(torch.stack(copies), dim=0)) for copies in images.values()]
    assert sum(different) > 80  # of 90; there are 81 places to crop at


@pytest.mark.parametrize("num_ranks", [2, 3])
@pytest.mark.parametrize("cache", ["memory", "none"])
def test_processes_share_the_batches_of_one(num_ranks, cache):
    one = build(batch_size=7 * num_ranks, cache=cache).train
    parts = [build(World(rank, num_ranks), batch_size=7, cache=cache).train for rank in range(num_ranks)]
    for epoch in (0, 2, 4):
        pieces = zip(*(part.batches(epoch) for part in parts), strict=True)
        for whole, turn in zip(one.batches(epoch), pieces, strict=True):
            assert torch.equal(whole.inputs, torch.cat([batch.inputs for batch in turn if batch.is_counted]))
            assert torch.equal(whole.indices, torch.cat([batch.indices for batch in turn if batch.is_counted]))


@pytest.mark.parametrize("start", [1, 4, 7])
@pytest.mark.parametrize("options", [{"cache": "memory"}, {"cache": "none"}])
def test_an_epoch_can_be_entered_anywhere(start, options):
    data = build(batch_transforms=["mixup"], **options)
    for one, other in zip(list(data.train.batches(4))[start:], data.train.batches(4, start), strict=True):
        assert torch.equal(one.inputs, other.inputs) and torch.equal(one.targets, other.targets)


def test_resume_is_exact(straight_and_resumed, same):
    config = {
        "data": FAKE,
        "model": {"name": "small_cnn", "width": 4},
        "train": {"epochs": 3},
        "checkpoint": {"every_steps": 5, "keep": 9},
        "log": {"tensorboard": False},
        "runtime": {"threads": 1, "device": "cpu"},
    }
    straight, resumed = straight_and_resumed(config, 5)
    assert same(straight["state_dict"], resumed["state_dict"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, ""),
        ({"transforms": []}, "the 3 copies of a sample are equal, since no transform is random"),
        ({"transforms": [{"name": "CenterCrop", "size": 12}]}, "no transform is random"),
        ({"transforms": [], "batch_transforms": ["mixup"]}, ""),
        ({"epochs": 2}, "every sample comes in 3 epochs; this run has 2"),
        ({"epochs": 2, "transforms": [], "repeats": 1}, ""),
    ],
)
def test_what_helps_nothing_is_told(options, words):
    notes = [note for note in build(**options).notes if note.startswith("data.repeats")]
    assert len(notes) == bool(words) and words in " ".join(notes)


MISTAKES = {
    "repeats: 0": "data.repeats: expected an integer of at least 1",
    "repeats: 1.5": "data.repeats: expected an integer of at least 1",
    "repeat: 3": "Did you mean 'repeats'",
    "repeats: 3\n  batch_size: 2": "data.repeats: 3 copies of a sample do not fit into a batch; data.batch_size is 2",
    "repeats: 3\n  sampling: balanced": "data.repeats: does not go with data.sampling",
    "repeats: 3\n  shuffle: false": "data.repeats: needs data.shuffle",
}


@pytest.mark.parametrize(("text", "words"), MISTAKES.items())
def test_mistakes_are_told_with_their_place(dlkit, write_config, text, words):
    done = dlkit("config", "check", write_config(f"data:\n  name: digits\n  {text}\nmodel: small_cnn\n"))
    assert done.code == 2 and words in done.err and "cfg.yaml:3:" in done.err, done.err


def test_more_copies_than_samples_are_refused(dlkit, write_config):
    path = write_config("data: {name: digits, limit: 4, val: none, repeats: 5}\nmodel: mlp\n")
    done = dlkit("train", path)
    assert done.code == 2 and "data.repeats: 5 copies of a sample are more than the 4 training samples" in done.err
