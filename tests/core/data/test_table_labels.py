"""Several labels of a row, and weights of rows, from tables."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from dlkit.core.data import DataSplits, build_data, build_eval_split
from dlkit.errors import ConfigError, DataError

CPU = torch.device("cpu")
WANTED = [[1, 0, 1], [0, 1, 0], [0, 0, 0], [1, 1, 1]]


def section(path: Path, **options: Any) -> dict[str, Any]:
    return {"name": "table", "path": str(path), "val": "none", "shuffle": False, "features": ["x"], **options}


def read(load: Any, path: Path, *, sections: Any = None, **options: Any) -> DataSplits:
    return build_data(load(section(path, **options), **(sections or {})), device=CPU, seed=0)


def targets(split: Any) -> list[list[float]]:
    (batch,) = split.batches()
    found: list[list[float]] = batch.targets.tolist()
    return found


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_column_for_each_label(load: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "x,sun,sea,sand\n1,1,0,1\n2,0,1,0\n3,0,0,0\n4,true,True,1.0\n")
    data = read(load, path, target=["sun", "sea", "sand"])
    assert data.info.task == "multilabel" and data.info.classes == ("sun", "sea", "sand")
    assert targets(data.train) == WANTED and any("taken as labels" in note for note in data.notes)


def test_a_cell_that_lists_labels(load: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "x,seen\n1,sun | sand\n2,sea\n3,|\n4,sand|sea|sun\n")
    data = read(load, path, target="seen", separator="|")
    assert data.info.task == "multilabel" and data.info.classes == ("sand", "sea", "sun")
    assert targets(data.train) == [[row[2], row[1], row[0]] for row in WANTED]
    lists = [["sun", "sand"], ["sea"], [], ["sand", "sea", "sun"]]
    text = "".join(json.dumps({"x": 1.5, "seen": seen}) + "\n" for seen in lists)
    assert targets(read(load, write(tmp_path / "a.jsonl", text), target="seen").train) == targets(data.train)
    other = write(tmp_path / "b.csv", "x,seen\n1,sun\n2,sun|sea\n")
    known = load(section(other, target="seen", separator="|"))
    assert targets(build_eval_split(known, data.info, split="train", device=CPU)) == [[0, 0, 1], [0, 1, 1]]


BAD = {
    "no bit": ("x,a,b\n1,0,1\n2,2,\n", {"target": ["a", "b"]}, r"2 cells(.|\n)*:3: column 'a' holds '2'; a label(.|\n)*'b' is empty"),
    "empty list": ("x,seen\n1,sun\n2,\n", {"target": "seen", "separator": "|"}, r":3: column 'seen' is empty; '\|' alone says"),
    "no separator": ("x,seen\n1,sun|sea\n2,sea\n", {"target": "seen"}, r"data\.target: task: multilabel needs columns of 0 and 1"),
    "two columns": ("x,a,b\n1,0,1\n", {"target": ["a", "b"], "separator": "|"}, r"data\.separator: .*with 2 target columns"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_labels(load: Any, tmp_path: Path, name: str) -> None:
    text, options, sentence = BAD[name]
    with pytest.raises((DataError, ConfigError), match=sentence):
        read(load, write(tmp_path / "a.csv", text), sections={"task": "multilabel"}, **options)


def test_weights_are_a_column_that_is_no_feature(load: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "x,w,y\n" + "".join(f"{n},{3 * (n % 2)},{'ab'[n % 2]}\n" for n in range(8)))
    data = read(load, path, target="y", features="auto", sampling={"weights": "w"}, normalize="none")
    (batch,) = data.train.batches()
    assert data.info.input_size == (1,) and set(batch.inputs[:, 0].tolist()) <= {1, 3, 5, 7}
    with pytest.raises(ConfigError, match="has no column 'v'"):
        read(load, path, target="y", features="auto", sampling={"weights": "v"})
