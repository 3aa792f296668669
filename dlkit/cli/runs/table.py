"""The table of `dlkit runs`, and its JSON."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dlkit.cli.console import show_lines, show_table, stderr_console
from dlkit.cli.display import heading
from dlkit.cli.short_settings import short_names, short_setting
from dlkit.event_lines import metric_value
from dlkit.files import to_json
from dlkit.quantities import counted, duration_text
from dlkit.run_folders import FREE_SETTINGS, StoredRun, differing_settings, is_among

MOST_SETTINGS = 8  # columns of settings; a terminal shows as many of them as fit
MOST_PROBLEMS = 20
_NOT_TOLD = FREE_SETTINGS | {"model.name", "data.name", "runtime", "checkpoint", "eval"}
# what people change most comes first; then the sections in this order
_FIRST = ("optimizer.lr", "optimizer.name", "seed", "train.epochs", "data.batch_size")
_SECTIONS = ("model", "optimizer", "schedule", "loss", "train", "ema", "data")
_ENDED = {"finished", "early_stopped", "damaged"}


def show_runs(runs: Sequence[StoredRun], folders: Sequence[Path]) -> None:
    """Print a row for each run, and to stderr what is wrong with run folders."""
    where = ", ".join(map(str, folders))
    if not runs:
        show_lines([f"no runs in {where}"])
        return
    settings = telling_settings(runs)
    columns = ["run", "status", "model", "data", *short_names(settings), *_metric_headings(runs), "time"]
    rows = [
        [_name(run, folders), _status(run), run.model, run.data]
        + [short_setting(values[index]) for values in settings.values()]
        + [*_metrics(run), "" if run.train_s is None else duration_text(run.train_s)]
        for index, run in enumerate(runs)
    ]
    same = [index for index in (2, 3) if len({row[index] for row in rows}) == 1]
    rest = [len(columns) - 1, 3, 2]
    optional = [*same, *reversed(range(4, 4 + len(settings))), *(index for index in rest if index not in same)]
    show_table(columns, rows, title=f"{counted(len(runs), 'run')} in {where}", left=4, optional=optional)
    problems = [problem for run in runs for problem in run.problems]
    more = [f"... and {len(problems) - MOST_PROBLEMS} more"] if len(problems) > MOST_PROBLEMS else []
    show_lines([f"note: {problem}" for problem in problems[:MOST_PROBLEMS]] + more, console=stderr_console())


def telling_settings(runs: Sequence[StoredRun]) -> dict[str, list[Any]]:
    """Returns the settings that differ between runs and that matter for what they came to, the most telling first."""
    known = [run for run in runs if run.config]
    found = differing_settings([run.settings for run in known])
    keys = sorted((key for key in found if not is_among(key, _NOT_TOLD)), key=_place)[:MOST_SETTINGS]
    return {key: [run.settings.get(key) for run in runs] for key in keys}


def _place(key: str) -> tuple[int, int]:
    section = key.split(".")[0]
    return (
        _FIRST.index(key) if key in _FIRST else len(_FIRST),
        _SECTIONS.index(section) if section in _SECTIONS else len(_SECTIONS),
    )


def _name(run: StoredRun, folders: Sequence[Path]) -> str:
    """The path below the folder that was searched."""
    below = next((folder for folder in folders if folder in run.path.parents), None)
    return os.fspath(run.path.relative_to(below)) if below else run.name


def _status(run: StoredRun) -> str:
    epochs = run.settings.get("train.epochs")
    return run.status if run.status in _ENDED or not epochs else f"{run.status} {len(run.epochs)}/{epochs}"


def _metric_headings(runs: Sequence[StoredRun]) -> list[str]:
    best = {str(run.best["metric"]) for run in runs if run.best}
    test = {name for run in runs if (name := tested_by(run))}
    return [
        heading(best.pop()) if len(best) == 1 else "best",
        heading(f"test_{test.pop()}") if len(test) == 1 else "test",
    ]


def _metrics(run: StoredRun) -> list[str]:
    best = metric_value(str(run.best["metric"]), run.best["value"]) if run.best else ""
    name = tested_by(run)
    return [best, metric_value(name, run.test[name]) if name else ""]


def tested_by(run: StoredRun) -> str:
    """Returns the metric of the test split that is of the kind of the best epoch's; empty without one."""
    judging = str(run.best.get("metric", "")).removeprefix("val_").removeprefix("ema_")
    return judging if judging in run.test else next(iter(run.test), "")


def runs_as_json(runs: Sequence[StoredRun]) -> str:
    """Returns everything that is known of the runs, in the order of the table."""
    rows = [
        {
            "path": str(run.path),
            "name": run.name,
            "status": run.status,
            "model": run.model,
            "data": run.data,
            "started": run.facts.get("started"),
            "epochs": run.summary["epochs"] if "epochs" in run.summary else len(run.epochs),
            "best": dict(run.best),
            "test": run.test,
            "train_s": run.train_s,
            "settings": run.settings,
            "problems": list(run.problems),
        }
        for run in runs
    ]
    return to_json({"schema": "dlkit.runs/1", "differing": list(telling_settings(runs)), "runs": rows})
