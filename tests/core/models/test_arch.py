import json

import pytest

from dlkit.core.models import Arch


def test_round_trip_through_json():
    arch = Arch(
        "dlkit",
        "mlp",
        {"hidden": (8, 4), "dropout": 0.5, "activation": {"name": "swish", "learnable": True}, "x": None},
    )
    again = Arch.from_dict(json.loads(json.dumps(arch.to_dict())))
    assert again.options == {
        "hidden": [8, 4],
        "dropout": 0.5,
        "activation": {"name": "swish", "learnable": True},
        "x": None,
    }
    assert (again.registry, again.name) == ("dlkit", "mlp")


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "values",
    [
        None,
        [],
        {"registry": "dlkit", "name": "mlp"},
        {"registry": "dlkit", "name": "mlp", "options": {}, "weights": "x"},
        {"registry": "os", "name": "system", "options": {}},
        {"registry": ["dlkit"], "name": "mlp", "options": {}},
        {"registry": "dlkit", "name": "", "options": {}},
        {"registry": "dlkit", "name": 3, "options": {}},
        {"registry": "dlkit", "name": "m" * 501, "options": {}},
        {"registry": "dlkit", "name": "mlp", "options": []},
        {"registry": "dlkit", "name": "mlp", "options": {"f": print}},
        {"registry": "dlkit", "name": "mlp", "options": {"f": float("nan")}},
        {"registry": "dlkit", "name": "mlp", "options": {3: 1}},
        {"registry": "dlkit", "name": "mlp", "options": {"f": nested(5000)}},
    ],
)
def test_anything_else_is_refused(values):
    with pytest.raises(ValueError):
        Arch.from_dict(values)
