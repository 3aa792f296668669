"""What a data section becomes: splits, description, notes, and errors at the key at fault."""

import os
import pickle
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dlkit.config import load_mapping
from dlkit.core.data import (
    DataSplits,
    LoaderSplit,
    MemorySplit,
    StoredSamples,
    build_data,
    build_eval_split,
    restore_targets,
)
from dlkit.errors import ConfigError, DataError
from dlkit.events import Event, Note
from dlkit.registry import entries

CPU = torch.device("cpu")
FAKE = {"name": "fake", "num_samples": 100, "num_workers": 0}


def build(load: Any, section: Any, *, seed: int = 0, **sections: Any) -> DataSplits:
    return build_data(load(section, **sections), device=CPU, seed=seed)


def rows_of(split: Any) -> list[bytes]:
    """The raw samples of a split in memory."""
    assert isinstance(split, MemorySplit)
    return [split.inputs[row].numpy().tobytes() for row in split.rows.tolist()]


# --- splits


@pytest.mark.parametrize("test", ["auto", 0.2, "none"])
@pytest.mark.parametrize("val", [0.1, 0.5, "test", "none"])
def test_splits_are_disjoint_and_complete(load: Any, val: Any, test: Any) -> None:
    section = {"name": "digits", "val": val, "test": test}
    data = build(load, section)
    everything = sorted(rows_of(build(load, {"name": "digits", "val": "none"}).train))
    parts = [rows_of(data.train)]
    if val not in ("test", "none"):
        parts.append(rows_of(data.val))
    if test == 0.2:
        parts.append(rows_of(data.test))
    assert sorted(chain(*parts)) == everything
    assert (data.val is None) == (val == "none")
    assert (data.test is None) == (test == "none")
    if val == "test" and test != "none":
        assert rows_of(data.val) == rows_of(data.test)


def test_held_out_samples_do_not_depend_on_the_limit_or_on_batches(load: Any) -> None:
    plain = build(load, {"name": "digits", "test": 0.2})
    limited = build(load, {"name": "digits", "test": 0.2, "limit": 50, "batch_size": 7, "shuffle": False})
    assert rows_of(plain.val) == rows_of(limited.val) and rows_of(plain.test) == rows_of(limited.test)
    assert limited.train.num_samples == 50
    assert set(rows_of(limited.train)) < set(rows_of(plain.train))
    other = build(load, {"name": "digits", "test": 0.2}, seed=1)
    assert rows_of(other.val) != rows_of(plain.val)


def test_validating_on_the_test_split_is_said_to_be_what_it_is(load: Any, tmp_path: Path) -> None:
    notes: list[Event] = []
    data = build_data(load({"name": "digits", "val": "test"}), device=CPU, seed=0, emit=notes.append)
    assert len(notes) == 1 and isinstance(notes[0], Note) and "uses the test split" in notes[0].text
    assert data.notes == (notes[0].text,)
    with pytest.raises(ConfigError, match=r"data\.val: this data set has no test split"):
        (tmp_path / "a.csv").write_text("x,y\n1,a\n2,b\n3,a\n4,b\n", encoding="utf-8")
        build(load, {"name": "csv", "path": str(tmp_path / "a.csv"), "target": "y", "val": "test"})


def test_nothing_to_say_gives_no_notes(load: Any) -> None:
    assert build(load, "digits").notes == ()


# --- description


def test_the_statistics_are_those_of_the_training_split_alone(load: Any) -> None:
    data = build(load, {"name": "digits", "val": 0.3, "limit": 200})
    assert isinstance(data.train, MemorySplit)
    raw = data.train.inputs[data.train.rows].double() / 255
    assert data.info.mean == pytest.approx((float(raw.mean()),), rel=1e-12)
    assert data.info.std == pytest.approx((float(raw.std(correction=0)),), rel=1e-12)


def test_given_statistics_are_taken_and_none_is_none(load: Any) -> None:
    colour = {**FAKE, "shape": [3, 8, 8]}
    given = build(load, {**colour, "normalize": {"mean": [0.5], "std": [0.25]}}).info
    assert given.mean == (0.5, 0.5, 0.5) and given.std == (0.25, 0.25, 0.25)
    assert build(load, {**colour, "normalize": "none"}).info.mean is None
    with pytest.raises(ConfigError, match=r"data\.normalize\.std: 2 numbers for 3 channels; give 3, or one for all"):
        build(load, {**colour, "normalize": {"mean": [0.5], "std": [0.25, 0.1]}})


