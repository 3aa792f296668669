"""The plain types of a component's own options, as far as its signature is certain about them."""

import re
from functools import reduce
from operator import or_
from types import NoneType
from typing import Any, Literal

from dlkit.config.type_mismatch import mismatch_text
from dlkit.registry import Option

_LITERAL = re.compile(r"Literal\[((?:'[^',\]]+'(?:, )?)+)\]")
_TYPES: dict[str, type] = {
    "int": int,
    "float": float,
    "bool": bool,
    "str": str,
    "None": NoneType,
    "NoneType": NoneType,
}
_JSON_TYPES = {int: "integer", float: "number", bool: "boolean", str: "string", NoneType: "null"}
_TENSOR = "Tensor"  # plain beside another type, but no config can hold one


def option_mismatch(option: Option, value: Any) -> str | None:
    """What is wrong with the value of an option, or None if it fits or its type is not plain.

    >>> option_mismatch(Option("gamma", False, 0.1, "float"), "big")
    "expected a number, got 'big' (a string)"
    """
    if literal := _LITERAL.fullmatch(option.type):
        choices = tuple(re.findall(r"'([^']+)'", literal[1]))
        return None if value in choices or value == option.default else mismatch_text(Literal[choices], value)
    names = _type_names(option)
    if not names or any(_fits(value, name) for name in names):
        return None
    types = [_TYPES[name] for name in sorted(names & _TYPES.keys())]
    shown = [each for each in types if each is not NoneType and not (each is int and float in types)]
    return mismatch_text(reduce(or_, shown) if shown else None, value)


def _type_names(option: Option) -> set[str]:
    """The names of the plain types that an option takes; empty if it takes other ones too."""
    text = option.type
    if match := re.fullmatch(r"(Optional|Union)\[(.*)\]", text):
        text = match[2].replace(",", "|") + ("|None" if match[1] == "Optional" else "")
    if not text and option.default is None:
        return set()
    names = {name.strip() for name in text.split("|")} if text else set()
    if not text or not option.required:
        names.add(type(option.default).__name__)
    return names if names <= {*_TYPES, _TENSOR} else set()


def _fits(value: Any, name: str) -> bool:
    if isinstance(value, bool):
        return name == "bool"
    if name == "float":
        return isinstance(value, int | float)
    return isinstance(value, _TYPES.get(name, ()))


def option_schema(option: Option) -> dict[str, Any]:
    """An option as JSON Schema: its type if that is plain, its annotation as the description, and its default."""
    types = {_JSON_TYPES[_TYPES[name]] for name in _type_names(option) & _TYPES.keys()}
    schema: dict[str, Any] = {"type": sorted(types)} if types else {}
    if option.type:
        schema["description"] = option.type
    return schema if option.required else {**schema, "default": option.default}
