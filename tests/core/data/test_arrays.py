"""npz and npy: what becomes of arrays, and what is refused before it is read."""

import io
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dlkit.core.data import DataSplits, build_data, build_eval_split
from dlkit.errors import ConfigError, DataError

CPU = torch.device("cpu")
PIXELS = np.arange(6 * 5 * 7 * 3).astype(np.uint8).reshape(6, 5, 7, 3)
LABELS = np.array([0, 1, 2, 0, 1, 2])


def read(load: Any, path: Path, *, sections: Any = None, **options: Any) -> DataSplits:
    fixed = {"val": "none", "shuffle": False, "normalize": "none", "standardize_target": False}
    return build_data(
        load({"name": "npz", "path": str(path), **fixed, **options}, **(sections or {})), device=CPU, seed=0
    )


def whole(data: DataSplits) -> tuple[torch.Tensor, torch.Tensor]:
    (batch,) = data.train.batches()
    return batch.inputs, batch.targets


@pytest.fixture
def save(tmp_path: Path) -> Any:
    """An npz file of these arrays."""

    def write(**arrays: Any) -> Path:
        np.savez_compressed(tmp_path / "data.npz", **arrays)
        return tmp_path / "data.npz"

    return write


@pytest.mark.parametrize("axes", [(0, 1, 2, 3), (0, 3, 1, 2)])
def test_channels_are_found_on_either_side(load: Any, save: Any, axes: tuple[int, ...]) -> None:
    data = read(load, save(x=PIXELS.transpose(axes), y=LABELS))
    inputs, targets = whole(data)
    torch.testing.assert_close(inputs, torch.from_numpy(PIXELS).permute(0, 3, 1, 2) / 255, rtol=0, atol=1e-7)
    assert targets.tolist() == LABELS.tolist()
    info = data.info
    assert (info.kind, info.input_size, info.num_outputs, info.task) == ("image", (3, 5, 7), 3, "classification")


@pytest.mark.parametrize(
    ("array", "kind", "size"),
    [
        (np.zeros((6, 7)), "features", (7,)),
        (np.zeros((6, 7), dtype=np.int16), "features", (7,)),
        (np.zeros((6, 7, 2), dtype=np.float32), "sequence", (7, 2)),
        (np.zeros((6, 8, 9), dtype=np.uint8), "image", (1, 8, 9)),
        (np.zeros((6, 8, 9, 1)), "image", (1, 8, 9)),
        (np.zeros((6, 4, 8, 9), dtype=np.int64), "image", (4, 8, 9)),
    ],
)
def test_shapes_tell_what_they_are(load: Any, save: Any, array: Any, kind: str, size: tuple[int, ...]) -> None:
    info = read(load, save(x=array, y=LABELS)).info
    assert (info.kind, info.input_size) == (kind, size)


@pytest.mark.parametrize(
    ("layout", "size"),
    [("HW", (1, 3, 4)), ("TF", (3, 4))],
)
def test_layout_decides(load: Any, save: Any, layout: str, size: tuple[int, ...]) -> None:
    for dtype in (np.uint8, np.float32):
        assert read(load, save(x=np.zeros((6, 3, 4), dtype), y=LABELS), layout=layout).info.input_size == size
    both = save(x=np.zeros((6, 3, 4, 3), np.uint8), y=LABELS)
    assert read(load, both, layout="CHW").info.input_size == (3, 4, 3)
    with pytest.raises(DataError, match=r"x in .*data\.npz has shape \(6, 3, 4, 3\): which axes.*data\.layout"):
        read(load, both)


def test_splits_have_arrays_of_their_own_and_any_names(load: Any, save: Any) -> None:
    arrays = {
        f"{what}_{split}": PIXELS if what == "x" else LABELS for what in "xy" for split in ("train", "val", "test")
    }
    data = read(load, save(**arrays), val=0.1)
    assert data.val is not None and data.test is not None and data.val.num_samples == data.test.num_samples == 6
    medmnist = {
        f"{split}_{what}": value
        for split in ("train", "val", "test")
        for what, value in (("images", PIXELS), ("labels", LABELS[:, None]))
    }
    data = read(load, save(**medmnist), val=0.1)
    assert data.test is not None and torch.equal(whole(data)[1], torch.from_numpy(LABELS))
    data = read(load, save(pictures=PIXELS, kinds=LABELS, other=np.array("text")), x="pictures", y="kinds")
    assert data.train.num_samples == 6 and data.test is None


def test_a_folder_of_npy_files_is_the_same(load: Any, save: Any, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    np.save(folder / "X.npy", np.asfortranarray(PIXELS))
    np.save(folder / "y.npy", LABELS)
    one, other = whole(read(load, folder)), whole(read(load, save(x=PIXELS, y=LABELS)))
    assert torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])


