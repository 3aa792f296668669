"""The config as a JSON Schema, for completion, hover texts and red lines in editors.

It is pydantic's schema and what pydantic cannot know: a component may be a bare name, its options depend on its name, and
an empty section means its defaults. Options are tied to names with if/then and `additionalProperties`, which editors know
since draft-07, because some do not know `unevaluatedProperties`.
"""

from typing import Any

from dlkit.config.fields import KIND_OF_LIST, KIND_OF_SECTION, sections
from dlkit.config.option_types import option_schema
from dlkit.config.schema import Config
from dlkit.registry import Entry, entries, find_entry

DIALECT = "https://json-schema.org/draft/2020-12/schema"
IMPORT_PATH = {"type": "string", "pattern": ":", "description": "package.module:attr or ./file.py:attr"}
_DEFINITIONS = {"transforms": "Transform", "batch_transforms": "BatchTransform"}  # of components in lists, by kind


def config_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a config file."""
    schema = _untitled(Config.model_json_schema())
    definitions: dict[str, Any] = schema.pop("$defs")
    plain = definitions.pop("Component")
    for section, kind in KIND_OF_SECTION.items():
        definitions[section.capitalize()] = _component(definitions[section.capitalize()], kind)
    definitions["OtherOptimizer"] = _component(definitions["OtherOptimizer"], "optimizers")
    definitions["OwnTracker"] = {"anyOf": [IMPORT_PATH, definitions["OwnTracker"]]}
    definitions |= {name: _component(plain, kind) for kind, name in _DEFINITIONS.items()}
    data_properties = definitions["Data"]["anyOf"][1]["properties"]
    for key, kind in KIND_OF_LIST.items():
        data_properties[key]["items"] = {"$ref": f"#/$defs/{_DEFINITIONS[kind]}"}
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
    """A section's property: its definition, or null for its defaults unless the section is required."""
    field = Config.model_fields[key]
    reference = next({"$ref": part["$ref"]} for part in (found, *found.get("anyOf", ())) if "$ref" in part)
    described = {"description": field.description}
    return {**reference, **described} if field.is_required() else {"anyOf": [reference, {"type": "null"}], **described}


def _component(definition: dict[str, Any], kind: str) -> dict[str, Any]:
    """A bare name, or a mapping whose keys depend on the name."""
    shown = {entry.name: _shown_spellings(entry) for entry in entries(kind).values()}
    names = [spelling for found in shown.values() for spelling in found] + (["auto"] if kind == "losses" else [])
    name = {"anyOf": [{"enum": names}, IMPORT_PATH]}
    declared = {key: value for key, value in definition["properties"].items() if key != "name"}
    about = {key: value for key, value in definition["properties"]["name"].items() if key in ("description", "default")}
    known = [entry for entry in entries(kind).values() if entry.options is not None]
    rules = [_rule(entry, shown[entry.name], declared) for entry in known]
    mapping = {"type": "object", "properties": {"name": {**name, **about}, **declared}, "allOf": rules}
    if "default" not in about:
        mapping["required"] = ["name"]
    return {"anyOf": [name, mapping], "description": definition.get("description", "")}


def _shown_spellings(entry: Entry) -> list[str]:
    """The spellings of a name that an editor offers, with that of its class; the loader takes them in any case."""
    own_class = (entry.title,) if find_entry(entry.kind, entry.title) == entry else ()
    return list(dict.fromkeys((*entry.spellings, *own_class)))


def _rule(entry: Entry, spellings: list[str], declared: dict[str, Any]) -> dict[str, Any]:
    options = {option.name: option_schema(option) for option in (entry.options or {}).values()}
    required = [option.name for option in (entry.options or {}).values() if option.required]
    known = {"properties": {"name": True, **dict.fromkeys(declared, True), **options}, "additionalProperties": False}
    return {
        "if": {"properties": {"name": {"enum": spellings}}, "required": ["name"]},
        "then": {**known, **({"required": required} if required else {})},
    }
