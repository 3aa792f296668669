"""evaluation.json of a run folder: what the exported weights score on the split that judged them, read without torch."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from dlkit.errors import FileRefused
from dlkit.run_folders.layout import EVALUATION_FILE, EVALUATION_SCHEMA
from dlkit.tasks import TASK_NAMES, TaskName

LARGEST_FILE = 2**26  # bytes; a confusion matrix of 1,000 classes is 3 MB


@dataclass(frozen=True)
class StoredEvaluation:
    """As `dlkit eval --json` tells it; docs/commands/eval.md says what each holds. Rows are mappings."""

    task: TaskName
    split: str
    num_samples: int
    metrics: Mapping[str, float | None]
    intervals: Mapping[str, Sequence[float]] = field(default_factory=dict)
    classes: Sequence[str] = ()
    per_class: Sequence[Mapping[str, Any]] = ()
    confusion: Sequence[Sequence[int]] = ()
    per_label: Sequence[Mapping[str, Any]] = ()
    reliability: Sequence[Mapping[str, float]] = ()
    worst: Sequence[Mapping[str, Any]] = ()
    certain: Sequence[Mapping[str, Any]] = ()
    temperature: float | None = None


def read_evaluation(run_dir: Path) -> StoredEvaluation | None:
    """Returns what evaluation.json holds; None where there is none. Raises FileRefused for a file that is damaged or of another kind."""
    path = run_dir / EVALUATION_FILE
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise ValueError(f"larger than {LARGEST_FILE:,} bytes")
        found = json.loads(path.read_text(encoding="utf-8"))
        if found.pop("schema") != EVALUATION_SCHEMA:
            raise ValueError(f"its schema is not {EVALUATION_SCHEMA}")
        stored = StoredEvaluation(**{name: value for name, value in found.items() if name in _NAMES})
        _check(stored)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise FileRefused(path, f"cannot be read as an evaluation: {error}") from error
    return stored


def _check(stored: StoredEvaluation) -> None:
    """Raise ValueError or KeyError where what people are shown is of another form."""
    if stored.task not in TASK_NAMES:
        raise ValueError(f"the task {stored.task!r:.40} is not known")
    numbers = [*stored.metrics.values(), *(end for pair in stored.intervals.values() for end in pair)]
    numbers += [value for row in stored.per_class for name, value in row.items() if name != "name"]
    for rows, names in _ROWS.items():
        numbers += [row[name] for row in getattr(stored, rows) for name in names]
    numbers += [count for row in stored.confusion for count in row]
    numbers += [row.get("iou") for row in stored.worst]
    is_counted = type(stored.num_samples) is int
    if not is_counted or any(value is not None and type(value) not in (int, float) for value in numbers):
        raise ValueError("it holds what is no number")
    texts = [*stored.classes, stored.split]
    texts += [row[name] for row in (*stored.worst, *stored.certain) for name in ("name", "true", "predicted")]
    texts += [row["name"] for row in (*stored.per_class, *stored.per_label)]
    if any(type(value) is not str for value in texts):
        raise ValueError("it holds what is no text")
    if stored.confusion and any(len(row) != len(stored.classes) for row in [stored.confusion, *stored.confusion]):
        raise ValueError("its confusion matrix has other classes")


_NAMES = {part.name for part in fields(StoredEvaluation)}
_SAMPLE = ("position", "probability", "loss")
_ROWS = {
    "per_class": ("support", "precision", "recall"),
    "per_label": ("support", "auroc", "average_precision", "precision", "recall", "f1", "threshold"),
    "reliability": ("upper", "count", "confidence", "accuracy"),
    "worst": _SAMPLE,
    "certain": _SAMPLE,
}
