"""What a run that has come to its end says of itself, for when its last checkpoint can no longer be read."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlkit.core.metric_rows import Row
from dlkit.core.modelfile import read_model_file
from dlkit.core.training.folder.run_folder import MODEL_FILE, SUMMARY_FILE, read_mapping
from dlkit.errors import FileRefused

_ENDS = ("finished", "early_stopped")


@dataclass(frozen=True)
class EndedRun:
    """How a run ended, the metrics of its test, what made its best weights the best, and the rows of its epochs."""

    status: str
    test: Mapping[str, float]
    best: Mapping[str, Any]
    history: list[Row]


def read_ended(run_dir: Path) -> EndedRun | None:
    """Returns what a run came to; None for one that is not at its end, or whose model file cannot be read."""
    status = read_mapping(run_dir / "run.json").get("status")
    summary = read_mapping(run_dir / SUMMARY_FILE)
    test, best = summary.get("test"), summary.get("best")
    if status not in _ENDS or not (isinstance(test, dict) and isinstance(best, dict)):
        return None
    try:
        read_model_file(run_dir / MODEL_FILE)
    except FileRefused:
        return None
    return EndedRun(status, test, best, list(_epochs(run_dir / "metrics.jsonl")))


def _epochs(path: Path) -> Iterator[Row]:
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    for line in lines:
        row = json.loads(line)
        if row.pop("event") == "epoch":
            yield row
