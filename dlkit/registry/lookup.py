"""Looking names up in `names.json`."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Option:
    """One option of a component. `default` is a plain value, or the text of any other; `type` is the annotation as text."""

    name: str
    required: bool
    default: Any
    type: str


@dataclass(frozen=True)
class Entry:
    """One name: `target` is its import path, `also` are its other spellings.

    `options` is None if the signature does not tell them, because it passes keyword arguments on.
    """

    kind: str
    name: str
    target: str
    summary: str
    also: tuple[str, ...]
    options: Mapping[str, Option] | None

    @property
    def is_ours(self) -> bool:
        """Whether dlkit defines the component itself, so that its options do not depend on the installed torch."""
        return self.target.startswith("dlkit.")

    @property
    def title(self) -> str:
        """The name of the class or function: `AdamW` for adamw."""
        return self.target.rpartition(":")[2]

    @property
    def spellings(self) -> tuple[str, ...]:
        """The name and its other spellings; case does not matter."""
        return (self.name, *self.also)


@cache
def _table() -> dict[str, Any]:
    text = Path(__file__).with_name("names.json").read_text(encoding="utf-8")
    table: dict[str, Any] = json.loads(text)
    return table


def kinds() -> tuple[str, ...]:
    """The kinds of component, in the order in which a run meets them."""
    return tuple(_table()["kinds"])


@cache
def entries(kind: str) -> Mapping[str, Entry]:
    """All entries of a kind by name, our own first. Raises KeyError for an unknown kind."""
    return {name: _entry(kind, name, row) for name, row in _table()["kinds"][kind].items()}


def _entry(kind: str, name: str, row: dict[str, Any]) -> Entry:
    options = row.get("options")
    return Entry(
        kind=kind,
        name=name,
        target=row["target"],
        summary=row["summary"],
        also=tuple(row.get("also", ())),
        options=None if options is None else {key: Option(key, *value) for key, value in options.items()},
    )


def spellings(kind: str) -> list[str]:
    """Every way to write every name of a kind, for suggestions."""
    return [spelling for entry in entries(kind).values() for spelling in entry.spellings]


@cache
def _by_spelling(kind: str) -> Mapping[str, Entry]:
    found: dict[str, Entry] = {}
    for entry in reversed(list(entries(kind).values())):  # our own names win
        found.update(dict.fromkeys(map(str.casefold, entry.spellings), entry))
    return found


def find_entry(kind: str, name: str) -> Entry | None:
    """The entry for any spelling of a name, in any case, or None."""
    return _by_spelling(kind).get(name.casefold())


@cache
def is_current() -> bool:
    """Whether the table was made from the installed torch and torchvision; only then are their options certain."""
    made_from: dict[str, str] = _table()["made_from"]
    return all(_installed_version(package) == version for package, version in made_from.items())


def _installed_version(package: str) -> str | None:
    try:
        return metadata.version(package).split("+")[0]
    except metadata.PackageNotFoundError:
        return None
