"""Hugging Face data sets made on disk: folders that `save_to_disk` wrote, and folders of parquet files."""

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dlkit.config import load_data_option, load_mapping
from dlkit.core.data import DataSplits, build_data, build_eval_split, load_image
from dlkit.errors import ConfigError, DataError, UsageError

datasets = pytest.importorskip("datasets")
CPU = torch.device("cpu")
NUM_ROWS = 6


def png(number: int, *, mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(file, "png")
    return file.getvalue()


def rows(
    labels: Any = (0, 1) * 3, feature: Any = None, *, image: str = "image", label: str = "label", **more: Any
) -> Any:
    pictures = [{"bytes": png(number), "path": None} for number in range(NUM_ROWS)]
    features = {image: datasets.Image(), label: feature or datasets.ClassLabel(names=["cat", "dog"])}
    found = datasets.Dataset.from_dict({image: pictures, label: list(labels)}, features=datasets.Features(features))
    for name, values in more.items():
        found = found.add_column(name, values)
    return found


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()


@pytest.fixture
def save(tmp_path: Path) -> Any:
    """A folder with these splits, as parquet files or by `save_to_disk`."""

    def write(how: str = "parquet", **splits: Any) -> Path:
        folder = tmp_path / "data"
        folder.mkdir(exist_ok=True)
        if how == "disk":
            datasets.DatasetDict(splits).save_to_disk(folder)
        else:
            for name, part in splits.items():
                part.to_parquet(folder / f"{name}.parquet")
        return folder

    return write


def read(load: Any, path: Path, *, sections: Any = None, **options: Any) -> DataSplits:
    fixed = {"val": "none", "shuffle": False, "normalize": "none", "num_workers": 0, "standardize_target": False}
    return build_data(
        load({"name": "hf", "path": str(path), **fixed, **options}, **(sections or {})), device=CPU, seed=0
    )


def whole(data: DataSplits) -> tuple[torch.Tensor, torch.Tensor]:
    (batch,) = data.train.batches()
    return batch.inputs, batch.targets


@pytest.mark.parametrize("how", ["parquet", "disk"])
@pytest.mark.parametrize("cache", ["memory", "none"])
def test_pictures_are_those_of_files(load: Any, save: Any, tmp_path: Path, how: str, cache: str) -> None:
    data = read(load, save(how, train=rows(), validation=rows(), test=rows()), val=0.1, cache=cache)
    inputs, targets = whole(data)
    for number in range(NUM_ROWS):
        (tmp_path / "one.png").write_bytes(png(number))
        torch.testing.assert_close(inputs[number], load_image(tmp_path / "one.png") / 255, rtol=0, atol=1e-7)
    assert targets.tolist() == [0, 1] * 3 and data.info.classes == ("cat", "dog")
    assert data.info.input_size == (3, 5, 7) and data.val is not None and data.test is not None


def test_columns_and_splits_by_option(load: Any, save: Any) -> None:
    more = rows(image="picture", label="kind", other=[float(number) for number in range(NUM_ROWS)])
    folder = save("disk", first=more, second=more)
    data = read(load, folder, train_split="first", test_split="second")  # the only picture, the only class label
    assert data.info.classes == ("cat", "dog") and data.test is not None
    data = read(load, folder, train_split="first", image="picture", label="other", mode="grey")
    assert data.info.task == "regression" and whole(data)[1][:, 0].tolist() == list(range(NUM_ROWS))
    assert data.info.input_size == (1, 5, 7)
    for options, key in (
        ({"train_split": "frist"}, "train_split: .* Did you mean 'first'"),
        ({"train_split": "first", "image": "pictrue"}, "image: .* Did you mean 'picture'"),
        ({"train_split": "first", "label": "class"}, "label: .* no column 'class'"),
    ):
        with pytest.raises(ConfigError, match=rf"data\.{key}"):
            read(load, folder, **options)
    with pytest.raises(DataError, match=r"has no split train; data\.train_split names one: first, second"):
        read(load, folder)


def test_grey_pictures_stay_grey(load: Any, save: Any) -> None:
    pictures = [{"bytes": png(number, mode="L"), "path": None} for number in range(2)]
    features = datasets.Features({"img": datasets.Image(), "labels": datasets.Value("string")})
    grey = datasets.Dataset.from_dict({"img": pictures, "labels": ["b", "a"]}, features=features)
    data = read(load, save(only=grey))
    assert data.info.input_size == (1, 5, 7) and data.info.classes == ("a", "b") and whole(data)[1].tolist() == [1, 0]


def test_lists_of_numbers_are_features(load: Any, save: Any) -> None:
    table = datasets.Dataset.from_dict({"x": [[0.5, 1], [2, 3.25], [4, 5]], "label": [0, 2, 1]})
    data = read(load, save(train=table), image="x")
    assert data.info.kind == "features" and whole(data)[0].tolist() == [[0.5, 1], [2, 3.25], [4, 5]]
    assert data.info.num_outputs == 3 and data.info.classes is None


def test_a_model_gets_its_own_classes(load: Any, save: Any) -> None:
    names = datasets.ClassLabel(names=["dog", "cat", "bird"])
    info = read(load, save(train=rows([0, 1, 2] * 2, names))).info
    other = save("disk", train=rows())
    split = build_eval_split(load_data_option(f"hf:{other}"), info, split="train", device=CPU)
    assert split.sample_targets().tolist() == [1, 0] * 3


def test_the_short_form() -> None:
    config = load_mapping({"data": {"name": "hf:ylecun/mnist", "val": 0.2}, "model": "mlp"}).config
    assert (config.data.name, config.data.options, config.data.val) == ("hf", {"path": "ylecun/mnist"}, 0.2)
    assert load_mapping({"data": "npz:a.npz", "model": "mlp"}).config.data.options == {"path": "a.npz"}
    with pytest.raises(ConfigError, match=r"data\.imge: unknown key for hf. Did you mean 'image'"):
        load_mapping({"data": {"name": "hf:mnist", "imge": "x"}, "model": "mlp"})


def test_names_are_not_fetched_unasked(load: Any) -> None:
    with pytest.raises(DataError, match=r"nobody/nothing cannot be opened: .*data\.download=true fetches it"):
        read(load, Path("nobody/nothing"))


def broken(content: bytes | None) -> Any:
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    pictures = [{"bytes": png(0), "path": None}, content and {"bytes": content, "path": None}]
    return datasets.Dataset.from_dict({"image": pictures, "label": [0, 1]}, features=features)


@pytest.mark.parametrize(
    ("splits", "words"),
    [
        (lambda: {"train": broken(b"no picture")}, "train row 1: not a readable image"),
        (lambda: {"train": broken(None)}, "train row 1: the column 'image' is empty"),
        (lambda: {"train": rows([0, 1, 0, None, 1, 0])}, "train row 3: the column 'label' is empty"),
        (lambda: {"train": rows([0, 1, -1, 1, 1, 0])}, "train row 2 has label -1"),
        (lambda: {"train": rows(), "test": rows(label="kind")}, "test has no column 'label'"),
        (lambda: {"train": rows().remove_columns("image")}, "which column is the image is not plain"),
    ],
)
def test_rows_that_do_not_fit(load: Any, save: Any, splits: Any, words: str) -> None:
    with pytest.raises(DataError) as refusal:
        read(load, save("disk", **splits()))
    assert words in str(refusal.value), refusal.value


def test_bad_rows_can_be_skipped(load: Any, save: Any) -> None:
    data = read(load, save(train=broken(b"no picture")), on_bad="skip")
    assert data.train.num_samples == 1 and "row 1" in data.skipped[0]


def test_folders_that_are_none(load: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        read(load, tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="not a folder"):
        read(load, tmp_path / "file")
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("words")
    with pytest.raises(DataError, match="its files are of the kind text; dlkit reads arrow, "):
        read(load, tmp_path / "texts")
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "code.py").write_text("open('was_run', 'w')")
    with pytest.raises(DataError, match="code cannot be opened"):
        read(load, tmp_path / "code")


def test_the_library_may_be_missing(load: Any, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UsageError, match=r"pip install 'dlkit\[hf\]'"):
        read(load, Path("anything"))
