"""Types and values in words for people, and what is wrong with a value."""

from collections.abc import Sequence
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from dlkit.config.fields import alternatives, is_component, is_section, item_type, plain_types, split_constraints
from dlkit.config.scalars import resolve_scalar
from dlkit.suggestions import closest

_LONGEST = 40
_TRUTH = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false", "n": "false"}


def mismatch_text(annotation: Any, value: Any) -> str:
    """`expected an integer of at least 1, got '1_000' (a string). Write 1000`."""
    return f"expected {type_text(annotation)}, got {value_text(value)}.{_fix_text(value, annotation)}".removesuffix(".")


def type_text(annotation: Any) -> str:
    """The values that a type allows, for example `an integer of at least 1 or 'auto'`."""
    plain_first = sorted(alternatives(annotation), key=_is_nested)
    texts = [text for alternative in plain_first for text in _alternative_texts(alternative)]
    return join_or(list(dict.fromkeys(texts)))


def _is_nested(alternative: Any) -> bool:
    inner, _ = split_constraints(alternative)
    return get_origin(inner) in (list, dict) or is_section(inner)


def join_or(words: Sequence[str]) -> str:
    """`a`, `a or b`, `a, b or c`."""
    return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def _alternative_texts(alternative: Any) -> list[str]:
    inner, constraints = split_constraints(alternative)
    bounds = {type(item).__name__: item for item in constraints}
    if get_origin(inner) is Literal:
        return [repr(choice) for choice in get_args(inner)]
    if inner in (int, float):
        return [("an integer" if inner is int else "a number") + _range_text(bounds)]
    if get_origin(inner) is list:
        return [_list_text(get_args(inner)[0], bounds)]
    if get_origin(inner) is dict:
        return [f"a mapping, each value {type_text(get_args(inner)[1])}"]
    if is_component(inner):
        return ["a name", "a mapping with 'name'"]
    if is_section(inner):
        return [f"a mapping with keys such as {', '.join(list(inner.model_fields)[:4])}"]
    pattern = next((item.pattern for item in constraints if getattr(item, "pattern", None)), None)
    if pattern == r"^[\w.-]+$":
        return ["a string of letters, digits, '.', '_' and '-'"]
    return [{bool: "true or false", str: "a string", NoneType: "null", None: "null", Any: "anything"}[inner]]


def _range_text(bounds: dict[str, Any]) -> str:
    low, above = getattr(bounds.get("Ge"), "ge", None), getattr(bounds.get("Gt"), "gt", None)
    high, below = getattr(bounds.get("Le"), "le", None), getattr(bounds.get("Lt"), "lt", None)
    if low is not None and high is not None:
        return f" from {low} to {high}"
    start = f"of at least {low}" if low is not None else f"above {above}" if above is not None else ""
    end = f"at most {high}" if high is not None else f"below {_bound_text(below)}" if below is not None else ""
    return "".join(f" {part}" for part in (start, "and" if start and end else "", end) if part)


def _bound_text(number: float) -> str:
    return "2**63" if number == 2**63 else str(number)


def _list_text(item: Any, bounds: dict[str, Any]) -> str:
    least = getattr(bounds.get("MinLen"), "min_length", 0)
    most = getattr(bounds.get("MaxLen"), "max_length", None)
    count = f" of {least} items" if least and least == most else ""
    return f"a list{count}" if item is Any else f"a list{count}, each {type_text(item)}"


def value_text(value: Any) -> str:
    """A value as a message shows it: shortened, with its type if that is not obvious."""
    if isinstance(value, str):
        shown = value if len(value) <= _LONGEST else value[: _LONGEST - 3] + "..."
        return f"{shown!r} (a string)"
    if value is None:
        return "nothing (null)"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"a list of {len(value)}" if value else "an empty list"
    if isinstance(value, dict):
        return "a mapping"
    return repr(value)


def _fix_text(value: Any, annotation: Any) -> str:
    """How to fix a wrong value: ` Write 1000`, ` Did you mean 'bf16'?`, or an empty text."""
    types = plain_types(annotation)
    choices = [choice for inner in types if get_origin(inner) is Literal for choice in get_args(inner)]
    wants_number = int in types or float in types
    if isinstance(value, bool | NoneType):
        return _switch_fix(value, types, choices)
    if isinstance(value, float) and int in types and value.is_integer():
        return f" Write {int(value)}"
    if isinstance(value, int | float) and str in types:
        return f" Put it in quotes: '{value}'"
    if isinstance(value, str):
        if bool in types and value.casefold() in _TRUTH:
            return f" Write {_TRUTH[value.casefold()]}"
        if wants_number and (number := _number_in(value)) is not None:
            return f" Write {number} without quotes" if str(number) == value else f" Write {number}"
        if close := closest(value, choices):
            return f" Did you mean {close[0]!r}?"
    return " Put it in a list: [...]" if item_type(annotation) is not None and not isinstance(value, list) else ""


def _switch_fix(value: bool | None, types: Sequence[Any], choices: Sequence[str]) -> str:
    if value:
        has_defaults = any(
            is_section(inner) and not any(field.is_required() for field in inner.model_fields.values())
            for inner in types
        )
        return " Write {} for its defaults" if has_defaults else ""
    if word := next((word for word in ("off", "none") if word in choices), ""):
        return f" Did you mean {word!r}?"
    return " Write null for none" if value is False and NoneType in types else ""


def _number_in(text: str) -> int | float | None:
    """The number that a string such as `1_000`, `007` or a quoted `5` was meant to be."""
    digits = text.strip().replace("_", "")
    try:
        number = resolve_scalar(digits.lstrip("0") or digits[:1])
    except ValueError:
        return None
    return number if isinstance(number, int | float) and not isinstance(number, bool) else None
