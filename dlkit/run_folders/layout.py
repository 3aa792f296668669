"""What lies where in a run folder."""

import json
from pathlib import Path
from typing import Any

RUN_FILE = "run.json"
SUMMARY_FILE = "summary.json"
GIVEN_FILE = "config.yaml"
RESOLVED_FILE = "config.resolved.yaml"
METRICS_FILE = "metrics.jsonl"
MODEL_FILE = "model.pt"
PREDICTIONS_FILE = "predictions.npz"
EVALUATION_FILE = "evaluation.json"
EVALUATION_SCHEMA = "dlkit.evaluation/1"
LOCK_FILE = ".lock"
LAST, BEST = "last.pt", "best.pt"  # in checkpoints/


def has_begun(path: Path) -> bool:
    """Whether a run folder was made here, be it that the run wrote nothing more."""
    return any((path / name).is_file() for name in (RUN_FILE, LOCK_FILE))


def read_mapping(path: Path) -> dict[str, Any]:
    """Returns the JSON object in a file such as run.json; an empty one where there is none."""
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return facts if isinstance(facts, dict) else {}
