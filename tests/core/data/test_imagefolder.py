"""Folders that make a data set, and folders that do not: each failure names the folder and the way out."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from dlkit.core.data import (
    LoaderSplit,
    MemorySplit,
    build_data,
    build_eval_split,
    build_eval_transform,
    load_image,
    prepare_image,
)
from dlkit.errors import ConfigError, DataError
from dlkit.events import Event, Note

CPU = torch.device("cpu")


def section(path: Path, **options: Any) -> dict[str, Any]:
    return {"name": "imagefolder", "path": str(path), "image_size": 16, "num_workers": 0, **options}


def picture(path: Path, color: int = 100) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 20), (color, 0, 255 - color)).save(path)


def test_classes_are_folders_in_the_order_of_their_names(load: Any, image_folder: Path) -> None:
    picture(image_folder / "Zebra" / "deep" / "er" / "a.png")
    picture(image_folder / "Zebra" / "b.JPEG")
    data = build_data(load(section(image_folder, val="none")), device=CPU, seed=0)
    assert data.info.classes == ("Zebra", "cat", "dog")
    assert data.info.input_size == (3, 16, 16) and data.info.num_outputs == 3
    assert data.train.sample_targets().tolist() == [0] * 2 + [1] * 6 + [2] * 6
    assert data.val is None and data.test is None


def test_own_splits_are_used(load: Any, tmp_path: Path) -> None:
    for split, names in {"train": "abc", "val": "ac", "test": "ab"}.items():
        for name in names:
            picture(tmp_path / split / name / "x.png")
            picture(tmp_path / split / name / "y.png")
    notes: list[Event] = []
    data = build_data(load(section(tmp_path)), device=CPU, seed=0, emit=notes.append)
    assert data.val is not None and data.test is not None
    assert [split.num_samples for split in (data.train, data.val, data.test)] == [6, 4, 4]
    # class numbers are those of train, also where a class is missing
    assert data.val.sample_targets().tolist() == [0, 0, 2, 2]
    assert Note("validating on the data set's own 4 validation samples") in notes
    assert build_data(load(section(tmp_path, val="none")), device=CPU, seed=0).val is None


def test_files_of_other_kinds_are_left_out_and_told(load: Any, image_folder: Path) -> None:
    (image_folder / "cat" / "notes.txt").write_text("a cat")
    (image_folder / "cat" / ".hidden.png").write_text("not seen")
    (image_folder / ".cache").mkdir()
    data = build_data(load(section(image_folder, val="none")), device=CPU, seed=0)
    assert data.train.num_samples == 12
    assert len(data.notes) == 1
    assert data.notes[0].startswith("1 file without an image's extension") and "notes.txt" in data.notes[0]


def test_links_are_followed_and_loops_end(load: Any, image_folder: Path) -> None:
    (image_folder / "cat" / "again").symlink_to(image_folder / "cat")
    (image_folder / "dog" / "more").symlink_to(image_folder.parent / "elsewhere")
    picture(image_folder.parent / "elsewhere" / "z.png")
    data = build_data(load(section(image_folder, val="none")), device=CPU, seed=0)
    assert data.train.sample_targets().tolist() == [0] * 6 + [1] * 7


def remove(path: Path) -> None:
    shutil.rmtree(path)


ODD: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder": (remove, "no such folder"),
    "a file": (lambda root: (remove(root), root.write_text("")), "not a folder"),
    "empty root": (lambda root: (remove(root), root.mkdir()), "is empty; images belong in one folder per class"),
    "images but no classes": (
        lambda root: (remove(root), picture(root / "a.png")),
        "holds images but no class folders; images belong in one folder per class",
    ),
    "other files only": (
        lambda root: (remove(root), root.mkdir(), (root / "a.txt").write_text("")),
        "holds no class folders",
    ),
    "one class": (lambda root: remove(root / "dog"), r"holds one class only \(cat\)"),
    "empty class": (lambda root: (root / "emu").mkdir(), r"emu: class folder without images .*add images or remove"),
    "class of other files": (
        lambda root: ((root / "emu").mkdir(), (root / "emu" / "a.txt").write_text("")),
        "emu: class folder without images",
    ),
    "page as image": (lambda root: (root / "cat" / "x.jpg").write_text("<html>"), r"x\.jpg: not a readable image"),
    "empty image": (lambda root: (root / "cat" / "x.jpg").write_text(""), r"x\.jpg: .*the file is empty"),
    "folder as image": (lambda root: (root / "cat" / "x.jpg").symlink_to(root / "nowhere"), r"x\.jpg: .*no such file"),
}


@pytest.mark.parametrize("cache", ["auto", "none"])
@pytest.mark.parametrize("name", ODD)
def test_odd_folders_end_before_training(load: Any, image_folder: Path, name: str, cache: str) -> None:
    change, sentence = ODD[name]
    change(image_folder)
    with pytest.raises(DataError, match=sentence) as caught:
        build_data(load(section(image_folder, cache=cache)), device=CPU, seed=0)
    assert str(image_folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_validation_class_without_training_images_is_named(load: Any, tmp_path: Path) -> None:
    for split, names in {"train": ("cat", "dog"), "val": ("cat", "dgo")}.items():
        for name in names:
            picture(tmp_path / split / name / "x.png")
    with pytest.raises(DataError, match=r"val/dgo: class 'dgo' has no training images. Did you mean 'dog'\?"):
        build_data(load(section(tmp_path)), device=CPU, seed=0)


def test_a_broken_file_in_any_split_is_found(load: Any, tmp_path: Path) -> None:
    for split in ("train", "test"):
        for name in "ab":
            for number in range(3):
                picture(tmp_path / split / name / f"{number}.png")
    (tmp_path / "test" / "b" / "1.png").write_bytes(b"GIF89a")
    for cache in ("auto", "none"):
        with pytest.raises(DataError, match=r"test/b/1\.png"):
            build_data(load(section(tmp_path, cache=cache, val=0.4)), device=CPU, seed=0)
    # `off` asks for trouble later; samples that statistics need are read all the same
    build_data(load(section(tmp_path, cache="none", scan="off", val=0.4)), device=CPU, seed=0)


def test_grey_mode(load: Any, image_folder: Path) -> None:
    data = build_data(load(section(image_folder, mode="grey")), device=CPU, seed=0)
    assert data.info.input_size == (1, 16, 16)
    with pytest.raises(ConfigError, match=r"data\.mode: expected rgb or grey, got 'gray'"):
        build_data(load(section(image_folder, mode="gray")), device=CPU, seed=0)


def test_the_default_size_is_224(load: Any, image_folder: Path) -> None:
    wanted = section(image_folder, image_size="auto")
    assert build_data(load(wanted), device=CPU, seed=0).info.input_size == (3, 224, 224)
    assert build_data(load({**wanted, "image_size": [12, 20]}), device=CPU, seed=0).info.input_size == (3, 12, 20)


def test_a_transform_that_sizes_images_gets_them_whole(load: Any, image_folder: Path) -> None:
    recipe = {
        "transforms": [{"name": "RandomResizedCrop", "size": 12}],
        "eval_transforms": [{"name": "Resize", "size": 14}, {"name": "CenterCrop", "size": 12}],
    }
    data = build_data(load(section(image_folder, **recipe)), device=CPU, seed=0)
    assert isinstance(data.train, LoaderSplit)
    assert [step.name for step in data.train.reader.pipeline.steps] == ["RandomResizedCrop"]
    assert data.info.input_size == (3, 12, 12)
    assert next(iter(data.train.batches())).inputs.shape[1:] == (3, 12, 12)


@pytest.mark.parametrize(
    "recipe", [{}, {"eval_transforms": [{"name": "Resize", "size": 20}, {"name": "CenterCrop", "size": 16}]}]
)
def test_a_prepared_file_is_what_evaluation_sees(load: Any, image_folder: Path, recipe: dict[str, Any]) -> None:
    wanted = section(image_folder, val="none", **recipe)
    info = build_data(load(wanted), device=CPU, seed=0).info
    split = build_eval_split(load(wanted), info, split="train", device=CPU, batch_size=5)
    batch = next(iter(split.batches()))
    transform = build_eval_transform(load(wanted), info)
    for number in range(5):
        prepared = prepare_image(load_image(image_folder / "cat" / f"{number}.png"), info, transform=transform)
        torch.testing.assert_close(prepared, batch.inputs[number])


def test_memory_and_disk_give_the_same(load: Any, image_folder: Path) -> None:
    kept = build_data(load(section(image_folder, batch_size=4)), device=CPU, seed=0)
    read = build_data(load(section(image_folder, batch_size=4, cache="none")), device=CPU, seed=0)
    assert isinstance(kept.train, MemorySplit) and isinstance(read.train, LoaderSplit)
    assert kept.info == read.info
    for ours, theirs in zip(kept.train.batches(3), read.train.batches(3), strict=True):
        assert torch.equal(ours.inputs, theirs.inputs) and torch.equal(ours.targets, theirs.targets)
