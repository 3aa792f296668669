"""What runs are listed, chosen and sorted by: results and facts by name, settings by dotted key."""

from collections.abc import Iterable, Sequence
from typing import Any

from dlkit.config import resolve_scalar
from dlkit.errors import ConfigError, Problem
from dlkit.run_folders.settings import default_settings
from dlkit.run_folders.stored_run import StoredRun
from dlkit.suggestions import did_you_mean
from dlkit.tasks import METRICS, metric_of

_FACTS = ("started", "ended", "parameters", "device", "precision", "processes")
_RESULTS = ("epochs", "steps", "images_per_s")


def columns_of(run: StoredRun) -> dict[str, Any]:
    """Returns all that is known of a run: `status`, `test_accuracy`, `val_accuracy` (of the best epoch), `time` in seconds,
    `optimizer.lr` and so on.
    """
    best = run.best
    results = {"name": run.name, "status": run.status, "model": run.model, "data": run.data, "time": run.train_s}
    results |= {"best": best.get("value"), "best_epoch": best.get("epoch")}
    results |= {f"test_{name}": value for name, value in run.test.items()}
    if best:
        results[best["metric"]] = best["value"]
    results |= {name: run.facts.get(name) for name in _FACTS} | {name: run.summary.get(name) for name in _RESULTS}
    return {**run.settings, **results}


def check_key(key: str, source: str, known: Iterable[str]) -> None:
    """Raise ConfigError for a key that no run has and no config could have; `source` is where it was written."""
    keys = dict.fromkeys((*known, *default_settings()))
    is_metric = key.partition("_")[2] in METRICS  # such as test_accuracy, where no run has come to its test yet
    if key not in keys and not is_metric:
        ending = [other for other in keys if other.split(".")[-1] == key]
        meant = f" Did you mean {' or '.join(map(repr, ending[:3]))}?" if ending else did_you_mean(key, keys)
        raise ConfigError([Problem(source, 0, 0, key, f"no run has this, and it is no key of a config.{meant}")])


def sort_runs(runs: Sequence[StoredRun], key: str | None) -> list[StoredRun]:
    """Returns runs in order of a column, the best or greatest last, where a terminal has its prompt; by default by when they began.

    Runs that lack it come first. Raises ConfigError for an unknown key.
    """
    columns = {run.path: columns_of(run) for run in runs}
    if key is None:
        return sorted(runs, key=lambda run: (str(run.facts.get("started", "")), str(run.path)))
    check_key(key, "--sort", [name for found in columns.values() for name in found])
    metric = key if key != "best" else next((run.best["metric"] for run in runs if run.best), "")
    is_better_less = metric.startswith(("test_", "val_")) and metric_of(metric).mode == "min"

    def rank(run: StoredRun) -> tuple[int, float, str]:
        value = columns[run.path].get(key)
        if isinstance(value, int | float):
            return 1, -value if is_better_less else value, ""
        return (0, 0.0, "") if value is None else (2, 0.0, str(value))

    return sorted(runs, key=rank)


def read_value(text: str) -> Any:
    """Returns a value as a config has it, `1e-3`, `true`, `null`, or a share such as `97%`."""
    if text.endswith("%") and isinstance(share := resolve_scalar(text[:-1]), int | float):
        return share / 100
    return resolve_scalar(text)