def test_statistics_come_after_the_transforms_of_evaluation(load: Any) -> None:
    section = {**FAKE, "shape": [3, 8, 8], "batch_size": 100, "val": "none"}
    grey = {"transforms": ["Grayscale"], "eval_transforms": ["Grayscale"]}
    for cache in ("auto", "none"):
        data = build(load, {**section, **grey, "cache": cache})
        assert data.info.input_size == (1, 8, 8) and data.info.mean is not None and len(data.info.mean) == 1
        (batch,) = data.train.batches()
        assert abs(float(batch.inputs.mean())) < 1e-4 and abs(float(batch.inputs.std(correction=0)) - 1) < 1e-4


def test_image_size_resizes_before_the_transforms(load: Any) -> None:
    section = {
        **FAKE,
        "shape": [1, 8, 8],
        "image_size": [12, 10],
        "transforms": [{"name": "RandomCrop", "size": [12, 10]}],
    }
    data = build(load, section)
    assert data.info.input_size == (1, 12, 10)
    assert next(iter(data.train.batches())).inputs.shape[1:] == (1, 12, 10)


def test_transforms_without_chance_are_done_once(load: Any) -> None:
    section = {
        **FAKE,
        "shape": [1, 8, 8],
        "image_size": 16,
        "transforms": [{"name": "Pad", "padding": 1}, "RandomHorizontalFlip"],
    }
    data = build(load, {**section, "eval_transforms": [{"name": "Pad", "padding": 1}]})
    assert isinstance(data.train, MemorySplit) and isinstance(data.val, MemorySplit)
    assert [step.name for step in data.train.pipeline.steps] == ["RandomHorizontalFlip"]
    assert data.train.inputs.shape[1:] == (1, 18, 18) and data.val.pipeline.steps == ()


