"""Csv files: every complaint names file, line and column."""

from pathlib import Path
from typing import Any

import pytest
import torch

from dlkit.core.data import DataSplits, TableColumn, build_data, build_eval_split, restore_targets
from dlkit.errors import ConfigError, DataError

CPU = torch.device("cpu")


def write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def read(load: Any, path: str, *, sections: Any = None, **options: Any) -> DataSplits:
    section = {"name": "csv", "path": path, "val": "none", "shuffle": False, "normalize": "none", **options}
    section = {"standardize_target": False, **section}
    return build_data(load(section, **(sections or {})), device=CPU, seed=0)


def whole(data: DataSplits) -> tuple[torch.Tensor, torch.Tensor]:
    (batch,) = data.train.batches()
    return batch.inputs, batch.targets


FLOWERS = """length, width ,kind
1.5,2,lily
3e0,-4,aster
.5,1e-3,lily
"""


def test_texts_are_classes_in_sorted_order(load: Any, tmp_path: Path) -> None:
    data = read(load, write(tmp_path / "a.csv", FLOWERS), target="kind")
    inputs, targets = whole(data)
    torch.testing.assert_close(inputs, torch.tensor([[1.5, 2.0], [3.0, -4.0], [0.5, 0.001]]))
    assert targets.tolist() == [1, 0, 1]
    assert data.info.classes == ("aster", "lily") and data.info.task == "classification"
    assert data.info.kind == "features" and data.info.input_size == (2,)


def test_features_can_be_named_in_any_order(load: Any, tmp_path: Path) -> None:
    data = read(load, write(tmp_path / "a.csv", FLOWERS), target="kind", features=["width"])
    assert whole(data)[0].tolist() == [[2.0], [-4.0], [pytest.approx(0.001)]]
    turned = read(load, write(tmp_path / "a.csv", FLOWERS), target="kind", features=["width", "length"])
    assert whole(turned)[0][0].tolist() == [2.0, 1.5]


def test_whole_numbers_are_classes_and_the_note_says_how_not(load: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "x,y\n1,10\n2,9\n3,10.0\n4,30\n")
    data = read(load, path, target="y")
    assert data.info.classes == ("9", "10", "30")
    assert whole(data)[1].tolist() == [1, 0, 1, 2]
    assert "set task: regression" in data.notes[0]
    for choice in ({"sections": {"task": "regression"}}, {"sections": {"loss": "mse"}}):
        _, targets = whole(read(load, path, target="y", **choice))
        assert targets.tolist() == [[10.0], [9.0], [10.0], [30.0]] and targets.dtype == torch.float32


def test_fractions_and_many_numbers_and_many_targets_are_regression(load: Any, tmp_path: Path) -> None:
    fractions = write(tmp_path / "a.csv", "x,y\n1,0.5\n2,1\n")
    assert read(load, fractions, target="y").info.task == "regression"
    many = write(tmp_path / "b.csv", "x,y\n" + "".join(f"1,{number}\n" for number in range(21)))
    assert read(load, many, target="y").info.task == "regression"
    assert read(load, many, target="y", sections={"task": "classification"}).info.num_outputs == 21
    two = read(load, write(tmp_path / "c.csv", "x,y,z\n1,0,1\n2,1,0\n"), target=["z", "y"])
    assert two.info.num_outputs == 2 and whole(two)[1].tolist() == [[1.0, 0.0], [0.0, 1.0]]


def test_rows_can_be_sequences(load: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "a0,b0,a1,b1,a2,b2,y\n1,2,3,4,5,6,u\n7,8,9,10,11,12,v\n")
    data = read(load, path, target="y", sequence_length=3)
    assert data.info.kind == "sequence" and data.info.input_size == (3, 2)
    assert whole(data)[0][0].tolist() == [[1, 2], [3, 4], [5, 6]]
    with pytest.raises(ConfigError, match=r"data\.sequence_length: 6 feature columns cannot be cut into 4"):
        read(load, path, target="y", sequence_length=4)


