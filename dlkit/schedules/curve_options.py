"""Curves from names and plain options, for configs, command lines and compositions alike."""

from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, replace
from importlib import import_module
from typing import Any

from dlkit.errors import UsageError
from dlkit.registry import entries, find_entry
from dlkit.schedules.curves import Curve
from dlkit.schedules.plateau import Plateau

# torch's arguments that a config sets elsewhere
_ELSEWHERE = {
    "max_lr": "the peak is optimizer.lr",
    "optimizer": "it is the one of the section optimizer",
    "last_epoch": "a resumed run continues by itself",
    "verbose": "the rate is logged at every step",
    "epochs": "the length of the run is train.epochs",
    "steps_per_epoch": "it follows from the data and the batch size",
    "total": "the length of the run is known",
}
_EXAMPLES: dict[str, object] = {
    "milestones": [30, 60],
    "gamma": 0.95,
    "step_size": 30,
    "T_0": 10,
    "base_lr": 1e-4,
    "pieces": "linear 500 from 0.01; cosine rest",
}


def find_curve(name: str) -> tuple[str, type[Curve | Plateau]]:
    """The name and the class of a built-in schedule, given any spelling (`multistep`, `MultiStepLR`).

    Raises UsageError for any other name.
    """
    entry = find_entry("schedules", name)
    if entry is None or not entry.is_ours:
        known = ", ".join(entry.name for entry in entries("schedules").values() if entry.is_ours)
        raise UsageError(f"no built-in schedule {name!r}; there are {known}")
    module, attribute = entry.target.split(":")
    return entry.name, getattr(import_module(module), attribute)


def build_curve(kind: type[Curve | Plateau], options: Mapping[str, Any]) -> Curve | Plateau:
    """Build a curve from plain options; its automatic lengths stay None. Raises ValueError that says what would work."""
    known = {field.name: field for field in fields(kind)}
    for option in options:
        if option not in known:
            why = f": {_ELSEWHERE[option]}" if option in _ELSEWHERE else f"; it takes {', '.join(known) or 'none'}"
            raise ValueError(f"no option {option!r}{why}")
    given = {
        option: value
        for option, value in options.items()
        if not (_is_automatic(value) and known[option].default is None)
    }
    for option, field in known.items():
        if option not in given and _is_required(field):
            raise ValueError(f"{option} is needed, for example {option}: {_EXAMPLES.get(option, 10)}")
    return kind(**given)


def _is_automatic(value: object) -> bool:
    """Whether a value leaves the length to dlkit."""
    return value is None or value == "auto"


def _is_required(field: "Field[Any]") -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def fit_length(
    curve: Curve | Plateau, *, left: int, warmup: int, steps_per_epoch: int | None = None
) -> Curve | Plateau:
    """Fill in the automatic lengths of a curve: `left` is its share of the run, in its own unit."""
    lengths = {
        "T_max": left,
        "total_iters": left,
        "total_steps": left,
        "timescale": warmup or 10_000,
        "steps_per_epoch": steps_per_epoch,
    }
    automatic: dict[str, Any] = {
        option: length for option, length in lengths.items() if getattr(curve, option, 0) is None
    }
    return replace(curve, **automatic) if automatic else curve


def read_plain(text: str) -> Any:
    """Read a value from a command line: numbers, true, false, null, lists with or without brackets, else text.

    >>> read_plain("30,60"), read_plain("1e-3"), read_plain("cos")
    ([30, 60], 0.001, 'cos')
    """
    text = text.strip()
    if text.startswith("[") or "," in text:
        return [read_plain(item) for item in text.strip("[]").split(",") if item.strip()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"true": True, "false": False, "null": None}.get(text.lower(), text)


def stand_ins(name: str, given: Mapping[str, Any], *, length: int, base_lr: float) -> dict[str, Any]:
    """Values for required options that were not given, for a plot; `length` is that of the run in the curve's unit."""
    values: dict[str, Any] = {
        "step_size": max(length // 3, 1),
        "milestones": [length // 2, 3 * length // 4],
        "gamma": 0.01 ** (1 / length),
        "T_0": max(length // 3, 1),
        "base_lr": base_lr / 10,
    }
    missing = [field.name for field in fields(find_curve(name)[1]) if _is_required(field) and field.name not in given]
    return {option: values[option] for option in missing if option in values}
