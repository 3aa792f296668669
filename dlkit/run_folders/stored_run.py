"""A run as its folder tells of it, whatever became of the run: one that goes on, was killed, is damaged or of another version."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import yaml

from dlkit.run_folders.layout import MODEL_FILE, RESOLVED_FILE, RUN_FILE, SUMMARY_FILE, read_mapping
from dlkit.run_folders.lock import is_in_use
from dlkit.run_folders.metrics import Metrics, Row, read_metrics
from dlkit.run_folders.settings import flat_settings

SUMMARY_SCHEMA = "dlkit.train/1"
LARGEST_CONFIG = 2**20  # bytes
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class StoredRun:
    """What a run folder holds. `status` is that of run.json (running, finished, early_stopped, max_time, pruned, interrupted, diverged,
    failed), `killed` where that says running and no process has the folder, `damaged` where it cannot be read. `config` is the
    resolved one, `facts` is run.json; what cannot be read is empty, and `problems` has a line for it.
    """

    path: Path
    status: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    summary: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name of the folder."""
        return self.path.resolve().name

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The resolved config by dotted key."""
        return flat_settings(self.config)

    @property
    def model(self) -> str:
        """The name of the network."""
        return str(self.settings.get("model.name", ""))

    @property
    def data(self) -> str:
        """The name of the data set."""
        return str(self.settings.get("data.name", ""))

    @cached_property
    def test(self) -> dict[str, float]:
        """The metrics of the test split; none before the end."""
        found = self.summary.get("test")
        return {name: value for name, value in found.items() if _is_number(value)} if isinstance(found, dict) else {}

    @cached_property
    def best(self) -> Mapping[str, Any]:
        """`metric`, `value` and `epoch` of the best epoch, so far where the run has no summary; empty where nothing was validated."""
        found = self.summary.get("best")
        if isinstance(found, dict) and _is_number(found.get("value")) and isinstance(found.get("metric"), str):
            return found
        return _best_of(self.epochs, str(self.settings.get("checkpoint.metric")), self.settings.get("checkpoint.mode"))

    @cached_property
    def epochs(self) -> list[Row]:
        """The metrics of each epoch."""
        return read_metrics(self.path, with_steps=False).epochs

    @cached_property
    def metrics(self) -> Metrics:
        """The metrics of epochs and of steps."""
        return read_metrics(self.path)

    @property
    def train_s(self) -> float | None:
        """Seconds of training, without validation, up to the last whole epoch."""
        told = self.summary.get("train_s", self.epochs[-1].get("train_s") if self.epochs else None)
        return float(told) if _is_number(told) else None

    @property
    def model_path(self) -> Path | None:
        """The model file, where there is one."""
        path = self.path / MODEL_FILE
        return path if path.is_file() else None

    @cached_property
    def files(self) -> dict[str, int]:
        """All files, by their path in the folder, with their bytes."""
        paths = sorted(path for path in self.path.rglob("*") if path.is_file() and not path.is_symlink())
        return {path.relative_to(self.path).as_posix(): path.stat().st_size for path in paths}


def read_run(path: Path) -> StoredRun:
    """Returns what a run folder tells; what is missing or damaged is named in its `problems`. Raises nothing for a broken folder."""
    problems: list[str] = []
    facts = _read_object(path / RUN_FILE, problems)
    status = _status_of(path, facts, problems)
    summary = _read_object(path / SUMMARY_FILE, problems)
    if summary and summary.get("schema") != SUMMARY_SCHEMA:
        problems.append(
            f"{path / SUMMARY_FILE}: schema {summary.get('schema')!r:.60}, this dlkit reads {SUMMARY_SCHEMA}"
        )
        summary = {}
    if status in ("running", "killed"):
        summary = {}  # of the run before it was gone on with
    return StoredRun(path, status, facts, summary, _read_config(path / RESOLVED_FILE, problems), tuple(problems))


def _status_of(path: Path, facts: Mapping[str, Any], problems: list[str]) -> str:
    if problems:
        return "damaged"
    told = facts.get("status", "running")  # without run.json it is being made, or was killed while it was
    if not isinstance(told, str):
        problems.append(f"{path / RUN_FILE}: the status is no text")
        return "damaged"
    return told if told != "running" else "running" if is_in_use(path) else "killed"


def _read_object(path: Path, problems: list[str]) -> dict[str, Any]:
    found = read_mapping(path)
    if not found and path.exists():
        problems.append(f"{path}: no JSON object, or not to be read")
    return found


def _read_config(path: Path, problems: list[str]) -> dict[str, Any]:
    try:
        if path.stat().st_size > LARGEST_CONFIG:
            raise ValueError(f"larger than {LARGEST_CONFIG:,} bytes")
        return _parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        problems.append(f"{path}: no config: {' '.join(str(error).split()):.100}")
        return {}


def _parse(text: str) -> dict[str, Any]:
    """The mapping in a config as dlkit writes it, in blocks with empty lines between; most are the same in many runs, and are read once.

    Raises ValueError or YAMLError for what is none.
    """
    values: dict[str, Any] = {}
    for block in text.split("\n\n"):
        values |= _parse_block(block)
    return values


@lru_cache(maxsize=4096)
def _parse_block(block: str) -> dict[str, Any]:
    if "&" in block and any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(block, _Loader)):
        raise ValueError("aliases are not used in configs")
    values = yaml.load(block, _Loader)
    if not isinstance(values, dict):
        raise ValueError("not a mapping")
    return values


def _best_of(epochs: list[Row], metric: str, mode: Any) -> dict[str, Any]:
    judged = [(value, row.get("epoch")) for row in epochs if (value := row.get(metric)) is not None]
    if not judged:
        return {}
    value, epoch = (min if mode == "min" else max)(judged, key=lambda pair: pair[0])
    return {"metric": metric, "value": value, "epoch": epoch}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
