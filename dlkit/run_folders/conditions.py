"""Conditions on runs, `optimizer.lr<0.01`, read by a parser of our own: nothing is evaluated."""

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dlkit.errors import ConfigError, Problem
from dlkit.quantities import parse_duration_s
from dlkit.run_folders.columns import check_key, columns_of, read_value
from dlkit.run_folders.stored_run import StoredRun

_FORM = re.compile(r"\s*([\w./-]+)\s*(<=|>=|!=|==?|<|>)\s*(.*?)\s*", re.DOTALL)
_ORDERS: Mapping[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True)
class Condition:
    """A column, how it is compared, and with what. Text may hold `*` and `?`; what a run lacks is only ever `null`."""

    key: str
    sign: str
    value: Any

    def holds(self, columns: Mapping[str, Any]) -> bool:
        """Whether it holds for these columns of a run."""
        found = columns.get(self.key)
        if self.sign in _ORDERS:
            return _are_ordered(found, self.value) and _ORDERS[self.sign](found, self.value)
        return _is_same(found, self.value) == (self.sign != "!=")


def _are_ordered(found: Any, value: Any) -> bool:
    if isinstance(found, bool) or isinstance(value, bool):
        return False
    both_numbers = isinstance(found, int | float) and isinstance(value, int | float)
    return both_numbers or (isinstance(found, str) and isinstance(value, str))


def _is_same(found: Any, value: Any) -> bool:
    if isinstance(value, str):
        pattern = re.escape(value).replace(r"\*", ".*").replace(r"\?", ".")
        return re.fullmatch(pattern, found if isinstance(found, str) else _text(found), re.DOTALL) is not None
    return bool(found == value) and isinstance(found, bool) == isinstance(value, bool)


def _text(found: Any) -> str:
    """A list as it is written in a config, without blanks."""
    return str(found).replace(" ", "").replace("'", "")


def read_condition(text: str) -> Condition:
    """Returns what `KEY<VALUE` says; also `<=`, `>`, `>=`, `=`, `!=`. Raises ConfigError for what is none."""
    match = _FORM.fullmatch(text)
    try:
        if not match or not match[3]:
            raise ValueError("a condition is KEY<VALUE, with one of < <= > >= = !=, such as optimizer.lr<0.01")
        value = parse_duration_s(match[3]) if match[1] == "time" else read_value(match[3])
    except ValueError as error:
        raise ConfigError([Problem(_source(text), 0, 0, "", str(error))]) from None
    return Condition(match[1], match[2], value)


def choose_runs(runs: Sequence[StoredRun], conditions: Sequence[str]) -> list[StoredRun]:
    """Returns the runs for which all conditions hold. Raises ConfigError for one that cannot be read or names what no run has."""
    asked = [(text, read_condition(text)) for text in conditions]
    columns = [columns_of(run) for run in runs] if asked else []
    for text, condition in asked:
        check_key(condition.key, _source(text), [name for found in columns for name in found])
    return [run for index, run in enumerate(runs) if all(condition.holds(columns[index]) for _, condition in asked)]


def _source(text: str) -> str:
    return f"--where {text[:80]!r}"