def test_targets_tell_the_task(load: Any, save: Any) -> None:
    x = np.zeros((4, 2))
    data = read(load, save(x=x, y=np.array(["dog", "cat", "dog", "cat"])))
    assert data.info.classes == ("cat", "dog") and whole(data)[1].tolist() == [1, 0, 1, 0]
    named = read(load, save(x=x, y=np.array([b"dog", b"cat", b"dog", b"cat"])), classes=["dog", "cat"])
    assert named.info.classes == ("dog", "cat") and whole(named)[1].tolist() == [0, 1, 0, 1]
    assert read(load, save(x=x, y=np.array([0, 1, 0, 1])), classes=["no", "yes"]).info.classes == ("no", "yes")
    values = np.array([[0.5, 1], [1, 2], [2, 3], [3, 4]])
    data = read(load, save(x=x, y=values))
    assert data.info.task == "regression" and torch.equal(whole(data)[1], torch.from_numpy(values).float())
    assert read(load, save(x=x, y=np.eye(4)[:, :3] + np.eye(4)[:, 3:]), sections={"loss": "mse"}).info.num_outputs == 3
    one_hot = np.array([[0, 1], [1, 0], [0, 1], [1, 0]])
    assert whole(read(load, save(x=x, y=one_hot), sections={"task": "classification"}))[1].tolist() == [1, 0, 1, 0]
    with pytest.raises(DataError, match=r"row 1 is \[1, 1\]; classes are one number a sample"):
        read(load, save(x=x, y=np.maximum(one_hot, [[0], [1], [0], [0]])), sections={"task": "classification"})
    data = read(load, save(x=x, y=one_hot), classes=["cat", "dog"])
    assert data.info.task == "multilabel" and whole(data)[1].tolist() == one_hot.tolist()
    assert data.info.classes == ("cat", "dog") and "Each sample has exactly one" in data.notes[0]
    assert read(load, save(x=x, y=one_hot / 1.0), sections={"task": "multilabel"}).info.num_outputs == 2
    floats = save(x=x, y=np.array([0.0, 1, 0, 1]))
    data = read(load, floats)
    assert data.info.task == "regression" and "task: classification" in data.notes[0]
    assert whole(read(load, floats, sections={"task": "classification"}))[1].tolist() == [0, 1, 0, 1]


def test_floats_beyond_one_are_said(load: Any, save: Any) -> None:
    data = read(load, save(x=PIXELS.astype(np.float64), y=LABELS))
    assert "floats of up to 255" in data.notes[0] and float(whole(data)[0].max()) == 255


def test_a_model_gets_its_own_classes(load: Any, save: Any) -> None:
    first = read(load, save(x=np.zeros((4, 2)), y=np.array(["a", "b", "c", "a"])))
    section = {"name": "npz", "path": str(save(x=np.zeros((2, 2)), y=np.array(["c", "a"]))), "val": "none"}
    split = build_eval_split(load(section), first.info, split="train", device=CPU)
    assert split.sample_targets().tolist() == [2, 0]


def with_member(path: Path, content: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", content)
        archive.writestr("y.npy", npy(LABELS))
    return path


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def header(shape: str, descr: str = "'|u1'") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}".ljust(117).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


