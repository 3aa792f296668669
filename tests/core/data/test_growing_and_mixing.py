"""Batches that are mixed by chance and not at the end, and images that grow: functions of (seed, epoch, batch) alone."""

import math

import pytest
import torch

from dlkit.config import load_mapping
from dlkit.core.data import CutMix, MixingPlan, MixUp, SizePlan, build_data, fit_image

CPU = torch.device("cpu")
FAKE = {
    "name": "fake",
    "num_samples": 90,
    "shape": [1, 12, 12],
    "num_classes": 3,
    "batch_size": 8,
    "test": "none",
    "normalize": "none",
}


def build(train=None, **data):
    loaded = load_mapping({"data": FAKE | data, "model": "small_cnn", "train": {"epochs": 5} | (train or {})})
    return build_data(loaded, device=CPU, seed=3)


def test_shares_are_those_that_were_asked_for():
    plan = MixingPlan((MixUp(), CutMix()), p=0.7, switch=0.2, end=9)
    picked = [plan.pick(seed, epoch, first) for seed in range(10) for epoch in range(9) for first in range(50)]
    mixed = [mixer for mixer in picked if mixer is not None]
    assert len(mixed) / len(picked) == pytest.approx(0.7, abs=4 * math.sqrt(0.21 / len(picked)))
    cuts = sum(isinstance(mixer, CutMix) for mixer in mixed)
    assert cuts / len(mixed) == pytest.approx(0.2, abs=4 * math.sqrt(0.16 / len(mixed)))
    assert all(plan.pick(0, epoch, 5) is None for epoch in (9, 10))
    assert plan.pick(1, 2, 3) is plan.pick(1, 2, 3)


@pytest.mark.parametrize(("switch", "kind"), [(0.0, MixUp), (1.0, CutMix)])
def test_switch_at_its_ends(switch, kind):
    plan = MixingPlan((CutMix(), MixUp()), switch=switch)
    assert all(isinstance(plan.pick(0, 0, first), kind) for first in range(40))


@pytest.mark.parametrize(
    ("length", "first_plain"), [({}, 3), ({"max_steps": 25}, 1), ({"max_steps": 13, "accumulate": 2}, 1)]
)
def test_the_last_epochs_are_plain(length, first_plain):
    train = build(length, batch_transforms=["mixup"], mixing={"off_last_epochs": 2}).train
    plain = build().train
    for epoch in range(5):
        is_mixed = epoch < first_plain
        for batch, without in zip(train.batches(epoch), plain.batches(epoch), strict=True):
            assert batch.targets.is_floating_point() == is_mixed
            assert torch.equal(batch.inputs, without.inputs) != is_mixed


def test_a_run_without_mixed_epochs_says_so():
    assert "no batch is mixed" in " ".join(
        build({"epochs": 2}, batch_transforms=["mixup"], mixing={"off_last_epochs": 2}).notes
    )


def test_batches_are_mixed_by_chance_and_the_same_from_any_start():
    train = build(batch_transforms=["mixup"], mixing={"p": 0.5}).train
    batches = list(train.batches(1))
    are_mixed = [batch.targets.is_floating_point() for batch in batches]
    assert 0 < sum(are_mixed) < len(are_mixed)
    for one, other in zip(batches[4:], train.batches(1, 4), strict=True):
        assert torch.equal(one.inputs, other.inputs) and torch.equal(one.targets, other.targets)


@pytest.mark.parametrize(
    ("first", "last", "epochs", "wanted"),
    [
        (128, 224, 4, [128, 160, 192, 224]),
        (128, 224, 7, [128, 160, 160, 192, 192, 224, 224]),
        (16, 28, 2, [16, 28]),
        (8, 16, 1, [16]),
    ],
)
def test_sizes_by_epoch(first, last, epochs, wanted):
    plan = SizePlan(first, last, epochs)
    assert [plan.at(epoch) for epoch in range(epochs + 2)] == [(size, size) for size in [*wanted, last, last]]


@pytest.mark.parametrize("cache", ["memory", "none"])
def test_images_grow_and_evaluation_has_the_last_size(cache):
    data = build({"epochs": 3}, image_size={"from": 8, "to": 16}, cache=cache, num_workers=0)
    whole = build({"epochs": 3}, image_size=16)
    assert data.info.input_size == (1, 16, 16) and next(data.val.batches()).inputs.shape[-2:] == (16, 16)
    for epoch, size in ((0, 8), (1, 16), (2, 16)):
        for batch, full in zip(data.train.batches(epoch), whole.train.batches(epoch), strict=True):
            assert torch.equal(batch.inputs, fit_image(full.inputs, (size, size)))


def test_resume_is_exact(straight_and_resumed, same):
    data = FAKE | {"image_size": {"from": 6, "to": 12}, "batch_transforms": ["mixup", "cutmix"]}
    data["mixing"] = {"p": 0.6, "switch": 0.3, "off_last_epochs": 1}
    config = {
        "data": data,
        "model": {"name": "small_cnn", "width": 4},
        "train": {"epochs": 3},
        "checkpoint": {"every_steps": 7, "keep": 9},
        "log": {"tensorboard": False},
        "runtime": {"threads": 1, "device": "cpu"},
    }
    straight, resumed = straight_and_resumed(config, 7)
    assert same(straight["state_dict"], resumed["state_dict"])


MISTAKES = {
    "mixing: {p: 0.5}": "data.mixing: nothing mixes",
    "batch_transforms: [mixup]\n  mixing: {switch: 0.5}": "data.mixing.switch: is for mixup and cutmix together",
    "batch_transforms: [mixup]\n  mixing: {p: 0}": "data.mixing.p: expected a number above 0",
    "batch_transforms: [mixup]\n  mixing: {of_last_epochs: 1}": "Did you mean 'off_last_epochs'",
    "image_size: {from: 28, to: 16}": "data.image_size.to: images grow from 28",
    "image_size: {from: 28}": "data.image_size.to: missing",
    "image_size: {form: 8, to: 28}": "data.image_size.form: unknown key",
    "image_size: {from: 0, to: 28}": "data.image_size.from: expected",
}


@pytest.mark.parametrize(("text", "words"), MISTAKES.items())
def test_mistakes_are_told_with_their_place(dlkit, write_config, text, words):
    path = write_config(f"data:\n  name: digits\n  {text}\nmodel: small_cnn\ntrain: {{epochs: 5}}\n")
    done = dlkit("config", "check", path)
    assert done.code == 2 and words in done.err and "cfg.yaml:" in done.err


def test_a_network_that_cannot_take_the_small_size_is_told(dlkit, write_config):
    path = write_config("data: {name: digits, image_size: {from: 4, to: 16}}\nmodel: mlp\n")
    done = dlkit("train", path)
    assert done.code == 2 and "1x4x4 does not fit" in done.err
