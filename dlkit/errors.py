"""The error tree. Library code raises these; only `cli/app.py` turns them into a message and an exit code.

DlkitError                1  a failure with no better class
+-- UsageError            2  a wrong option or argument
|   +-- ConfigError       2  one or more problems in a config file, each with its location
|   +-- OutputError       2  an output file or folder that cannot be used
+-- DataError             3  data that is missing, broken or does not fit the model
+-- FileRefused           4  a model or checkpoint file that is corrupt or unsafe to load
+-- Diverged              5  a loss that is not finite
+-- OutOfResource         6  memory or disk ran out
+-- LostProcess           1  another process of the same run is gone
+-- LostLoader            1  a process that reads samples is gone
+-- Interrupted     128 + n  stopped by signal n, after saving
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class DlkitError(Exception):
    """Base of all errors that users can fix: the message says what is wrong, where, and what would be right."""

    exit_code = 1


class UsageError(DlkitError):
    """A wrong option or argument."""

    exit_code = 2


@dataclass(frozen=True)
class Problem:
    """One mistake in a config: its location, the dotted key, and what would be right.

    Line 0 means that the source has no lines; an empty key means the whole source.
    """

    source: str
    line: int
    column: int
    key: str
    message: str

    def __str__(self) -> str:
        location = f"{self.source}:{self.line}:{self.column}" if self.line else self.source
        return f"{location}  {self.key}: {self.message}" if self.key else f"{location}  {self.message}"


class ConfigError(UsageError):
    """All problems found in a config, sorted by location."""

    MOST_SHOWN = 50

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = sorted(problems, key=lambda problem: (problem.source, problem.line, problem.column))
        super().__init__("\n".join(map(str, self.problems)))

    def report(self) -> str:
        """A line per problem, up to a limit, and a closing line with their number."""
        lines = [str(problem) for problem in self.problems[: self.MOST_SHOWN]]
        if len(self.problems) > self.MOST_SHOWN:
            lines.append(f"... and {len(self.problems) - self.MOST_SHOWN} more")
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        return "\n".join([*lines, f"{count}; nothing was started. Full key list: dlkit config schema"])


class OutputError(UsageError):
    """An output file or folder that cannot be written, or is in use."""


class DataError(DlkitError):
    """Data that is missing, broken or does not fit the model."""

    exit_code = 3


class FileRefused(DlkitError):
    """A model or checkpoint file that is corrupt, of another kind, or unsafe to load."""

    exit_code = 4

    def __init__(self, path: str | Path, reason: str) -> None:
        self.path = Path(path)
        super().__init__(f"{path}: {reason}")


class Diverged(DlkitError):
    """The loss or a gradient became NaN or infinite. `facts` are what is known of the step at fault."""

    exit_code = 5

    def __init__(self, message: str, facts: Mapping[str, Any] | None = None) -> None:
        self.facts = dict(facts or {})
        super().__init__(message)


class OutOfResource(DlkitError):
    """Memory or disk ran out."""

    exit_code = 6


class LostProcess(DlkitError):
    """Another process of the same run ended or does not answer; its own output has the cause."""


class LostLoader(DlkitError):
    """A process that reads samples for the run ended."""


class Interrupted(DlkitError):
    """The run was stopped by a signal, after saving."""

    def __init__(self, signal_number: int, message: str) -> None:
        self.exit_code = 128 + signal_number
        super().__init__(message)


def exit_code_of(error: BaseException) -> int:
    """The exit code that a command ends with after this error."""
    return error.exit_code if isinstance(error, DlkitError) else 1


def first_line(error: BaseException, most: int | None = None) -> str:
    """The first line of an error's message, up to `most` characters, or the name of its class if it has none."""
    lines = str(error).strip().splitlines()
    return lines[0][:most] if lines else type(error).__name__
