"""YAML syntax errors in words for people; PyYAML's own speak of tokens, block ends and simple keys."""

import re
from dataclasses import dataclass

import yaml

_QUOTE = "{0} are not used in configs; put quotes around a string that begins with {1!r}"
ALIASES = _QUOTE.format("aliases", "*")
ANCHORS = _QUOTE.format("anchors", "&")
TAGS = _QUOTE.format("tags (!name)", "!")
MERGE_KEYS = "merge keys ('<<') are not used in configs; put what is shared into a file of its own and use extends"
_COLON = re.compile(r":\s")
_NO_COLON = "expected 'key: value' here; ':' followed by a space is missing"
_CONTEXTS = {"while scanning an alias": ALIASES, "while scanning an anchor": ANCHORS, "while scanning a tag": TAGS}
_TEXTS = (
    (r"character '\\t' that cannot start", "a tab is used for indentation; YAML indents with spaces"),
    (r"character (.+) that cannot start", "a string cannot begin with {0}; put quotes around it"),
    (
        r"unknown escape character (.+)",
        "unknown escape {0} in a double-quoted string; use single quotes, where '\\' is an ordinary character",
    ),
    (r"escape sequence of (\d+) hexadec", "an escape in a double-quoted string needs {0} hexadecimal digits"),
    (
        r"sequence entries are not allowed",
        "a list item ('- ') cannot begin here; begin the list on a line of its own, below its key",
    ),
    (r"mapping keys are not allowed", "a key cannot begin here; begin it on a line of its own"),
    (r"expected ',' or '(.)', but got", "expected ',' or '{0}' here"),
    (r"expected <block end>, but found '-'", "this list item is not indented like its neighbours"),
    (r"expected <block end>", "this line is not indented like its neighbours"),
    (r"expected the node content, but found '<(?:stream end|block end)>'", "a value is missing here"),
    (r"expected the node content, but found (.+)", "expected a value, found {0}"),
    (r"expected '<document start>', but found (.+)", "unexpected text behind the end of the config: {0}"),
    (r"undefined tag handle", TAGS),
    (r"incompatible YAML document", "a %YAML directive other than 1.1 or 1.2"),
)


@dataclass(frozen=True)
class SyntaxMistake:
    """What is wrong, and where: line and column count from 1; line 0 means unknown."""

    line: int
    column: int
    message: str


def explain_syntax(error: yaml.YAMLError, text: str) -> SyntaxMistake:
    """Explain an error of PyYAML's reader, scanner or parser in one sentence."""
    if isinstance(error, yaml.reader.ReaderError):
        return _explain_character(error, text)
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return SyntaxMistake(0, 0, f"this is not YAML: {error}")
    problem, mark = error.problem or "", error.problem_mark
    begun = error.context_mark or mark
    if message := _CONTEXTS.get(error.context or ""):
        return _at(begun, message)
    if "could not find expected ':'" in problem:
        return _at(begun, _NO_COLON)
    if "scanning a quoted scalar" in (error.context or "") and (
        "end of stream" in problem or "document separator" in problem
    ):
        return _at(begun, "this quote is never closed")
    if "<stream end>" in problem and "flow" in (error.context or ""):
        bracket = text[begun.index : begun.index + 1]
        return _at(
            begun, f"this {bracket!r} is never closed" if bracket in ("{", "[") else "a '{' or '[' is never closed"
        )
    if "mapping values are not allowed" in problem:
        return _explain_colon(text, mark)
    return _at(mark, _reword(problem))


def _at(mark: yaml.Mark, message: str) -> SyntaxMistake:
    return SyntaxMistake(mark.line + 1, mark.column + 1, message)


def _explain_character(error: yaml.reader.ReaderError, text: str) -> SyntaxMistake:
    before = text[: error.position]
    line = before.count("\n")
    return SyntaxMistake(
        line + 1, len(before) - before.rfind("\n"), f"the character U+{ord(text[error.position]):04X} is not allowed"
    )


def _explain_colon(text: str, mark: yaml.Mark) -> SyntaxMistake:
    """An unexpected ':': the second on its line, or the first after a line that lacks one."""
    lines = text[: mark.index].split("\n")
    if _COLON.search(lines[-1]):
        return _at(mark, "a second ': ' on this line; put quotes around a string that holds one")
    above = next((number for number in range(len(lines) - 2, -1, -1) if lines[number].strip()), 0)
    if not _COLON.search(lines[above] + "\n"):
        return SyntaxMistake(above + 1, len(lines[above]) - len(lines[above].lstrip()) + 1, _NO_COLON)
    return _at(mark, "this line is indented deeper than the line above it, which already has a value")


def _reword(problem: str) -> str:
    for pattern, message in _TEXTS:
        if match := re.search(pattern, problem):
            return message.format(*match.groups())
    return f"this is not YAML: {problem}"
