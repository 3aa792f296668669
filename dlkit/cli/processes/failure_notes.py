"""How a process of several tells why it failed: to the one that started it through a file, else on its own stderr."""

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from dlkit.cli.processes.environment import is_main_process
from dlkit.errors import Interrupted, LostProcess, UsageError, exit_code_of

ERROR_FILE = "DLKIT_ERROR_FILE"
_TORCHRUN_FILE = "TORCHELASTIC_ERROR_FILE"


@dataclass(frozen=True)
class FailureNote:
    """What is shown to people. `is_lost` says that the process only saw another one go; `is_quiet` that this is no error."""

    text: str
    exit_code: int
    is_lost: bool
    is_quiet: bool


def note_failure(error: Exception, text: str) -> bool:
    """Pass a failure on where somebody else is to show it; whether this process keeps silent about it."""
    note = FailureNote(text, exit_code_of(error), isinstance(error, LostProcess), isinstance(error, Interrupted))
    if path := os.environ.get(ERROR_FILE):
        with suppress(OSError):
            Path(path).write_text(json.dumps(asdict(note)), encoding="utf-8")
            return True
    if path := os.environ.get(_TORCHRUN_FILE):
        with suppress(OSError):
            message = {"message": text, "extraInfo": {"py_callstack": "", "timestamp": "0"}}
            Path(path).write_text(json.dumps({"message": message}), encoding="utf-8")
    return _is_told_by_another(error)


def _is_told_by_another(error: Exception) -> bool:
    """Under torchrun: what all processes meet alike is told by one of each machine, what one meets by itself."""
    if is_main_process():
        return False
    if isinstance(error, LostProcess | Interrupted):
        return True
    return isinstance(error, UsageError) and os.environ.get("LOCAL_RANK", "0") != "0"


def read_failure(path: Path) -> FailureNote | None:
    """What `note_failure` wrote, if it came to that."""
    try:
        return FailureNote(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
