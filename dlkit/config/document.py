"""Reading one YAML text into a tree of nodes.

It reads PyYAML's events instead of its nodes, so that limits hold before memory is spent, and that aliases, anchors, tags,
merge keys, repeated keys and keys that are no strings are all found in one pass, each with its location. Configs allow
none of these: aliases can grow without bound, merge keys hide where a value comes from, and tags name Python objects.
"""

from collections.abc import Iterator
from typing import Any

import yaml

from dlkit.config.nodes import MOST_DEPTH, Child, MappingNode, Node, ScalarNode, SequenceNode
from dlkit.config.scalars import Plain, resolve_scalar
from dlkit.config.source_locations import KeyPath, Location, dotted, printable
from dlkit.config.syntax import ALIASES, ANCHORS, MERGE_KEYS, TAGS, explain_syntax
from dlkit.errors import Problem

MOST_CHARACTERS = 512 * 1024
MOST_NODES = 10_000


def parse_document(text: str, location: Location, problems: list[Problem], *, path: KeyPath = ()) -> Node | None:
    """The tree of a text, or None if it is empty or cannot be read; every mistake is added to `problems`.

    A `location` with line 0 is that of every node (for an override of the key at `path`). A wrong value becomes null, so
    that reading can continue.
    """
    reader = _DocumentReader(text, location, problems, path)
    try:
        return reader.read()
    except _EndOfReadingError:
        return None


class _EndOfReadingError(Exception):
    """Reading cannot continue; the reason is among the problems."""


class _DocumentReader:
    def __init__(self, text: str, location: Location, problems: list[Problem], path: KeyPath) -> None:
        self.text = text
        self.location = location
        self.problems = problems
        self.path = path
        self.num_nodes = 0
        self.events = self._events()

    def read(self) -> Node | None:
        if len(self.text) > MOST_CHARACTERS:
            self._report(None, self.path, f"more than {MOST_CHARACTERS // 1024} KiB; a config is small")
            raise _EndOfReadingError
        next(self.events)  # the stream begins
        if isinstance(next(self.events), yaml.StreamEndEvent):
            return None
        root = self._read_node(next(self.events), self.path)
        next(self.events)  # the document ends
        second = next(self.events)
        if isinstance(second, yaml.DocumentStartEvent):
            self._report(second, self.path, "a second document begins here ('---'); a config is one document")
        return root

    def _events(self) -> Iterator[Any]:
        try:
            yield from yaml.parse(self.text, Loader=yaml.SafeLoader)
        except yaml.YAMLError as error:
            found = explain_syntax(error, self.text)
            at = Location(self.location.source, found.line, found.column) if self.location.line else self.location
            self.problems.append(at.problem(dotted(self.path), found.message))
            raise _EndOfReadingError from None
        except (ValueError, OverflowError, IndexError):  # from PyYAML itself: "\U00110000", %YAML with huge numbers
            self._report(None, self.path, "this is not YAML: an escape or a directive holds an impossible number")
            raise _EndOfReadingError from None

    def _read_node(self, event: Any, path: KeyPath) -> Node:
        self._check_limits(event, path)
        location = self._location(event)
        if isinstance(event, yaml.AliasEvent):
            self._report(event, path, ALIASES)
            return ScalarNode(None, location)
        if event.anchor is not None:
            self._report(event, path, ANCHORS)
        if event.tag is not None:
            self._report(event, path, TAGS)
        if isinstance(event, yaml.ScalarEvent):
            return ScalarNode(self._scalar_value(event, path), location)
        if isinstance(event, yaml.SequenceStartEvent):
            return SequenceNode(tuple(self._read_items(path)), location)
        return MappingNode(self._read_children(path), location)

    def _check_limits(self, event: Any, path: KeyPath) -> None:
        self.num_nodes += 1
        if len(path) > MOST_DEPTH:
            self._report(event, path[:3], f"nested deeper than {MOST_DEPTH} levels")
            raise _EndOfReadingError
        if self.num_nodes > MOST_NODES:
            self._report(event, path, f"more than {MOST_NODES} values; a config is small")
            raise _EndOfReadingError

    def _scalar_value(self, event: Any, path: KeyPath) -> Plain:
        text: str = event.value
        bad = next((character for character in text if character == "\0" or "\ud800" <= character <= "\udfff"), None)
        if bad is not None:
            self._report(event, path, f"the character U+{ord(bad):04X} is not allowed")
            return None
        if event.style is not None or event.tag is not None:
            return text
        try:
            return resolve_scalar(text)
        except ValueError as error:
            self._report(event, path, str(error))
            return None

    def _read_items(self, path: KeyPath) -> Iterator[Node]:
        index = 0
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            yield self._read_node(event, (*path, index))
            index += 1

    def _read_children(self, path: KeyPath) -> dict[str, Child]:
        children: dict[str, Child] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            key = self._read_key(event, path)
            value = self._read_node(next(self.events), (*path, "?" if key is None else key))
            if key is None:
                continue
            if key in children:
                self._report(event, (*path, key), f"given twice; first in {_location_text(children[key].key_location)}")
                continue
            children[key] = Child(self._location(event), value)
        return children

    def _read_key(self, event: Any, path: KeyPath) -> str | None:
        """The key, or None after reporting a problem. A key that is no scalar is read to its end."""
        if not isinstance(event, yaml.ScalarEvent):
            node = self._read_node(event, (*path, "?"))
            if not isinstance(event, yaml.AliasEvent):
                what = "list" if isinstance(node, SequenceNode) else "mapping"
                self._report(event, path, f"a key must be a string, got a {what}")
            return None
        if event.value == "<<" and event.style is None:
            self._report(event, path, MERGE_KEYS)
            return None
        num_before = len(self.problems)
        key = self._read_node(event, path)
        assert isinstance(key, ScalarNode)
        if isinstance(key.value, str) and key.value:
            return key.value
        if len(self.problems) == num_before:
            written = printable(event.value) or "nothing"
            self._report(event, path, f"a key must be a string, got {written}; put quotes around it")
        return None

    def _location(self, event: Any) -> Location:
        if not self.location.line:
            return self.location
        return Location(self.location.source, event.start_mark.line + 1, event.start_mark.column + 1)

    def _report(self, event: Any, path: KeyPath, message: str) -> None:
        location = self.location if event is None else self._location(event)
        self.problems.append(location.problem(dotted(path), message))


def _location_text(location: Location) -> str:
    return f"line {location.line}" if location.line else location.source