def test_features_are_standardized_by_the_training_rows(load: Any, tmp_path: Path) -> None:
    rows = "".join(f"{number},{1000 + 10 * number},{number % 2}\n" for number in range(100))
    path = write(tmp_path / "a.csv", "x,big,y\n" + rows)
    data = read(load, path, target="y", normalize="auto", val=0.2, shuffle=True)
    (batch,) = data.train.batches()
    assert len(batch.inputs) == 80
    torch.testing.assert_close(batch.inputs.mean(0), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(batch.inputs.std(0, correction=0), torch.ones(2))
    assert data.val is not None
    (held,) = data.val.batches()
    assert held.inputs.mean(0).abs().max() > 1e-3


def test_a_test_file_has_the_classes_of_training(load: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", FLOWERS)
    # columns may stand in another order
    test = write(tmp_path / "t.csv", "kind,width,length\naster,5,6\n")
    data = read(load, path, target="kind", test_path=test)
    assert data.test is not None
    (batch,) = data.test.batches()
    assert batch.inputs.tolist() == [[6.0, 5.0]] and batch.targets.tolist() == [0]
    with pytest.raises(DataError, match=r"t\.csv:3: column 'kind' holds class 'rose', which the training file lacks"):
        read(load, path, target="kind", test_path=write(tmp_path / "t.csv", "length,width,kind\n1,2,lily\n1,2,rose\n"))
    with pytest.raises(DataError, match=r"t\.csv: no column 'width'"):
        read(load, path, target="kind", test_path=write(tmp_path / "t.csv", "length,kind\n1,lily\n"))


def test_quotes_blank_lines_a_byte_order_mark_and_other_delimiters(load: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b'\xef\xbb\xbf"x; first";kind\r\n1;"two\nlines"\r\n\r\n2;plain\r\n')
    data = read(load, str(path), target="kind", delimiter=";")
    assert data.info.classes == ("plain", "two\nlines")
    assert whole(data)[0].tolist() == [[1.0], [2.0]]


BROKEN = {
    "text cell": ("x,y\n1,a\ntwo,b\n", r"a\.csv:3: column 'x' is not a number: 'two'"),
    "empty cell": ("x,y\n1,a\n,b\n", r"a\.csv:3: column 'x' is empty"),
    "nan": ("x,y\n1,a\n\n2,b\nNaN,b\n", r"a\.csv:5: column 'x' is not finite: 'NaN'"),
    "infinity": ("x,y\n-inf,a\n2,b\n", r"a\.csv:2: column 'x' is not finite: '-inf'"),
    "empty label": ("x,y\n1,a\n2,\n", r"a\.csv:3: column 'y' is empty"),
    "ragged": ("x,y\n1,a\n2,b,c\n", r"a\.csv:3: 3 cells where the header has 2"),
    "short": ("x,z,y\n1,2,a\n2,b\n", r"a\.csv:3: 2 cells where the header has 3"),
    "one class": ("x,y\n1,a\n2,a\n", r"a\.csv: column 'y' holds one class only \(a\)"),
    "empty file": ("", r"a\.csv: the file is empty"),
    "no rows": ("x,y\n", r"a\.csv: a header but no rows"),
    "no header": ("1,2\n3,4\n", r"a\.csv:1: numbers where the names of the columns are expected"),
    "twice": ("x,y,x\n1,2,3\n", r"a\.csv:1: column 'x' stands there twice"),
    "beside thousandths": ("x,y\n1.234,a\ntwo,b\n", r"a\.csv:3: column 'x' is not a number: 'two'"),
    "two cells": ('x,y\n1,"a" b\n2,b\n', r"a\.csv:2: ',' expected after '\"'"),
    "names of rows": ("x,y\n" + "".join(f"row {i},{i % 2}\n" for i in range(101)), r"a\.csv: no feature columns that"),
    "no features": ("y\na\nb\n", r"a\.csv: no feature columns beside the target"),
    "open quote": ('x,y\n1,"a\n2,b\n', r"a\.csv:\d+: unexpected end of data"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_told_by_line_and_column(load: Any, tmp_path: Path, name: str) -> None:
    text, sentence = BROKEN[name]
    with pytest.raises(DataError, match=sentence) as caught:
        read(load, write(tmp_path / "a.csv", text), target="y")
    assert caught.value.exit_code == 3 and "\n" not in str(caught.value)


def test_regression_targets_must_be_finite_numbers(load: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.csv:3: column 'y' is not a number: 'high'"):
        read(load, write(tmp_path / "a.csv", "x,y\n1,0.5\n2,high\n"), target="y", sections={"task": "regression"})
    with pytest.raises(DataError, match=r"a\.csv:3: column 'y' is not finite: 'inf'"):
        read(load, write(tmp_path / "a.csv", "x,y\n1,0.5\n2,inf\n"), target="y", sections={"task": "regression"})


def test_unreadable_files(load: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.csv: no such file"):
        read(load, str(tmp_path / "none.csv"), target="y")
    with pytest.raises(DataError, match="not a file; a table is needed"):
        read(load, str(tmp_path), target="y")
    (tmp_path / "latin.csv").write_bytes(b"x,y\n1,\xe9\n2,b\n")
    with pytest.raises(DataError, match="not UTF-8"):
        read(load, str(tmp_path / "latin.csv"), target="y")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"target": "knd"}, r"data\.target: .*has no column 'knd'. Did you mean 'kind'\? It has: length, width, kind"),
        ({"target": []}, r"data\.target: at least one column"),
        ({"target": "kind", "features": ["lenght"]}, r"data\.features: .*Did you mean 'length'\?"),
        ({"target": "kind", "features": ["kind"]}, r"data\.features: 'kind' is the target"),
        ({"target": "kind", "task": "regression"}, r"data\.task: unknown key for table"),
        ({"target": "kind", "sequence_length": 0}, r"data\.sequence_length: expected a number of steps"),
        ({"target": "kind", "delimiter": "::"}, r"data\.delimiter: expected auto or one character"),
        ({"target": "kind", "decimal": ";"}, r"data\.decimal: expected auto, '.' or ','"),
        ({"target": "kind", "thousands": "x"}, r"data\.thousands: expected one of"),
        ({"target": "kind", "decimal": ",", "thousands": ","}, r"data\.thousands: ',' stands before the fraction"),
        ({"target": "kind", "delimeter": ";"}, r"data\.delimeter: unknown key for table. Did you mean 'delimiter'\?"),
        ({}, r"table needs 'target'"),
    ],
)
def test_wrong_options_are_told_at_their_key(load: Any, tmp_path: Path, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        read(load, write(tmp_path / "a.csv", FLOWERS), **options)


def test_a_model_judges_rows_by_its_own_statistics(load: Any, tmp_path: Path) -> None:
    rows = "".join(f"{number},{'ab'[number % 2]}\n" for number in range(40))
    section = {"name": "csv", "path": write(tmp_path / "a.csv", "x,y\n" + rows), "target": "y", "val": 0.25}
    info = build_data(load(section), device=CPU, seed=3).info
    other = {**section, "path": write(tmp_path / "b.csv", "x,y\n100,b\n200,b\n300,a\n400,b\n"), "val": "none"}
    split = build_eval_split(load(other), info, split="train", device=CPU, batch_size=10)
    (batch,) = split.batches()
    assert info.mean is not None and info.std is not None
    expected = (torch.tensor([[100.0], [200.0], [300.0], [400.0]]) - info.mean[0]) / info.std[0]
    torch.testing.assert_close(batch.inputs, expected)
    assert batch.targets.tolist() == [1, 1, 0, 1]
    with pytest.raises(DataError, match="class 'c' is unknown to the model; it knows a, b"):
        unknown = {**section, "path": write(tmp_path / "c.csv", "x,y\n1,a\n2,c\n3,b\n")}
        build_eval_split(load(unknown), info, split="train", device=CPU)


def test_decimal_numbers_are_no_classes(load: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "x,y\n1,0\n2,0.5\n3,1\n")
    with pytest.raises(DataError, match=r"a\.csv:3: column 'y' holds 0\.5, which is no class"):
        read(load, path, target="y", sections={"task": "classification"})


def test_a_delimiter_that_is_set_and_wrong_is_told_with_the_right_one(load: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "x;y\n1;a\n2;b\n")
    with pytest.raises(DataError, match=r"a\.csv:1: one column, 'x;y'.*Did you mean delimiter: ';'\?"):
        read(load, path, target="y", delimiter=",")


def test_classes_keep_the_names_that_the_file_holds(load: Any, tmp_path: Path) -> None:
    ids = ["9007199254740992", "9007199254740993", "9007199254740995"]
    text = "x,y\n" + "".join(f"{number},{ids[number % 3]}\n" for number in range(9))
    data = read(load, write(tmp_path / "a.csv", text), target="y")
    assert data.info.classes == tuple(ids) and whole(data)[1].tolist() == [0, 1, 2] * 3
    agents = read(load, write(tmp_path / "b.csv", "x,y\n1,7\n2,007\n3,7.0\n4,07\n"), target="y")
    assert agents.info.classes == ("007", "07", "7") and whole(agents)[1].tolist() == [2, 0, 2, 1]
    many = "x,y\n" + "".join(f"{number},{number:05}\n" for number in range(30))
    names = read(load, write(tmp_path / "c.csv", many), target="y")
    assert names.info.num_outputs == 30 and "names, such as 00000" in names.notes[0]
    signs = read(load, write(tmp_path / "d.csv", "x,y\n1,+1\n2,-1\n"), target="y")
    assert signs.info.classes == ("-1", "+1")


@pytest.mark.parametrize("name", ["", "Unnamed: 0", '""'])
def test_a_column_without_a_name_is_left_out_and_named_in_a_note(load: Any, tmp_path: Path, name: str) -> None:
    text = f"{name},a,y\n" + "".join(f"{number},{number % 3},{'no' if number < 5 else 'yes'}\n" for number in range(9))
    data = read(load, write(tmp_path / "a.csv", text), target="y")
    assert data.info.input_size == (1,) and "column 1 has no name and is left out" in data.notes[0]
    assert whole(data)[0][:, 0].tolist() == [0, 1, 2] * 3
    if name == "Unnamed: 0":
        chosen = read(load, str(tmp_path / "a.csv"), target="y", features=["Unnamed: 0", "a"])
        assert chosen.info.input_size == (2,) and not chosen.notes
    ends = read(load, write(tmp_path / "b.csv", "a,y,,\n1,no,,\n2,yes,,\n"), target="y")
    assert ends.info.input_size == (1,) and "column 3, 4 has no name" in ends.notes[0]


DIALECTS = {
    "blanks": ('a, b, y\n1.5, 1000, "low, or so"\n 2, 2000.25,"high"\n', ()),
    "semicolons": ('a;b;y\n1.5;1000;"low, or so"\n2;2000.25;high\n', ("semicolons",)),
    "tabs": ("a\tb\ty\n1.5\t1000\tlow, or so\n2\t2000.25\thigh\n", ("tabs",)),
    "bars": ("a|b|y\n1.5|1000|low, or so\n2|2000.25|high\n", ("bars",)),
    "decimal commas": ("a;b;y\n1,5;1000;low, or so\n2;2000,25;high\n", ("semicolons", "a comma before")),
    "continental": (
        "a;b;y\n1,5;1.000;low, or so\n2;2.000,25;high\n",
        ("a comma before the fraction and a point between",),
    ),
    "quoted decimals": ('a,b,y\n"1,5",1000,"low, or so"\n2,"2000,25",high\n', ("a comma before",)),
    "thousands": ('a,b,y\n1.5,"1,000","low, or so"\n2,"2,000.25",high\n', ("a point before the fraction and a comma",)),
    "spaces": ("a;b;y\n1,5;1 000;low, or so\n2;2\u00a0000,25;high\n", ("a space between",)),
    "apostrophes": ("a;b;y\n1.5;1'000;low, or so\n2;2\u2019000.25;high\n", ("an apostrophe between",)),
    "one thousand": ('a,b,y\n1.5,"1,000","low, or so"\n2,2000.25,high\n', ("a comma between",)),
}


@pytest.mark.parametrize("name", DIALECTS)
def test_dialects_are_found_out_and_said(load: Any, tmp_path: Path, name: str) -> None:
    text, words = DIALECTS[name]
    data = read(load, write(tmp_path / "a.csv", text), target="y", val="none")
    assert whole(data)[0].tolist() == [[1.5, 1000.0], [2.0, 2000.25]]
    assert data.info.classes == ("high", "low, or so") and whole(data)[1].tolist() == [1, 0]
    assert all(any(word in note for note in data.notes) for word in words) and (words or not data.notes)


def test_numbers_that_could_be_two_are_refused_until_the_decimal_is_set(load: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "a;y\n1,234;u\n2,345;v\n")
    with pytest.raises(DataError, match=r"a\.csv: '1,234' may be 1\.234 or 1234; set data\.decimal"):
        read(load, path, target="y")
    assert whole(read(load, path, target="y", decimal=","))[0].tolist() == [
        [pytest.approx(1.234)],
        [pytest.approx(2.345)],
    ]
    assert whole(read(load, path, target="y", decimal="."))[0].tolist() == [[1234.0], [2345.0]]
    assert whole(read(load, path, target="y", thousands=","))[0].tolist() == [[1234.0], [2345.0]]
    mixed = write(tmp_path / "b.csv", "a;b;y\n1,5;2.5;u\n2,5;3.5;v\n")
    with pytest.raises(DataError, match=r"b\.csv: numbers are written in more than one way, '1,5' and '2\.5'"):
        read(load, mixed, target="y")
    with pytest.raises(DataError, match=r"b\.csv:2: column 'b' is not a number: '2\.5'"):
        read(load, mixed, target="y", decimal=",")


def test_dates_and_versions_are_texts(load: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "date,version,x,y\n12.05.2024,1.0.2,1.5,u\n2024-05-13,1.0.3,2,v\n")
    data = read(load, path, target="y")
    assert data.info.input_size == (5,) and "date (2), version (2)" in data.notes[0]


def test_a_test_file_may_be_written_otherwise(load: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "a,b,y\n1.5,2,0.5\n2.5,3,1.5\n")
    test = write(tmp_path / "t.csv", "b;y;a\n1.000,5;2,5;7,5\n")
    data = read(load, path, target="y", test_path=test)
    assert data.test is not None
    (batch,) = data.test.batches()
    assert batch.inputs.tolist() == [[7.5, 1000.5]] and batch.targets.tolist() == [[2.5]]


def test_columns_of_texts_become_one_input_per_text(load: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "city,x,y\nBonn,1,u\nKiel,2,v\nBonn,3,u\n")
    data = read(load, path, target="y")
    assert whole(data)[0].tolist() == [[1, 0, 1], [0, 1, 2], [1, 0, 3]]
    assert any("one input for each of their texts: city (2)" in note for note in data.notes)
    assert data.info.columns == (TableColumn("city", ("Bonn", "Kiel")), TableColumn("x"))
    other = load(
        {"name": "csv", "path": write(tmp_path / "b.csv", "y,z,x,city\nv,0,9,Kiel\nu,0,8,Kiel\n"), "target": "y"}
    )
    split = build_eval_split(other, data.info, split="train", device=CPU)
    assert [row.tolist() for batch in split.batches() for row in batch.inputs] in ([[0, 1, 9]], [[0, 1, 8]])
    unknown = load({"name": "csv", "path": write(tmp_path / "c.csv", "y,x,city\nv,9,Rom\nu,8,Kiel\n"), "target": "y"})
    with pytest.raises(
        DataError, match=r"c\.csv:2: column 'city' holds 'Rom', which the training file lacks; it holds Bonn, Kiel"
    ):
        build_eval_split(unknown, data.info, split="train", device=CPU)
    with pytest.raises(ConfigError, match=r"data\.sequence_length: column 'city' holds texts"):
        read(load, path, target="y", sequence_length=1)


def test_a_column_of_too_many_texts_is_left_out(load: Any, tmp_path: Path) -> None:
    text = "name,x,y\n" + "".join(f"name {number},{number},{'uv'[number % 2]}\n" for number in range(101))
    data = read(load, write(tmp_path / "a.csv", text), target="y")
    assert data.info.input_size == (1,) and "column 'name' holds 101 different texts and is left out" in data.notes[0]
    with pytest.raises(ConfigError, match=r"data\.features: column 'name' holds 101 different texts"):
        read(load, str(tmp_path / "a.csv"), target="y", features=["name"])


def test_targets_are_standardized_by_the_training_rows_without_losing_digits(load: Any, tmp_path: Path) -> None:
    # seconds since 1970, whose last digits float32 has not
    rows = "".join(f"{number},{1_700_000_000 + 10 * number}.5\n" for number in range(100))
    path = write(tmp_path / "a.csv", "x,y\n" + rows)
    data = read(load, path, target="y", standardize_target="auto", val=0.2)
    (batch,) = data.train.batches()
    torch.testing.assert_close(batch.targets.mean(0), torch.zeros(1), atol=1e-5, rtol=0)
    torch.testing.assert_close(batch.targets.std(0, correction=0), torch.ones(1))
    restored = restore_targets(batch.targets, data.info)
    torch.testing.assert_close(restored, data.train.sample_targets().double(), atol=1e-3, rtol=0)
    constant = read(load, write(tmp_path / "b.csv", "x,y\n1,2.5\n2,2.5\n"), target="y", standardize_target=True)
    assert whole(constant)[1].tolist() == [[0.0], [0.0]] and constant.info.target_std == (1.0,)
