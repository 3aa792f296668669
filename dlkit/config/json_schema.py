"""The config as a JSON Schema, for editors: completion, hover texts and red lines while typing.

Made from the pydantic schema, with what pydantic cannot know: a component may be a bare name, its options depend on its
name, and an empty section means its defaults. Options are bound to names with if/then and `additionalProperties`, which
editors know from draft-07 on, and not with `unevaluatedProperties`, which some do not know.
"""

from typing import Any

from dlkit.config.fields import kind_at, sections
from dlkit.config.options import json_type
from dlkit.config.places import KeyPath
from dlkit.config.schema import Config
from dlkit.registry import Entry, entries, find_entry

DIALECT = "https://json-schema.org/draft/2020-12/schema"
IMPORT_PATH = {"type": "string", "pattern": ":", "description": "package.module:attr or ./file.py:attr"}
_COMPONENTS = {
    "Data": ("data",),
    "Model": ("model",),
    "Loss": ("loss",),
    "Optimizer": ("optimizer",),
    "Schedule": ("schedule",),
}
_LIST_COMPONENTS = {"transforms": "Transform", "eval_transforms": "Transform", "batch_transforms": "BatchTransform"}


def config_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a config file."""
    schema = _untitled(Config.model_json_schema())
    definitions: dict[str, Any] = schema.pop("$defs")
    plain = definitions.pop("Component")
    for name, path in _COMPONENTS.items():
        definitions[name] = _component(definitions[name], path)
    definitions["Transform"] = _component(plain, ("data", "transforms", 0))
    definitions["BatchTransform"] = _component(plain, ("data", "batch_transforms", 0))
    for key, name in _LIST_COMPONENTS.items():
        _object(definitions["Data"])["properties"][key]["items"] = {"$ref": f"#/$defs/{name}"}
    properties = {"extends": _extends(), **schema["properties"]}
    for key in properties:
        if (key,) in sections():
            properties[key] = _section(key, properties[key])
    top = {
        "$schema": DIALECT,
        "title": "dlkit config",
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
    }
    return {**top, "required": schema["required"], "$defs": definitions}


def _untitled(schema: Any) -> Any:
    """The schema without pydantic's titles, which only repeat the keys."""
    if isinstance(schema, list):
        return [_untitled(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {key: _untitled(item) for key, item in schema.items() if key != "title" or not isinstance(item, str)}


def _extends() -> dict[str, Any]:
    return {
        "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
        "description": "Config files that this one builds on, relative to it; later ones win, this file wins over all.",
    }


def _section(key: str, found: dict[str, Any]) -> dict[str, Any]:
    """A section's property: its definition or, where it may be left out, null, which means its defaults."""
    field = Config.model_fields[key]
    reference = next({"$ref": part["$ref"]} for part in (found, *found.get("anyOf", ())) if "$ref" in part)
    described = {"description": field.description}
    return {**reference, **described} if field.is_required() else {"anyOf": [reference, {"type": "null"}], **described}


def _component(definition: dict[str, Any], path: KeyPath) -> dict[str, Any]:
    """A bare name, or a mapping whose keys depend on the name."""
    kind = kind_at(path)
    assert kind is not None
    spellings = {entry.name: spellings_of(entry) for entry in entries(kind).values()}
    names = [spelling for found in spellings.values() for spelling in found] + (["auto"] if kind == "losses" else [])
    name = {"anyOf": [{"enum": names}, IMPORT_PATH]}
    declared = {key: value for key, value in definition["properties"].items() if key != "name"}
    about = {key: value for key, value in definition["properties"]["name"].items() if key in ("description", "default")}
    rules = [
        _rule(entry, spellings[entry.name], declared) for entry in entries(kind).values() if entry.options is not None
    ]
    mapping = {"type": "object", "properties": {"name": {**name, **about}, **declared}, "allOf": rules}
    if "default" not in about:
        mapping["required"] = ["name"]
    return {"anyOf": [name, mapping], "description": definition.get("description", "")}


def spellings_of(entry: Entry) -> list[str]:
    """The ways to write a name that lists show; the loader takes them in any case."""
    title = entry.target.rpartition(":")[2]
    own_class = (title,) if find_entry(entry.kind, title) == entry else ()
    return list(dict.fromkeys((entry.name, *entry.also, *own_class)))


def _rule(entry: Entry, spellings: list[str], declared: dict[str, Any]) -> dict[str, Any]:
    options = {option.name: json_type(option) for option in (entry.options or {}).values()}
    required = [option.name for option in (entry.options or {}).values() if option.required]
    known = {"properties": {"name": True, **dict.fromkeys(declared, True), **options}, "additionalProperties": False}
    return {
        "if": {"properties": {"name": {"enum": spellings}}, "required": ["name"]},
        "then": {**known, **({"required": required} if required else {})},
    }


def _object(component: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = component["anyOf"][1]
    return found
