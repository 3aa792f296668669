"""The meaning of plain (unquoted) YAML scalars: YAML 1.2's core schema, with two deliberate differences.

PyYAML follows YAML 1.1, where `1e-3` is a string, `no` is false, `12:30` is 750 and `010` is 8. Here `1e-3` is a number
and the others stay strings. Unlike in YAML 1.2, numbers with leading zeros stay strings too (1.1 reads `010` as 8 and
1.2 as 10, so neither guess is safe), and infinities and NaN are refused, because no setting of a run can use them.
"""

import math
import re

Plain = str | int | float | bool | None

_WORDS: dict[str, Plain] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_OTHER_BASE = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_MOST_DIGITS = 40


def resolve_scalar(text: str) -> Plain:
    """The value of a plain scalar. Raises ValueError for a number that is not finite or absurdly long.

    >>> [resolve_scalar(text) for text in ("1e-3", ".5", "0x1F", "010", "no", "12:30", "~")]
    [0.001, 0.5, 31, '010', 'no', '12:30', None]
    """
    if text in _WORDS:
        return _WORDS[text]
    if _NOT_FINITE.fullmatch(text):
        raise ValueError(f"{text} is not allowed; numbers must be finite")
    if not (text[0].isdigit() or text[0] in "+-."):
        return text
    return _resolve_number(text)


def _resolve_number(text: str) -> Plain:
    is_integer = _INTEGER.fullmatch(text) or _OTHER_BASE.fullmatch(text)
    if not is_integer and not _FLOAT.fullmatch(text):
        return text
    if len(text) > _MOST_DIGITS:
        raise ValueError(f"a number of {len(text)} characters; at most {_MOST_DIGITS} are read")
    if is_integer:
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text} is too large for a number")
    return number
