"""What a run that has come to its end says of itself, for when its last checkpoint can no longer be read."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlkit.core.modelfile import read_model_file
from dlkit.errors import FileRefused
from dlkit.run_folders import MODEL_FILE, RUN_FILE, SUMMARY_FILE, Row, read_mapping, read_metrics

_ENDS = ("finished", "early_stopped", "pruned")


@dataclass(frozen=True)
class EndedRun:
    """How a run ended, the metrics of its test, what made its best weights the best, and the rows of its epochs."""

    status: str
    test: Mapping[str, float]
    best: Mapping[str, Any]
    history: list[Row]


def read_ended(run_dir: Path) -> EndedRun | None:
    """Returns what a run came to; None for one that is not at its end, or whose model file cannot be read."""
    status = read_mapping(run_dir / RUN_FILE).get("status")
    summary = read_mapping(run_dir / SUMMARY_FILE)
    test, best = summary.get("test"), summary.get("best")
    if status not in _ENDS or not (isinstance(test, dict) and isinstance(best, dict)):
        return None
    try:
        read_model_file(run_dir / MODEL_FILE)
    except FileRefused:
        return None
    return EndedRun(status, test, best, read_metrics(run_dir, with_steps=False).epochs)
