"""The plain types of a component's own options, as far as its signature is certain about them."""

import re
from typing import Any, Literal

from dlkit.config.type_mismatch import mismatch_text
from dlkit.registry import Option

_PLAIN = {"int", "float", "bool", "str", "None", "NoneType", "Tensor"}
_LITERAL = re.compile(r"Literal\[((?:'[^',\]]+'(?:, )?)+)\]")
_TYPES: dict[str, Any] = {"int": int, "float": float, "bool": bool, "str": str, "None": None, "NoneType": None}


def option_mismatch(option: Option, value: Any) -> str | None:
    """What is wrong with the value of an option, or None if it fits or its type is not plain.

    >>> option_mismatch(Option("gamma", False, 0.1, "float"), "big")
    "expected a number, got 'big' (a string)"
    """
    if literal := _LITERAL.fullmatch(option.type):
        choices = tuple(re.findall(r"'([^']+)'", literal[1]))
        return None if value in choices or value == option.default else mismatch_text(Literal[choices], value)
    atoms = _atoms(option)
    if not atoms or any(_fits(value, atom) for atom in atoms):
        return None
    atoms -= {"int"} if "float" in atoms else set()
    annotation: Any = None
    for atom in sorted(atoms & _TYPES.keys()):
        annotation = _TYPES[atom] if annotation is None else annotation | _TYPES[atom]
    return mismatch_text(annotation, value)


def _atoms(option: Option) -> set[str]:
    """The names of the plain types that an option takes; empty if it takes other ones too."""
    text = option.type
    if match := re.fullmatch(r"(Optional|Union)\[(.*)\]", text):
        text = match[2].replace(",", "|") + ("|None" if match[1] == "Optional" else "")
    atoms = {atom.strip() for atom in text.split("|")} if text else {type(option.default).__name__}
    if not atoms <= _PLAIN or (not text and option.default is None):
        return set()
    if not option.required:
        atoms.add(type(option.default).__name__)
    return atoms if atoms <= _PLAIN else set()


def _fits(value: Any, atom: str) -> bool:
    kinds: dict[str, tuple[type, ...]] = {
        "int": (int,),
        "float": (int, float),
        "bool": (bool,),
        "str": (str,),
        "None": (type(None),),
        "NoneType": (type(None),),
    }
    if isinstance(value, bool):
        return atom == "bool"
    return isinstance(value, kinds.get(atom, ()))


def option_schema(option: Option) -> dict[str, Any]:
    """An option as JSON Schema: its type if that is plain, its annotation as the description, and its default."""
    names = {
        "int": "integer",
        "float": "number",
        "bool": "boolean",
        "str": "string",
        "None": "null",
        "NoneType": "null",
    }
    atoms = _atoms(option) & names.keys()
    schema: dict[str, Any] = {"type": sorted({names[atom] for atom in atoms})} if atoms else {}
    if option.type:
        schema["description"] = option.type
    return schema if option.required else {**schema, "default": option.default}
