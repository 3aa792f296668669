"""Look names up in the generated table."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata, resources
from typing import Any


@dataclass(frozen=True)
class Option:
    """One option of a component. `default` is JSON, or its repr where it is no plain value; `type` is words for people."""

    name: str
    required: bool
    default: Any
    type: str


@dataclass(frozen=True)
class Entry:
    """One name. `options` is None where only building it can tell (keyword arguments passed through)."""

    kind: str
    name: str
    target: str
    summary: str
    also: tuple[str, ...]
    options: Mapping[str, Option] | None

    @property
    def is_ours(self) -> bool:
        """Whether dlkit defines the thing itself, so that its options do not depend on the installed torch."""
        return self.target.startswith("dlkit.")


@cache
def _table() -> dict[str, Any]:
    text = resources.files("dlkit.registry").joinpath("names.json").read_text(encoding="utf-8")
    table: dict[str, Any] = json.loads(text)
    return table


def kinds() -> tuple[str, ...]:
    """The kinds of component, in the order in which a run meets them."""
    return tuple(_table()["kinds"])


@cache
def entries(kind: str) -> Mapping[str, Entry]:
    """All names of a kind, our own first. Raises KeyError for an unknown kind."""
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


@cache
def _spellings(kind: str) -> Mapping[str, Entry]:
    found = {}
    for entry in reversed(list(entries(kind).values())):
        for name in (*entry.also, entry.name):
            found[name.casefold()] = entry
    return found


def find_entry(kind: str, name: str) -> Entry | None:
    """The entry that a name stands for, in any case and by any of its spellings, or None."""
    return _spellings(kind).get(name.casefold())


@cache
def is_current() -> bool:
    """Whether the table was made from the torch and torchvision that are installed; only then are their options certain."""
    made_from: dict[str, str] = _table()["made_from"]
    return all(_installed_version(package) == version for package, version in made_from.items())


def _installed_version(package: str) -> str | None:
    try:
        return metadata.version(package).split("+")[0]
    except metadata.PackageNotFoundError:
        return None
