"""Tables of images: which files, which targets, which splits; and every mistake told at once with its place."""

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from dlkit.core.data import DataSplits, build_data
from dlkit.errors import ConfigError, DataError

CPU = torch.device("cpu")
KINDS = ("cat", "dog", "emu")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Twelve pictures of 8x8 pixels; those of number n have the value 10 * n throughout."""
    (tmp_path / "pics").mkdir()
    for number in range(12):
        Image.new("L", (8, 8), 10 * number).save(tmp_path / "pics" / f"{number}.png")
    return tmp_path


def read(load: Any, path: Path, *, sections: Any = None, **options: Any) -> DataSplits:
    section = {"name": "images", "path": str(path), "image": "file", "mode": "grey", "val": "none", "shuffle": False}
    section |= {"normalize": "none", "image_size": 8, "standardize_target": False, **options}
    return build_data(load(section, **(sections or {})), device=CPU, seed=0)


def table(folder: Path, rows: list[str], header: str = "file,label", name: str = "labels.csv") -> Path:
    path = folder / name
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def whole(split: Any) -> tuple[list[int], list[Any]]:
    """The numbers of the pictures of a split, and the targets."""
    (batch,) = split.batches()
    return (batch.inputs[:, 0, 0, 0] * 255 / 10).round().int().tolist(), batch.targets.tolist()


def test_classes_by_name(load: Any, pictures: Path) -> None:
    rows = [f"pics/{number}.png,{KINDS[number % 3]}" for number in (3, 1, 2, 0)]
    data = read(load, table(pictures, rows), target="label")
    assert whole(data.train) == ([3, 1, 2, 0], [0, 1, 2, 0])
    assert data.info.classes == KINDS and data.info.task == "classification" and data.info.input_size == (1, 8, 8)


def test_numbers_are_regression_or_classes(load: Any, pictures: Path) -> None:
    rows = [f"pics/{number}.png,{number},{number / 4}" for number in range(4)]
    path = table(pictures, rows, "file,count,share")
    data = read(load, path, target="count")
    assert data.info.classes == ("0", "1", "2", "3") and "set task: regression" in data.notes[0]
    counted = read(load, path, target="count", sections={"task": "regression"})
    assert whole(counted.train)[1] == [[0.0], [1.0], [2.0], [3.0]] and counted.info.targets == ("count",)
    both = read(load, path, target=["share", "count"])
    assert whole(both.train)[1][3] == [0.75, 3.0] and both.info.num_outputs == 2


def test_paths_are_those_of_the_table_or_of_root(load: Any, pictures: Path) -> None:
    rows = [f"{number}.png,{KINDS[number]}" for number in range(3)]
    assert len(whole(read(load, table(pictures / "pics", rows), target="label").train)[0]) == 3
    assert len(whole(read(load, table(pictures, rows), target="label", root=str(pictures / "pics")).train)[0]) == 3
    absolute = [f"{pictures / 'pics' / str(number)}.png,{KINDS[number]}" for number in range(3)]
    assert len(whole(read(load, table(pictures, absolute), target="label", root="/nowhere").train)[0]) == 3


def test_a_table_from_windows(load: Any, pictures: Path) -> None:
    lines = ["file;label", *(f'"pics\\{number}.png";"{KINDS[number]}, tame"' for number in range(3))]
    for encoding in ("utf-8-sig", "utf-16"):
        (pictures / "labels.csv").write_bytes(("\r\n".join(lines) + "\r\n").encode(encoding))
        data = read(load, pictures / "labels.csv", target="label")
        assert whole(data.train) == ([0, 1, 2], [0, 1, 2]) and data.info.classes == tuple(f"{k}, tame" for k in KINDS)


def test_splits_by_column(load: Any, pictures: Path) -> None:
    names = ["train", "Train", "training", "valid", "test", "val", "train", "testing"]
    rows = [f"pics/{number}.png,{KINDS[number % 2]},{name}" for number, name in enumerate(names)]
    path = table(pictures, rows, "file,label,part")
    data = read(load, path, target="label", split="part", val=0.1)
    assert data.val is not None and data.test is not None
    assert [whole(split)[0] for split in (data.train, data.val, data.test)] == [[0, 1, 2, 6], [3, 5], [4, 7]]
    # no validation rows: a share of the training rows
    rows = [row.replace("valid", "train").replace("val", "train") for row in rows]
    data = read(load, table(pictures, rows, "file,label,part"), target="label", split="part", val=0.34)
    assert data.val is not None and sorted(whole(data.train)[0] + whole(data.val)[0]) == [0, 1, 2, 3, 5, 6]


@pytest.mark.parametrize("seed", range(5))
def test_groups_stay_together(load: Any, pictures: Path, seed: int) -> None:
    rows = [f"pics/{number}.png,{number / 7},p{number // 3}" for number in range(12)]
    path = table(pictures, rows, "file,size,patient")
    section = {"target": "size", "group": "patient", "val": 0.25, "test": 0.25}
    section |= {"name": "images", "path": str(path), "image": "file", "mode": "grey", "image_size": 8, "shuffle": False}
    data = build_data(load({**section, "normalize": "none"}), device=CPU, seed=seed)
    assert data.val is not None and data.test is not None
    found = [whole(split)[0] for split in (data.train, data.val, data.test)]
    groups = [{number // 3 for number in numbers} for numbers in found]
    assert sorted(sum(found, [])) == list(range(12)) and [len(names) for names in groups] == [2, 1, 1]
    assert not groups[0] & groups[1] and not groups[0] & groups[2] and not groups[1] & groups[2]


def test_one_group_cannot_be_split(load: Any, pictures: Path) -> None:
    path = table(pictures, [f"pics/{number}.png,{number / 7},a" for number in range(4)], "file,size,patient")
    with pytest.raises(DataError, match="all training samples are of one group"):
        read(load, path, target="size", group="patient", val=0.25)


def test_a_test_table_of_its_own(load: Any, pictures: Path) -> None:
    main = table(pictures, [f"pics/{number}.png,{KINDS[number]}" for number in range(3)])
    other = table(pictures / "pics", ["9.png,emu", "8.png,cat"], name="test.csv")
    data = read(load, main, target="label", test_path=str(other))
    assert data.test is not None and whole(data.test) == ([9, 8], [2, 0])


def test_groups_of_the_table_do_not_stand_in_that_of_the_test(load: Any, pictures: Path) -> None:
    rows = [f"pics/{number}.png,{KINDS[number]},p{number}" for number in range(3)]
    main = table(pictures, rows, "file,label,patient")
    other = table(pictures, ["pics/9.png,emu,q", "pics/8.png,cat,p1"], "file,label,patient", name="test.csv")
    with pytest.raises(
        DataError, match=r"test\.csv:3: column 'patient' holds group 'p1' of the test, .* at .*labels\.csv:3"
    ):
        read(load, main, target="label", group="patient", test_path=str(other))
    other.write_text(other.read_text().replace("p1", "p9"))
    assert read(load, main, target="label", group="patient", test_path=str(other)).test is not None
    other.write_text(other.read_text().replace("patient", "other"))
    notes = read(load, main, target="label", group="patient", test_path=str(other)).notes
    assert any("its rows may be of groups that are trained on" in note for note in notes)


BAD_CELLS = {
    "missing files": (["pics/1.png,a", "pics/77.png,b", "78.png,a"], [r":3: column 'file' names .* not there: .*77\.png", ":4:"]),
    "no file": ([",a", "pics/1.png,b"], [r":2: column 'file' is empty"]),
    "no label": (["pics/0.png,", "pics/1.png,b", "pics/2.png,c"], [r":2: column 'label' is empty"]),
    "a folder": (["pics,a", "pics/1.png,b"], [r":2: column 'file' names a file that is not there"]),
    "a fraction among classes": (["pics/0.png,0.5", "pics/1.png,b", "pics/1.png,b"], [r":2: column 'label' holds 0.5, which is no class"]),
    "all of it": (["77.png,", ",b", "pics/2.png,c"], [r":2: column 'file' names", r":2: column 'label' is empty", r":3: column 'file' is"]),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_CELLS)
def test_bad_cells_are_told_all_at_once(load: Any, pictures: Path, name: str) -> None:
    rows, sentences = BAD_CELLS[name]
    with pytest.raises(DataError) as caught:
        read(load, table(pictures, rows), target="label")
    import re

    for sentence in sentences:
        assert re.search(r"labels\.csv" + sentence, str(caught.value)), str(caught.value)
    count = len(str(caught.value).splitlines())
    assert count == (1 if len(sentences) == 1 else len(sentences) + 1)


def test_many_bad_cells_are_counted(load: Any, pictures: Path) -> None:
    with pytest.raises(DataError) as caught:
        read(load, table(pictures, [f"{number}.jpg,{KINDS[number % 2]}" for number in range(500)]), target="label")
    lines = str(caught.value).splitlines()
    assert lines[0] == "500 cells cannot be used:" and lines[-1] == "... and 480 more" and len(lines) == 22


def test_files_may_be_missing_where_bad_samples_are_skipped(load: Any, pictures: Path) -> None:
    path = table(pictures, ["pics/0.png,cat", "77.png,dog", "pics/1.png,dog"])
    data = read(load, path, target="label", on_bad="skip")
    assert whole(data.train)[0] == [0, 1] and "77.png" in data.skipped[0]


BAD_SPLITS = {
    "unknown name": (["0,a,g,train", "1,b,h,holdout"], r"labels\.csv:3: column 'part' holds 'holdout'; a split is train, val or test"),
    "empty": (["0,a,g,train", "1,b,h,"], r"labels\.csv:3: column 'part' is empty"),
    "no training rows": (["0,a,g,val", "1,b,h,test"], r"column 'part' says train nowhere"),
    "empty group": (["0,a,,train", "1,b,h,train"], r"labels\.csv:2: column 'group' is empty"),
    "group in two": (["0,a,g,train", "1,b,g,val"], r":3: column 'group' holds group 'g' in val, which is in train at .*:2"),
    "class without training rows": (["0,a,g,train", "1,b,h,train", "2,c,i,val"], ":4: column 'label' holds class 'c', which no training"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_SPLITS)
def test_bad_splits_and_groups(load: Any, pictures: Path, name: str) -> None:
    rows, sentence = BAD_SPLITS[name]
    path = table(pictures, rows, "file,label,group,part")
    path.write_text(path.read_text().replace("\n0,", "\npics/0.png,").replace("\n1,", "\npics/1.png,"))
    path.write_text(path.read_text().replace("\n2,", "\npics/2.png,"))
    with pytest.raises(DataError, match=sentence):
        read(load, path, target="label", split="part", group="group")


BAD_OPTIONS = {
    "image": ({"image": "fil"}, r"data\.image: .* has no column 'fil'\. Did you mean 'file'\?"),
    "target": ({"target": "lable"}, r"data\.target: .* has no column 'lable'\. Did you mean 'label'\?"),
    "split": ({"split": "fold"}, r"data\.split: .* has no column 'fold'"),
    "group": ({"group": "label"}, r"data\.group: 'label' is the target"),
    "mode": ({"mode": "gray"}, r"data\.mode: expected rgb or grey, got 'gray'"),
    "delimiter": ({"delimiter": "::"}, r"data\.delimiter: expected auto or one character"),
}


@pytest.mark.parametrize("name", BAD_OPTIONS)
def test_bad_options_are_told_at_their_key(load: Any, pictures: Path, name: str) -> None:
    change, sentence = BAD_OPTIONS[name]
    path = table(pictures, ["pics/0.png,a", "pics/1.png,b"])
    with pytest.raises(ConfigError, match=sentence):
        read(load, path, **{"target": "label", **change})
