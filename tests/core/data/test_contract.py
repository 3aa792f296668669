import json
from dataclasses import replace
from typing import Any

import pytest

from dlkit.core.data import DataInfo, TableColumn
from dlkit.errors import DataError

IMAGES = DataInfo("classification", "image", (3, 32, 32), 2, ("cat", "dog"), (0.5, 0.4, 0.3), (0.2, 0.2, 0.1))
ROWS = DataInfo("regression", "features", (4,), 1, None, None, None)
COLUMNS = (TableColumn("city", ("Bonn", "Kiel", "Rom")), TableColumn("size"))
TABLE = DataInfo("regression", "features", (4,), 1, None, None, None, columns=COLUMNS, targets=("price",))


TEMPERED = replace(IMAGES, temperature=1.5)


@pytest.mark.parametrize("info", [IMAGES, ROWS, TABLE, TEMPERED])
def test_plain_values_and_back(info: DataInfo) -> None:
    values = json.loads(json.dumps(info.to_dict()))
    assert values == info.to_dict()
    assert DataInfo.from_dict(values) == info


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"task": "guessing"}, "task"),
        ({"kind": "sound"}, "kind"),
        ({"input_size": [3, 0, 32]}, "input_size"),
        ({"input_size": []}, "input_size"),
        ({"input_size": "3x32x32"}, "input_size"),
        ({"num_outputs": True}, "num_outputs"),
        ({"num_outputs": 2.0}, "num_outputs"),
        ({"classes": [1, 2]}, "classes"),
        ({"mean": ["0.5"]}, "mean"),
        ({"std": None}, "std"),
        ({"colour": "red"}, "colour"),
        ({"columns": ["size"]}, "columns"),
        ({"columns": [{"name": 1, "texts": None}]}, "columns"),
        ({"columns": [{"name": "size", "texts": [1]}]}, "texts"),
        ({"targets": [1]}, "targets"),
        ({"temperature": 2}, "temperature"),
        ({"temperature": "2"}, "temperature"),
        ({"temperature": 0.0}, "temperature"),
        ({"temperature": 1e-320}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"temperature": 2.0, "task": "regression"}, "temperature"),
    ],
)
def test_wrong_values_are_refused_by_name(change: dict[str, Any], word: str) -> None:
    with pytest.raises(DataError, match=word):
        DataInfo.from_dict({**IMAGES.to_dict(), **change})


def test_a_missing_key_is_refused() -> None:
    values = ROWS.to_dict()
    del values["mean"]
    with pytest.raises(DataError, match="mean"):
        DataInfo.from_dict(values)


def test_files_from_before_tables_had_columns_are_read() -> None:
    values = ROWS.to_dict()
    del values["columns"], values["targets"]
    assert DataInfo.from_dict(values) == ROWS
