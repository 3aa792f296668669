"""The JSON Schema agrees with the loader; checked with a small validator of the keywords that it uses."""

import json
import re

import pytest

from dlkit.config import config_schema, load_config, load_mapping, sections, starter_text
from dlkit.errors import ConfigError
from dlkit.registry import entries

SCHEMA = json.loads(json.dumps(config_schema()))
TYPES = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "null": type(None),
    "integer": int,
    "number": (int, float),
}
ANNOTATIONS = {"$schema", "$defs", "title", "description", "default"}
COMPARISONS = {
    "minimum": lambda value, bound: value >= bound,
    "maximum": lambda value, bound: value <= bound,
    "exclusiveMinimum": lambda value, bound: value > bound,
    "exclusiveMaximum": lambda value, bound: value < bound,
}


def is_valid(value, schema) -> bool:
    if schema is True:
        return True
    return all(
        _holds(value, keyword, argument, schema) for keyword, argument in schema.items() if keyword not in ANNOTATIONS
    )


def _holds(value, keyword, argument, schema) -> bool:
    if keyword == "$ref":
        return is_valid(value, SCHEMA["$defs"][argument.removeprefix("#/$defs/")])
    if keyword == "type":
        return any(_is(value, name) for name in ([argument] if isinstance(argument, str) else argument))
    if keyword in ("enum", "const"):
        return value in (argument if keyword == "enum" else [argument])
    if keyword == "anyOf":
        return any(is_valid(value, option) for option in argument)
    if keyword == "allOf":
        return all(is_valid(value, option) for option in argument)
    if keyword == "if":
        return not is_valid(value, argument) or is_valid(value, schema["then"])
    if keyword == "then":
        return True
    if keyword in COMPARISONS:
        return not isinstance(value, int | float) or COMPARISONS[keyword](value, argument)
    if keyword in ("pattern", "minLength"):
        return not isinstance(value, str) or bool(
            re.search(argument, value) if keyword == "pattern" else len(value) >= argument
        )
    if keyword in ("items", "minItems", "maxItems"):
        return not isinstance(value, list) or _holds_for_list(value, keyword, argument)
    return not isinstance(value, dict) or _holds_for_mapping(value, keyword, argument, schema)


def _is(value, name) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    return isinstance(value, TYPES[name])


def _holds_for_list(value, keyword, argument) -> bool:
    if keyword == "items":
        return all(is_valid(item, argument) for item in value)
    return len(value) >= argument if keyword == "minItems" else len(value) <= argument


def _holds_for_mapping(value, keyword, argument, schema) -> bool:
    if keyword == "required":
        return all(key in value for key in argument)
    if keyword == "properties":
        return all(is_valid(value[key], option) for key, option in argument.items() if key in value)
    assert keyword == "additionalProperties", f"a keyword that this validator does not know: {keyword}"
    return argument is not False or set(value) <= set(schema["properties"])


GOOD = {"data": {"name": "digits"}, "model": {"name": "mlp"}}
RIGHT = [
    {},
    {"data": "digits", "model": "small_cnn"},
    {"extends": "base.yaml", "seed": 3, "name": "run-1.a"},
    {"extends": ["a.yaml", "b.yaml"]},
    {"optimizer": "adamw", "schedule": "cosine", "loss": "mse"},
    {"optimizer": {"name": "sgd", "lr": 1, "momentum": 0.9, "groups": [{"match": ["a*", "b*"], "freeze": True}]}},
    {"optimizer": {"lr": "auto"}},
    {"optimizer": {"name": "pkg.mod:Mine", "whatever": [1]}},
    {"schedule": {"name": "step", "step_size": 3, "warmup": "5%"}},
    {"loss": {"name": "auto", "class_weights": [1, 2.5]}},
    {"model": "pkg:Net"},
    {"model": {"name": "layers", "layers": [{"conv": {"out": 3}}, "relu"]}},
    {
        "data": {
            "name": "digits",
            "transforms": ["RandomHorizontalFlip", {"name": "RandomCrop", "size": [8, 8], "padding": 1}],
        }
    },
    {"data": {"name": "digits", "val": "none", "image_size": [8, 8], "normalize": {"mean": [0.5], "std": [0.5]}}},
    {"data": {"name": "digits", "batch_transforms": ["mixup"], "num_workers": 0}},
    {"train": {"clip": {"norm": 1.0}, "early_stop": {}, "compile": True, "gradient_checkpointing": {"segments": 2}}},
    {"train": None, "ema": None, "log": None},
    {"ema": {}},
]
WRONG = [
    {"seed": -1},
    {"seed": 1.5},
    {"sead": 1},
    {"data": None},
    {"data": {"batch_size": 3}},
    {"data": {"name": "digits", "batch_size": 0}},
    {"data": {"name": "digits", "batch_sise": 1}},
    {"data": {"name": "digits", "transforms": ["RandomCorp"]}},
    {"data": {"name": "digits", "transforms": [{"name": "RandomCrop", "size": 8, "pading": 1}]}},
    {"data": {"name": "digits", "transforms": [{"name": "RandomCrop"}]}},
    {"data": {"name": "digits", "batch_transforms": ["RandomCrop"]}},
    {"data": {"name": "digits", "image_size": [8]}},
    {"model": "resnet19"},
    {"optimizer": "adamv"},
    {"optimizer": {"name": "adamw", "weight_deacy": 0.1}},
    {"optimizer": {"name": "adamw", "momentum": 0.1}},
    {"optimizer": {"name": "sgd", "momentum": "lots"}},
    {"optimizer": {"name": "sgd", "lr": 0}},
    {"optimizer": {"groups": [{"lr_mult": 1}]}},
    {"schedule": {"name": "step"}},
    {"train": {"epoch": 1}},
    {"train": {"amp": "bf6"}},
    {"train": {"clip": {"nrom": 1}}},
    {"ema": {"decay": 1}},
]


@pytest.mark.parametrize("values", RIGHT, ids=str)
def test_what_the_loader_takes_the_schema_takes(values):
    assert is_valid({**GOOD, **values}, SCHEMA)
    load_mapping({key: value for key, value in {**GOOD, **values}.items() if key != "extends"})


@pytest.mark.parametrize("values", WRONG, ids=str)
def test_what_the_loader_refuses_the_schema_refuses(values):
    assert not is_valid({**GOOD, **values}, SCHEMA)
    with pytest.raises(ConfigError):
        load_mapping({**GOOD, **values})


def test_the_schema_is_draft_2020_12_and_closed():
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert SCHEMA["additionalProperties"] is False
    assert SCHEMA["required"] == ["data", "model"]
    for name in ("Train", "Ema", "Eval", "Checkpoint", "Log", "Runtime", "Clip", "EarlyStop", "ParameterGroup"):
        assert SCHEMA["$defs"][name]["additionalProperties"] is False


def test_every_reference_is_there():
    text = json.dumps(SCHEMA)
    assert set(re.findall(r'"\$ref": "#/\$defs/(\w+)"', text)) <= set(SCHEMA["$defs"])


def test_every_key_of_the_schema_has_a_description():
    for path, section in sections().items():
        for key, field in section.model_fields.items():
            assert field.description, (path, key)


def test_every_registry_name_is_offered():
    text = json.dumps(SCHEMA)
    for kind in ("models", "datasets", "losses", "optimizers", "schedules", "transforms", "batch_transforms"):
        assert all(f'"{name}"' in text for name in entries(kind))


def test_the_starter_file_is_valid(write):
    assert is_valid(load_config(write(starter_text())).values, SCHEMA)
