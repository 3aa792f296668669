"""train.log: what people saw, as plain lines with the time."""

from pathlib import Path

from dlkit.core.environment import now
from dlkit.event_lines import event_line
from dlkit.events import Emit, Event, Progress, Throttle

PROGRESS_EVERY_S = 30.0


def log_to(path: Path, emit: Emit) -> Emit:
    """A report that also appends to a text file; progress at most every half minute."""
    throttle = Throttle(PROGRESS_EVERY_S)

    def report_and_log(event: Event) -> None:
        emit(event)
        if isinstance(event, Progress) and not throttle.is_due():
            return
        if (line := event_line(event)) is not None:
            with path.open("a", encoding="utf-8") as file:
                file.write(f"{now()} {line}\n")

    return report_and_log
