"""What a tracker is told of a run before its first event."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from dlkit.events import Emit

TRACKERS = "trackers"  # in run.json: what each tracker is known as


@dataclass(frozen=True)
class TrackedRun:
    """A run that begins, or goes on. `config` is the resolved one, as plain values; `known_as` what the tracker gave to `remember`
    when the run began, so that it can go on with what it has; None the first time.
    """

    name: str
    folder: Path
    config: Mapping[str, Any]
    known_as: str | None
    remember: Callable[[str], None]


class PageWriter(Protocol):
    """What writes the page of a run that is over, and returns its path. It stands above core, so whoever has a run trained hands it in."""

    def __call__(self, run_dir: Path, output: Path | None = None, *, opens_models: bool = True) -> Path:
        """Write it, report.html in the run folder unless `output` says so; `opens_models` is for what takes torch and the data."""


# a tracker of one's own is a function that takes this, and its options by name, and returns what to call for each event
Tracker = Callable[..., Emit]