def test_tensors_that_would_grow_too_large_are_transformed_batch_by_batch(
    load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = {**FAKE, "shape": [1, 8, 8], "image_size": 32, "transforms": ["RandomHorizontalFlip", "RandomErasing"]}
    once = build(load, section)
    monkeypatch.setattr(os, "sysconf", lambda name: 200)  # a machine of 200 pages of 200 bytes; a quarter is the budget
    each = build(load, section)
    assert isinstance(once.train, MemorySplit) and isinstance(each.train, MemorySplit)
    assert once.train.inputs.shape[2:] == (32, 32) and each.train.inputs.shape[2:] == (8, 8)
    assert once.info == each.info
    for ours, theirs in zip(once.train.batches(1), each.train.batches(1), strict=True):
        assert torch.equal(ours.inputs, theirs.inputs)


def test_files_that_do_not_fit_in_memory_are_read_each_epoch(
    load: Any, image_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sysconf", lambda name: 200)  # a machine of 200 pages of 200 bytes; a quarter is the budget
    data = build(load, {"name": "imagefolder", "path": str(image_folder), "image_size": 32, "num_workers": 0})
    assert isinstance(data.train, LoaderSplit)
    assert any("samples are read anew each epoch: in memory they would take" in note for note in data.notes)


def test_more_outputs_than_classes_may_be_asked_for(load: Any) -> None:
    section = {**FAKE, "num_classes": 4, "batch_transforms": ["mixup"]}
    data = build(load, section, model={"name": "small_cnn", "num_classes": 7})
    assert data.info.num_outputs == 7
    assert next(iter(data.train.batches())).targets.shape[1] == 7


def test_outputs_beyond_the_classes_are_called_by_their_numbers(load: Any, image_folder: Path) -> None:
    section = {"name": "imagefolder", "path": str(image_folder), "image_size": 8, "num_workers": 0}
    data = build(load, section, model={"name": "small_cnn", "num_classes": 4})
    assert data.info.num_outputs == 4 and data.info.classes == ("cat", "dog", "class 2", "class 3")


def test_fewer_outputs_than_classes_name_the_first_sample(load: Any) -> None:
    with pytest.raises(DataError, match=r"labels must be 0\.\.2; sample 3 has label 3"):
        build(load, {**FAKE, "num_classes": 4}, model={"name": "small_cnn", "num_classes": 3})


def test_the_task_can_be_stated(load: Any) -> None:
    for cache in ("auto", "none"):
        data = build(load, {**FAKE, "cache": cache}, task="regression")
        assert data.info.task == "regression" and data.info.num_outputs == 1 and data.info.classes is None
        batch = next(iter(data.train.batches()))
        assert batch.targets.dtype == torch.float32 and batch.targets.shape == (90, 1)
        restored = restore_targets(batch.targets, data.info)
        torch.testing.assert_close(data.train.sample_targets()[batch.indices].double(), restored, atol=1e-6, rtol=0)
        assert batch.targets.mean().abs() < 1e-6
    data = build(load, f"{__file__}:floats", task="regression")
    assert data.info.task == "regression"
    with pytest.raises(ConfigError, match="^config  task: the targets of this data set are floats"):
        build(load, f"{__file__}:floats", task="classification")


def floats() -> list[tuple[Tensor, float]]:
    return [(torch.full((2,), float(number)), number / 3) for number in range(10)]


# --- errors at their key


@pytest.mark.parametrize(
    ("options", "key", "sentence"),
    [
        (
            {"transforms": ["RandomCorp"]},
            "data.transforms.0.name",
            "no transform 'RandomCorp'. Did you mean 'RandomCrop'?",
        ),
        (
            {"transforms": ["RandomHorizontalFlip", {"name": "RandomCrop", "sze": 3}]},
            "data.transforms.1.sze",
            "unknown key for RandomCrop. Did you mean 'size'?",
        ),
        ({"transforms": ["RandomCrop"]}, "data.transforms.0.name", "RandomCrop needs 'size'"),
        ({"transforms": [{"name": "RandomRotation", "degrees": -3}]}, "data.transforms.0", "RandomRotation: "),
        (
            {"transforms": [{"name": "RandomCrop", "size": 20}]},
            "data.transforms.0",
            "fails on the first sample (1x8x8): crop",
        ),
        ({"eval_transforms": [{"name": "Resize", "size": "big"}]}, "data.eval_transforms.0", "Resize: "),
        ({"transforms": ["ToDtype"]}, "data.transforms.0.name", "remove it"),
        ({"transforms": ["mixup"]}, "data.transforms.0.name", "put it under data.batch_transforms"),
        (
            {"transforms": [f"{__file__}:NotCallable"]},
            "data.transforms.0.name",
            "makes a NotCallable, which cannot be called",
        ),
        ({"transforms": [f"{__file__}:to_list"]}, "data.transforms.0", "returned list; a tensor is needed"),
        (
            {"transforms": ["Grayscale"], "shape": [3, 8, 8]},
            "data.transforms",
            "become 1x8x8, but evaluation samples 3x8x8",
        ),
        (
            {"shape": [5], "transforms": ["RandomErasing"]},
            "data.transforms.0.name",
            "works on images; the data are features",
        ),
        ({"shape": [5], "image_size": 8}, "data.image_size", "these data are features, not images"),
        ({"shape": [5], "batch_transforms": ["cutmix"]}, "data.batch_transforms.0.name", "cutmix works on images"),
        ({"batch_transforms": ["cutmx"]}, "data.batch_transforms.0.name", "Did you mean 'cutmix'?"),
        ({"batch_transforms": [{"name": "mixup", "alpha": 0}]}, "data.batch_transforms.0", "alpha must be above 0"),
        ({"batch_transforms": [{"name": "mixup", "beta": 1}]}, "data.batch_transforms.0.beta", "It takes: alpha"),
        (
            {"drop_last": True, "batch_size": 128},
            "data.drop_last",
            "drops the only batch: 90 training samples, batch_size 128",
        ),
        (
            {"cache": "memory", "transforms": ["RandomHorizontalFlip", "RandomGrayscale"], "shape": [3, 8, 8]},
            "data.transforms.1.name",
            "RandomGrayscale works on single samples only",
        ),
        (
            {"transforms": [{"name": f"{__file__}:to_list", "dpth": 1}]},
            "data.transforms.0.dpth",
            "Did you mean 'depth'?",
        ),
        ({"num_samples": "many"}, "data.name", "fake: "),
        ({"noize": 3}, "data.noize", "unknown key for fake. Did you mean 'noise'?"),
    ],
)
def test_errors_stand_at_their_key(load: Any, options: dict[str, Any], key: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build(load, {**FAKE, **options})
    (problem,) = caught.value.problems
    assert problem.key == key
    assert sentence in problem.message and "\n" not in problem.message


class NotCallable:
    pass


def to_list(image: Tensor, depth: int = 1) -> Any:
    return image.tolist()


def darken(image: Tensor, by: int = 2) -> Tensor:
    return image // by


class Halve:
    """A transform of the user's own."""

    def __init__(self, by: int = 2) -> None:
        self.by = by

    def __call__(self, image: Tensor) -> Tensor:
        return image // self.by


@pytest.mark.parametrize("name", ["Halve", "darken"])
def test_own_transforms_are_called_with_one_image(load: Any, name: str) -> None:
    own = [{"name": f"{__file__}:{name}", "by": 4}]
    section = {**FAKE, "normalize": "none", "shuffle": False, "val": "none", "batch_size": 100}
    data = build(load, {**section, "transforms": own})
    assert isinstance(data.train, LoaderSplit)
    assert any(f"{name} has no form for whole batches" in note for note in data.notes)
    (ours,), (plain,) = data.train.batches(), build(load, section).train.batches()
    torch.testing.assert_close(ours.inputs, ((plain.inputs * 255).round() // 4) / 255)


def test_options_without_effect_are_told(load: Any) -> None:
    data = build(load, {"name": "digits", "num_workers": 3, "prefetch_factor": 4})
    assert data.notes == tuple(
        f"data.{name} has no effect: the samples are in memory" for name in ("num_workers", "prefetch_factor")
    )


# --- evaluation of a model


@pytest.mark.parametrize("split", ["val", "test", "train"])
@pytest.mark.parametrize("cache", ["auto", "none"])
def test_an_evaluation_split_is_the_one_that_training_held_out(load: Any, split: Any, cache: str) -> None:
    section = {"name": "digits", "val": 0.2, "cache": cache, "num_workers": 0, "transforms": ["RandomErasing"]}
    data = build(load, section, seed=7)
    found = build_eval_split(load(section, seed=7), data.info, split=split, device=CPU, batch_size=100)
    trained = getattr(data, split)
    assert found.num_samples == trained.num_samples
    inputs = torch.cat([batch.inputs for batch in found.batches()])
    assert len(next(found.batches()).indices) == 100
    assert torch.equal(found.sample_targets(), trained.sample_targets())
    if split != "train":
        assert torch.equal(inputs, torch.cat([batch.inputs for batch in trained.batches()]))
    else:
        assert abs(float(inputs.mean())) < 1e-4


def test_a_split_that_is_missing_lists_those_that_exist(load: Any) -> None:
    info = build(load, "digits").info
    with pytest.raises(DataError, match="digits has no val split under this config; it has: train, test"):
        build_eval_split(load({"name": "digits", "val": "none"}), info, split="val", device=CPU, batch_size=10)


def test_data_that_do_not_fit_the_model_are_refused(load: Any) -> None:
    info = build(load, {**FAKE, "shape": [3, 8, 8]}).info
    for shape, sentence in {(1, 8, 8): "takes 3 channels, these samples have 1", (5,): "takes image input"}.items():
        with pytest.raises(DataError, match=sentence):
            build_eval_split(load({**FAKE, "shape": list(shape)}), info, split="test", device=CPU, batch_size=10)
    with pytest.raises(DataError, match=r"labels must be 0\.\.3; sample 4 has label 4"):
        few = build(load, {**FAKE, "num_classes": 4}).info
        build_eval_split(load(FAKE), few, split="test", device=CPU, batch_size=10)


def test_labels_are_matched_by_class_name(load: Any, image_folder: Path) -> None:
    section = {"name": "imagefolder", "path": str(image_folder), "image_size": 8, "val": "none", "num_workers": 0}
    info = build(load, section).info
    (image_folder / "cat").rename(image_folder / "zebra")
    (image_folder / "dog").rename(image_folder / "cat")
    (image_folder / "zebra").rename(image_folder / "dog")
    swapped = build_eval_split(load(section), info, split="train", device=CPU, batch_size=10)
    assert swapped.sample_targets().tolist() == [0] * 6 + [1] * 6
    (image_folder / "cat").rename(image_folder / "wolf")
    for cache in ("auto", "none"):
        with pytest.raises(DataError, match="class 'wolf' is unknown to the model; it knows cat, dog"):
            build_eval_split(load({**section, "cache": cache}), info, split="train", device=CPU, batch_size=10)
    (image_folder / "wolf").rename(image_folder / "bird")
    three = build(load, section).info
    assert three.classes == ("bird", "dog")
    more = type(info)(**{**info.__dict__, "classes": ("dog", "ant", "bird"), "num_outputs": 3})
    for cache in ("auto", "none"):
        split = build_eval_split(load({**section, "cache": cache}), more, split="train", device=CPU, batch_size=20)
        assert split.sample_targets().tolist() == [2] * 6 + [0] * 6
        assert torch.cat([batch.targets for batch in split.batches()]).tolist() == [2] * 6 + [0] * 6


# --- the first batch


@pytest.mark.parametrize("cache", ["memory", "none"])
def test_a_look_at_the_first_batch_changes_nothing(load: Any, cache: str) -> None:
    section = {**FAKE, "cache": cache, "batch_size": 8, "batch_transforms": ["mixup"]}
    plain, looked_at = (build(load, section).train for _ in range(2))
    first = looked_at.first_batch()
    assert torch.equal(first.inputs, next(plain.batches()).inputs)
    first.inputs.zero_()
    for epoch, start in ((0, 0), (0, 0), (1, 0), (0, 3)):
        for expected, batch in zip(plain.batches(epoch, start), looked_at.batches(epoch, start), strict=True):
            assert torch.equal(expected.inputs, batch.inputs) and torch.equal(expected.targets, batch.targets)
            assert torch.equal(expected.indices, batch.indices)


def test_splits_travel_to_other_processes(load: Any) -> None:
    section = {
        **FAKE,
        "cache": "none",
        "transforms": [{"name": "RandomCrop", "size": 8, "padding": 1}, "RandomErasing"],
    }
    split = build(load, section).train
    assert isinstance(split, LoaderSplit)
    again = pickle.loads(pickle.dumps(split.reader))
    for position in range(3):
        assert torch.equal(again[(1, position)][0], split.reader[(1, position)][0])
    assert StoredSamples(torch.zeros(1), torch.zeros(1), ()).steps == ()


OPTIONS: dict[str, dict[str, Any]] = {
    "CenterCrop": {"size": 8},
    "Pad": {"padding": 1},
    "RandomCrop": {"size": 8},
    "RandomResizedCrop": {"size": 8},
    "Resize": {"size": [8, 8]},
    "GaussianBlur": {"kernel_size": 3},
    "RandomAdjustSharpness": {"sharpness_factor": 2},
    "RandomAffine": {"degrees": 5},
    "RandomPosterize": {"bits": 3},
    "RandomResize": {"min_size": 8, "max_size": 20},
    "RandomRotation": {"degrees": 3},
    "RandomShortestSize": {"min_size": 8},
    "RandomSolarize": {"threshold": 100},
    "ScaleJitter": {"target_size": [16, 16]},
}


@pytest.mark.parametrize("name", entries("transforms"))
def test_every_transform_that_is_offered_runs(load: Any, name: str) -> None:
    transforms = [{"name": name, **OPTIONS.get(name, {})}, {"name": "CenterCrop", "size": 8}]
    grey = {"eval_transforms": [name]} if name == "Grayscale" else {}
    data = build(
        load,
        {
            **FAKE,
            "shape": [3, 32, 32],
            "num_samples": 24,
            "transforms": transforms,
            "cache": "none",
            "val": "none",
            **grey,
        },
    )
    assert next(iter(data.train.batches(0))).inputs.shape[2:] == (8, 8)


def test_normalize_in_the_transforms_is_what_data_normalize_is(load: Any) -> None:
    statistics = {"mean": [0.4], "std": [0.2]}
    plain = build(load, {**FAKE, "transforms": ["RandomHorizontalFlip"], "normalize": statistics})
    moving = {**FAKE, "transforms": ["RandomHorizontalFlip", {"name": "Normalize", **statistics}]}
    data = build_data(load_mapping({"data": moving, "model": "small_cnn"}), seed=0, device=CPU)
    assert [note for note in data.notes if note not in plain.notes] == [
        "Normalize is data.normalize: what the transforms of all splits end in"
    ]
    for ours, theirs in zip(data.train.batches(1), plain.train.batches(1), strict=True):
        assert torch.equal(ours.inputs, theirs.inputs)


def test_what_happens_anyway_is_left_out_and_said(load: Any) -> None:
    plain = build(load, {**FAKE, "transforms": ["RandomHorizontalFlip"]})
    data = build(
        load, {**FAKE, "transforms": ["ToImage", "RandomHorizontalFlip", "ToTensor"], "eval_transforms": ["ToTensor"]}
    )
    assert [note for note in data.notes if note not in plain.notes] == [
        "left out: ToImage, ToTensor. Transforms get tensors, and dlkit scales them to 0..1 behind the last one"
    ]
    for ours, theirs in zip(data.train.batches(1), plain.train.batches(1), strict=True):
        assert torch.equal(ours.inputs, theirs.inputs)
