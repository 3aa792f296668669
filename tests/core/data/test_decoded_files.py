"""`cache: disk`: pictures decoded once into one file, which equals decoding them, notices what changes, and is never half there."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from dlkit import disk
from dlkit.core.data import build_data
from dlkit.errors import DataError, OutOfResource, OutputError
from dlkit.events import Note

CPU = torch.device("cpu")
CROPS = [
    {"name": "RandomResizedCrop", "size": 12}
]  # has no form for whole batches, so that samples are read one by one


@pytest.fixture
def build(load: Any, image_folder: Path, tmp_path: Path) -> Callable[..., Any]:
    """The splits of the folder under these keys, what was said, and how many pictures were decoded for it."""

    def make(**options: Any) -> Any:
        keys = {"image_size": 16, "num_workers": 0, "cache": "disk", "cache_dir": str(tmp_path / "cache"), **options}
        decoded: list[str] = []
        notes: list[Any] = []
        open_image = Image.open
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Image, "open", lambda path: (decoded.append(str(path)), open_image(path))[1])
            data = build_data(
                load({"name": "imagefolder", "path": str(image_folder), **keys}), device=CPU, seed=0, emit=notes.append
            )
            batches = [batch for epoch in (0, 1) for batch in data.train.batches(epoch)]
        return data, batches, [note.text for note in notes if isinstance(note, Note)], len(decoded)

    return make


@pytest.mark.parametrize("transforms", [[], CROPS])
def test_the_same_batches_without_decoding(build: Any, transforms: Any) -> None:
    options = {"transforms": transforms, "eval_transforms": []}
    _, wanted, _, _ = build(cache="none", **options)
    first, found, notes, _ = build(**options)
    again, later, notes_later, num_decoded = build(**options)
    for mine, others, theirs in zip(found, later, wanted, strict=True):
        assert torch.equal(mine.inputs, theirs.inputs) and torch.equal(others.inputs, theirs.inputs)
        assert torch.equal(mine.targets, theirs.targets)
    assert first.info == again.info
    assert num_decoded == 1  # the sample that a config is tried on
    assert any("12 pictures decoded into " in note and "about 16.9 KiB" in note for note in notes)
    assert any("decoded pictures are read from " in note for note in notes_later)


def test_what_changed_is_decoded_anew(build: Any, image_folder: Path) -> None:
    build()
    picture = image_folder / "dog" / "3.png"
    Image.new("RGB", (24, 29), (250, 0, 0)).save(picture)
    Image.new("RGB", (24, 20), (0, 250, 0)).save(image_folder / "cat" / "new.png")
    (image_folder / "cat" / "1.png").unlink()
    _, wanted, _, _ = build(cache="none")
    _, found, notes, _ = build()
    assert any("2 pictures decoded into " in note for note in notes)
    for mine, theirs in zip(found, wanted, strict=True):
        assert torch.equal(mine.inputs, theirs.inputs)
    before = picture.stat()
    os.utime(picture, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert any("1 picture decoded into " in note for note in build()[2])


def test_a_damaged_file_is_made_anew(build: Any, tmp_path: Path) -> None:
    build()
    (store,) = (tmp_path / "cache").iterdir()
    whole = store.read_bytes()
    for damaged in (b"", b"something else", whole[:-1], whole[: len(whole) // 2], whole[:-40] + b"x" * 40):
        store.write_bytes(damaged)
        assert any("12 pictures decoded into " in note for note in build()[2])
        assert store.read_bytes() == whole


def test_what_cannot_be_decoded_leaves_nothing(build: Any, image_folder: Path, tmp_path: Path) -> None:
    (image_folder / "dog" / "3.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"dog/3\.png: not a readable image"):
        build()
    assert not list((tmp_path / "cache").iterdir())
    _, found, notes, _ = build(on_bad="skip")
    assert any("11 pictures decoded into " in note for note in notes) and sum(len(batch.targets) for batch in found) > 0


def test_a_disk_without_room(build: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 5000})
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda path: usage)
        with pytest.raises(OutOfResource, match=r"12 pictures decoded into .*, about 16\.9 KiB, and 4\.9 KiB are free"):
            build()

    def full(file: Any, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(disk, "write", full)
    with pytest.raises(OutOfResource, match=r"pixels: No space left on device"):
        build()
    assert not list((tmp_path / "cache").iterdir())


def test_a_folder_that_cannot_be_one(build: Any, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(OutputError, match="taken"):
        build(cache_dir=str(tmp_path / "taken"))


def test_loader_processes_map_the_file_themselves(build: Any) -> None:
    data, *_ = build(transforms=CROPS)
    sample = data.train.reader.samples
    sent = pickle.dumps(sample)
    assert torch.equal(pickle.loads(sent).load(3)[0], sample.load(3)[0])
    assert len(sent) < 10_000  # no pixels in it


def test_samples_that_are_no_files(load: Any) -> None:
    notes: list[Any] = []
    build_data(load({"name": "digits", "cache": "disk"}), device=CPU, seed=0, emit=notes.append)
    assert Note("data.cache: disk has no effect: the samples are no image files") in notes