class Bomb:
    """An object whose pickle runs code."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path("was_run"),)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (npy(np.array([Bomb(), None])), "holds Python objects, and reading these runs code"),
        (header("(6, 1000000, 1000000)"), "damaged, its header promises 6,000,000,000,000 bytes and 0 are there"),
        (header("(6, 4)") + bytes(20), "promises 24 bytes and 20 are there"),
        (header("(6, -4)") + bytes(24), "x in "),
        (header("__import__('os')") + bytes(24), "x in "),
        (header("(6,)", "[('a', '<i4'), ('b', 'O')]"), "holds Python objects"),
        (b"\x93NUMPY\x03\x00" + bytes(60), "its format 3.0 is for tables"),
        (b"no array", "x in "),
        (b"", "x in "),
    ],
)
def test_hostile_members_are_refused(load: Any, tmp_path: Path, monkeypatch: Any, content: bytes, words: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"x in .*data\.npz: ") as refusal:
        read(load, with_member(tmp_path / "data.npz", content))
    assert words in str(refusal.value) and "\n" not in str(refusal.value)
    assert not (tmp_path / "was_run").exists()


def test_what_would_fill_the_memory_is_refused(load: Any, save: Any, monkeypatch: Any) -> None:
    path = save(x=np.zeros((2000, 4000), np.uint8), y=np.zeros(2000, np.int64))
    assert path.stat().st_size < 40_000  # a bomb: 8 MB in 40 kB
    monkeypatch.setattr(os, "sysconf", lambda name: 4000)  # a machine of 4,000 pages of 4,000 bytes
    with pytest.raises(DataError, match="half of this machine's memory, is the most"):
        read(load, path)


@pytest.mark.parametrize(
    ("arrays", "options", "words"),
    [
        ({"a": PIXELS, "b": LABELS}, {}, "has no x or x_train to learn from: it holds a, b; data.x and data.y"),
        ({"picture": PIXELS, "y": LABELS}, {"x": "pictures"}, "Did you mean 'picture'?"),
        ({"x": PIXELS}, {}, "has train inputs, but no targets"),
        ({"x_train": PIXELS, "y_train": LABELS, "x_test": PIXELS}, {}, "has test inputs, but no targets"),
        ({"x": PIXELS, "y": LABELS[:5]}, {}, "x has shape (6, 5, 7, 3), y (5,)"),
        ({"x": PIXELS[:0], "y": LABELS[:0]}, {}, "a row for each sample"),
        ({"x": PIXELS, "y": np.array(3)}, {}, "a row for each sample"),
        ({"x": np.zeros(6), "y": LABELS}, {}, "has shape (6,)"),
        ({"x": np.zeros((6, 0)), "y": LABELS}, {}, "hold no numbers"),
        ({"x": np.zeros((6, 2), complex), "y": LABELS}, {}, "inputs must be numbers, got complex128"),
        ({"x": np.full((6, 8, 8, 1), 300), "y": LABELS}, {}, "are 300..300; save them as floats of 0..1"),
        ({"x": PIXELS, "y": LABELS}, {"layout": "HW"}, "layout HW needs 3 axes"),
        (
            {"x_train": PIXELS, "y_train": LABELS, "x_test": PIXELS / 255, "y_test": LABELS},
            {},
            "float32 of shape (3, 5, 7)",
        ),
        ({"x_train": PIXELS, "y_train": LABELS, "x_test": PIXELS, "y_test": LABELS / 2}, {}, "y_test in"),
        ({"x": np.zeros((6, 2)), "y": np.full(6, np.nan)}, {}, "targets must be finite"),
        ({"x": np.full((6, 2), np.inf), "y": LABELS}, {}, "sample 0 holds NaN or infinity"),
        ({"x": PIXELS, "y": LABELS - 1}, {}, "sample 0 has label -1"),
        ({"x": PIXELS, "y": LABELS * 9000}, {}, "label 18000 asks for 18,001 classes"),
        ({"x": PIXELS, "y": LABELS}, {"classes": ["a", "b"]}, "labels must be 0..1; sample 2 has label 2"),
        (
            {"x": PIXELS, "y": np.array(list("abcabd"))},
            {"classes": ["a", "b", "c"]},
            "class 'd' is not in data.classes",
        ),
        ({"x": PIXELS, "y": np.array(["a", "b", "", "a", "b", "a"])}, {}, "the class of sample 2 is empty"),
        ({"x": PIXELS, "y": np.array(["a"] * 6)}, {}, "one class only"),
        ({"x": PIXELS, "y": PIXELS}, {}, "targets must be (N,) or (N, K)"),
        ({"x": PIXELS, "y": LABELS.astype("datetime64[s]")}, {}, "got datetime64[s]"),
        ({"x": PIXELS, "y": np.stack([LABELS, LABELS], 1)}, {}, "row 2 is [2, 2]; rows of whole numbers are 0 or 1"),
        ({"x": PIXELS, "y": np.eye(6, dtype=int)}, {"classes": ["a", "b"]}, "6 columns for the 2 names"),
    ],
)
def test_arrays_that_do_not_fit(load: Any, save: Any, arrays: Any, options: Any, words: str) -> None:
    with pytest.raises(DataError) as refusal:
        read(load, save(**arrays), **options)
    assert words in str(refusal.value), refusal.value


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("none.npz", None, "no such file"),
        ("text.npz", b"not a zip", "not an npz file"),
        ("cut.npz", b"PK\x03\x04", "not an npz file"),
        ("empty.npz", b"", "not an npz file"),
        ("other.npy", b"no", "cannot be read"),
    ],
)
def test_files_that_are_none(load: Any, tmp_path: Path, name: str, content: bytes | None, words: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=words):
        read(load, tmp_path / name, x=Path(name).stem, y=Path(name).stem)
    with zipfile.ZipFile(tmp_path / "pictures.npz", "w") as archive:
        archive.writestr("a.png", b"")
    with pytest.raises(DataError, match="holds no arrays"):
        read(load, tmp_path / "pictures.npz")


@pytest.mark.parametrize("options", [{"classes": ["a", "a"]}, {"classes": "ab"}, {"classes": ["a"]}, {"layout": "WH"}])
def test_options_are_checked(load: Any, save: Any, options: Any) -> None:
    with pytest.raises(ConfigError, match=rf"data\.{next(iter(options))}: expected"):
        read(load, save(x=PIXELS, y=LABELS), **options)
