"""Tables in other forms than CSV, with splits, groups and missing cells."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from dlkit.core.data import DataSplits, TableColumn, build_data, build_eval_split, read_rows
from dlkit.errors import ConfigError, DataError

CPU = torch.device("cpu")
RECORDS = [
    {"size": 1.5, "rooms": 2, "town": "Bonn", "kind": "flat", "new": True},
    {"size": 1e-7, "rooms": 3, "town": "Ulm", "kind": "house", "new": False},
    {"size": -4.0, "rooms": 4, "town": "Bonn", "kind": "flat", "new": False},
]


def read(load: Any, path: Path, *, sections: Any = None, **options: Any) -> DataSplits:
    section = {"name": "table", "path": str(path), "val": "none", "shuffle": False, "normalize": "none", **options}
    return build_data(load({"standardize_target": False, **section}, **(sections or {})), device=CPU, seed=0)


def whole(split: Any) -> tuple[torch.Tensor, torch.Tensor]:
    (batch,) = split.batches()
    return batch.inputs, batch.targets


def write_lines(path: Path, records: list[Any]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def write_parquet(path: Path, columns: dict[str, Any]) -> Path:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.table(columns), path)
    return path


def test_all_forms_give_the_same_samples(load: Any, tmp_path: Path) -> None:
    names = list(RECORDS[0])
    paths = [write_lines(tmp_path / "a.jsonl", RECORDS)]
    paths.append(write_parquet(tmp_path / "a.parquet", {name: [row[name] for row in RECORDS] for name in names}))
    for ending, mark in ((".csv", ","), (".tsv", "\t"), (".txt", ";")):
        rows = [
            mark.join(str(row[name]).replace("True", "true").replace("False", "false") for name in names)
            for row in RECORDS
        ]
        (tmp_path / f"a{ending}").write_text("\n".join([mark.join(names), *rows]), encoding="utf-8")
        paths.append(tmp_path / f"a{ending}")
    found = [read(load, path, target="kind") for path in paths]
    for data in found:
        assert torch.equal(whole(data.train)[0], whole(found[0].train)[0]) and data.info == found[0].info
        assert whole(data.train)[1].tolist() == [0, 1, 0]
    assert found[0].info.columns is not None and found[0].info.columns[2] == TableColumn("town", ("Bonn", "Ulm"))
    assert not any("parted" in note for note in (*found[0].notes, *found[3].notes))  # .tsv says it itself


def test_columns_of_structures_are_left_out(load: Any, tmp_path: Path) -> None:
    records = [{**row, "box": {"x": 1}} for row in RECORDS]
    lines = write_lines(tmp_path / "a.jsonl", records)
    columns = {name: [row[name] for row in records] for name in ("size", "kind", "box")}
    parquet = write_parquet(tmp_path / "a.parquet", {**columns, "raw": [b"a", b"b", b"c"]})
    for path in (lines, parquet):
        data = read(load, path, target="kind", features=["size"])
        assert any("left out: box" in note for note in data.notes)
        with pytest.raises(ConfigError, match=r"data\.features: column 'box' of .* holds neither texts nor numbers"):
            read(load, path, target="kind", features=["box"])


BAD_LINES = {
    "no JSON": ('{"x": 1, "y": "a"}\n{"x": 2,\n', r"a\.jsonl:2: not JSON"),
    "no object": ('{"x": 1, "y": "a"}\n[1, 2]\n', r"a\.jsonl:2: a list where an object is needed"),
    "twice": ('{"x": 1, "x": 2}\n', r"a\.jsonl:1: column 'x' stands there twice"),
    "empty": ("\n", r"a\.jsonl: the file is empty"),
    "lacks a key": ('{"x": 1, "y": "a"}\n\n{"y": "b"}\n', r"a\.jsonl:3: column 'x' is empty"),
    "null": ('{"x": 1, "y": "a"}\n{"x": 2, "y": null}\n{"x": 2, "y": "b"}\n', r"a\.jsonl:2: column 'y' is empty"),
    "NaN": ('{"x": NaN, "y": "a"}\n{"x": 2, "y": "b"}\n', r"a\.jsonl:1: column 'x' is not finite: 'nan'"),
    "deep": ("[" * 100_000, r"a\.jsonl:1: not JSON"),
}


@pytest.mark.parametrize("name", BAD_LINES)
def test_broken_json_lines(load: Any, tmp_path: Path, name: str) -> None:
    text, sentence = BAD_LINES[name]
    (tmp_path / "a.jsonl").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=sentence):
        read(load, tmp_path / "a.jsonl", target="y")


def test_broken_files_of_other_forms(load: Any, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    for content in (b"", b"PAR1", b"x" * 100):
        (tmp_path / "a.parquet").write_bytes(content)
        with pytest.raises(DataError, match=r"a\.parquet: not a readable Parquet file"):
            read(load, tmp_path / "a.parquet", target="y")
    with pytest.raises(DataError, match=r"b\.parquet: .*no such file"):
        read(load, tmp_path / "b.parquet", target="y")
    with pytest.raises(DataError, match=r"c\.parquet, row 2: column 'x' is empty"):
        read(load, write_parquet(tmp_path / "c.parquet", {"x": [1.0, None], "y": ["a", "b"]}), target="y")
    (tmp_path / "a.json").write_text("[]")
    with pytest.raises(DataError, match=r"a\.json: one JSON text; write JSON Lines"):
        read(load, tmp_path / "a.json", target="y")
    (tmp_path / "a.csv").write_bytes(b"PK\x03\x04\xff\xff")
    with pytest.raises(DataError, match=r"a\.csv: not UTF-8 text; it looks like a workbook"):
        read(load, tmp_path / "a.csv", target="y")


def test_all_bad_cells_of_a_table_at_once(load: Any, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,town,y\n1,Bonn,a\ntwo,,b\n,Ulm,\n4,Ulm,b\n")
    with pytest.raises(DataError) as caught:
        read(load, tmp_path / "a.csv", target="y")
    places = [line.split("a.csv:")[1][:14] for line in str(caught.value).splitlines()[1:]]
    assert places == ["3: column 'x' ", "3: column 'tow", "4: column 'x' ", "4: column 'y' "]


def test_splits_and_groups_of_rows(load: Any, tmp_path: Path) -> None:
    rows = [
        f"{number},{number % 2},{name},g{number}"
        for number, name in enumerate(["train", "train", "val", "test", "train"])
    ]
    (tmp_path / "a.csv").write_text("\n".join(["x,y,part,group", *rows]))
    data = read(load, tmp_path / "a.csv", target="y", split="part", group="group", val=0.1)
    assert data.info.columns == (TableColumn("x"),) and data.val is not None and data.test is not None
    assert [whole(split)[0][:, 0].tolist() for split in (data.train, data.val, data.test)] == [[0, 1, 4], [2], [3]]


MISSING = "x,town,y\n1,Bonn,1.5\n,Ulm,2.5\n3,,3.5\nNA,Bonn,4.5\n8,Ulm,5.5\n"


def test_missing_cells_become_means_of_training_rows(load: Any, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(MISSING)
    with pytest.raises(DataError, match="3 cells cannot be used"):
        read(load, tmp_path / "a.csv", target="y", features=["x", "town"])
    data = read(load, tmp_path / "a.csv", target="y", missing="mean")
    assert whole(data.train)[0].tolist() == [[1, 1, 0], [4, 0, 1], [3, 0.5, 0.5], [4, 1, 0], [8, 0, 1]]
    assert data.info.columns == (TableColumn("x", None, (4.0,)), TableColumn("town", ("Bonn", "Ulm"), (0.5, 0.5)))
    assert any("3 cells of training rows that are missing" in note and "x (2), town (1)" in note for note in data.notes)


def test_held_out_rows_give_nothing_to_the_means(load: Any, tmp_path: Path) -> None:
    rows = [f"{'' if number % 5 == 0 else number},{number / 3}" for number in range(40)]
    (tmp_path / "a.csv").write_text("\n".join(["x,y", *rows]))
    data = read(load, tmp_path / "a.csv", target="y", missing="mean", val=0.3, test=0.2)
    assert data.info.columns is not None and data.info.columns[0].fill is not None
    (fill,) = data.info.columns[0].fill
    inputs, targets = whole(data.train)
    numbers = (targets[:, 0] * 3).round()
    expected = numbers[numbers % 5 != 0].double().mean().item()
    assert fill == pytest.approx(expected) and inputs[numbers % 5 == 0].unique().tolist() == pytest.approx([expected])
    for split in (data.val, data.test):
        assert split is not None
        held, labels = whole(split)
        assert held[(labels[:, 0] * 3).round() % 5 == 0].unique().tolist() == pytest.approx([expected])


def test_a_model_fills_as_it_was_trained(load: Any, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(MISSING)
    options = {"name": "table", "path": str(tmp_path / "a.csv"), "target": "y", "missing": "mean", "val": "none"}
    info = build_data(load({**options, "normalize": "none"}), device=CPU, seed=0).info
    assert type(info).from_dict(info.to_dict()) == info
    (tmp_path / "b.csv").write_text("town,x,y\n,,1.5\nUlm,100,1.5\n")
    other = load({**options, "path": str(tmp_path / "b.csv"), "normalize": "none"})
    assert whole(build_eval_split(other, info, split="train", device=CPU))[0].tolist() == [[4, 0.5, 0.5], [100, 0, 1]]
    (tmp_path / "c.csv").write_text("id,town,x\n1,,\n")
    assert read_rows(tmp_path / "c.csv", info, {})[1].tolist() == [[4, 0.5, 0.5]]
    refusing = read(load, tmp_path / "a.csv", target="y", features=["town"], missing="mean").info
    old = refusing.to_dict()
    del old["columns"][0]["fill"]  # as in files of runs that refuse missing cells
    with pytest.raises(DataError, match=r"c\.csv:2: column 'town' is empty"):
        read_rows(tmp_path / "c.csv", type(info).from_dict(old), {})


@pytest.mark.parametrize("fill", [[1.0, 2.0], [float("nan")], ["x"], 3])
def test_a_crafted_fill_is_refused(load: Any, tmp_path: Path, fill: Any) -> None:
    (tmp_path / "a.csv").write_text("x,y\n1,a\n2,b\n")
    info = read(load, tmp_path / "a.csv", target="y").info
    facts = info.to_dict()
    facts["columns"][0]["fill"] = fill
    with pytest.raises(DataError, match="data info: "):
        type(info).from_dict(facts)


def test_what_missing_may_be(load: Any, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,z,y\n,1,a\n,2,b\n")
    with pytest.raises(DataError, match="column 'x' is empty in all training rows"):
        read(load, tmp_path / "a.csv", target="y", missing="mean")
    with pytest.raises(ConfigError, match=r"data\.missing: expected refuse or mean, got 'median'"):
        read(load, tmp_path / "a.csv", target="y", missing="median")
    (tmp_path / "b.csv").write_text("x,y\n1,\n2,b\n2,c\n")
    with pytest.raises(DataError, match="b.csv:2: column 'y' is empty"):
        read(load, tmp_path / "b.csv", target="y", missing="mean")
