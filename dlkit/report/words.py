"""Texts of a page: numbers as people read them, and names that Plotly may not take for tags."""

import math
from collections.abc import Sequence
from html import escape
from pathlib import PurePath
from typing import Any

from dlkit.event_lines import metric_value
from dlkit.report.blocks import Cell
from dlkit.tasks import metric_of

LONGEST_NAME = 40


def plain(text: str, most: int = LONGEST_NAME) -> str:
    """Returns a text for Plotly, which knows some tags and entities: without any, and cut off where it is long."""
    short = text if len(text) <= most else f"{text[: most - 1]}…"
    return escape(short, quote=False)


def short_name(component: str) -> str:
    """Returns the name of a component without the folders of a file of one's own: `birds.py:Birds`."""
    return PurePath(component).name if ".py:" in component else component


def metric_title(name: str) -> str:
    """Returns what a metric is called: `accuracy`, `macro F1`; the name itself where there is no word."""
    return _TITLES.get(name) or metric_of(name).title or name.replace("_", " ")


_TITLES = {
    "ece": "expected calibration error",
    "auroc": "AUROC",
    "average_precision": "average precision",
    "macro_f1": "macro F1",
    "macro_precision": "macro precision",
    "macro_recall": "macro recall",
    "micro_f1": "micro F1",
    "subset_accuracy": "all labels right",
    "mae": "mean absolute error",
    "mse": "mean squared error",
    "rmse": "root mean squared error",
    "accuracy_tta": "accuracy, mirrored too",
    "map_tta": "mAP, mirrored too",
    "miou_tta": "mIoU, mirrored too",
    "miou_tta_scales": "mIoU, mirrored and scaled too",
}


def metric_cell(name: str, value: Any) -> Cell:
    """Returns the value of a metric."""
    return Cell(metric_value(name, value), float(value)) if is_number(value) else Cell("")


def interval_text(name: str, ends: Sequence[float] | None) -> str:
    """Returns lower and upper end of an interval, or nothing."""
    return " – ".join(metric_value(name, end) for end in ends or ())


def count_cell(value: Any) -> Cell:
    """Returns a whole number."""
    return Cell(f"{value:,}", value) if is_number(value) else Cell("")


def share_cell(value: Any) -> Cell:
    """Returns a fraction of 1 in percent."""
    return Cell(f"{value:.2%}", value) if is_number(value) else Cell("")


def number_cell(value: Any, digits: str = ".4g") -> Cell:
    """Returns a number with as many digits."""
    return Cell(f"{value:{digits}}", value) if is_number(value) else Cell("")


def change_cell(name: str, change: float) -> Cell:
    """Returns by how much a metric is off, in points where it is a fraction."""
    text = f"{100 * change:+.2f} points" if metric_of(name).is_percent else f"{change:+.4f}"
    return Cell(text if any(digit in text for digit in "123456789") else "0", change)


def is_number(value: Any) -> bool:
    """Whether a value from a file is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
