"""The metrics of a run by step and by epoch, read from a file that a kill may have cut off and that may still grow."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dlkit.run_folders.layout import METRICS_FILE

Row = dict[str, float | int | None]
_EPOCH = '{"event": "epoch"'


@dataclass(frozen=True)
class Metrics:
    """The rows of epochs and of optimizer steps, and a line for each that could not be read."""

    epochs: list[Row] = field(default_factory=list)
    steps: list[dict[str, Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def read_metrics(run_dir: Path, *, with_steps: bool = True) -> Metrics:
    """Returns what metrics.jsonl holds; nothing where it is missing. Steps may be many, and are then left out."""
    metrics, path = Metrics(), run_dir / METRICS_FILE
    try:
        text = path.read_text(encoding="utf-8") if path.exists() else ""
    except (OSError, ValueError) as error:
        metrics.problems.append(f"{path}: {_reason(error)}")
        return metrics
    whole = text[: text.rfind("\n") + 1]  # the last line may still be written
    for number, line in enumerate(whole.split("\n")[:-1], 1):
        if with_steps or line.startswith(_EPOCH):
            for problem in _take(line, metrics):
                metrics.problems.append(f"{path}:{number}: {problem}")
    return metrics


def _take(line: str, metrics: Metrics) -> Iterator[str]:
    """Add a line to the rows of its kind; yields what is wrong with it."""
    try:
        row = json.loads(line)
        event = row.pop("event")
        rows = {"epoch": metrics.epochs, "step": metrics.steps}[event]
    except (ValueError, RecursionError, AttributeError, KeyError, TypeError):
        yield "neither an epoch nor a step"
        return
    if all(value is None or isinstance(value, int | float) for value in row.values() if not isinstance(value, list)):
        rows.append(row)
    else:
        yield "holds what is no number"


def _reason(error: OSError | ValueError) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else "not UTF-8"
