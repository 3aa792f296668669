"""What the line of `dlkit lr-plot` asks for: schedules with their options, the length of the run, a metric."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dlkit.errors import UsageError
from dlkit.quantities import parse_count, parse_warmup

DEFAULT_EPOCHS = 100
MOST_STEPS = 5_000_000


@dataclass(frozen=True)
class LrPlotRequest:
    """What the words on the line say: schedules with their options, or a config with overrides."""

    names: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    config: Path | None = None
    overrides: tuple[str, ...] = ()


def read_request(words: Sequence[str]) -> LrPlotRequest:
    """Sort the words: names, a composition, a config file, options. Raises UsageError for what is none of them."""
    from dlkit.schedules import read_plain

    names: list[str] = []
    options: dict[str, Any] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word.startswith("--"):
            option, value = _read_flag(word, rest)
            options[option] = value
        elif re.match(r"\w+=", word):
            option, _, text = word.partition("=")
            options[option] = read_plain(text)
        elif ";" in word or " " in word.strip():
            names = [*(name for name in names if name not in ("seq", "sequence")), "sequence"]
            options["pieces"] = word
        else:
            names += [name for name in word.split(",") if name]
    if names and names[0].endswith((".yaml", ".yml")):
        return _read_config_request(words)
    if not names:
        raise UsageError("which schedule? For example: dlkit lr-plot cosine --lr 0.1 --epochs 90 --steps-per-epoch 391")
    return LrPlotRequest(tuple(names), options)


def _read_config_request(words: Sequence[str]) -> LrPlotRequest:
    """A config file and `key=value` overrides; curve options stand in the config."""
    first, *rest = words
    if strange := [word for word in rest if word.startswith("-") or not ("=" in word or word.startswith("~"))]:
        raise UsageError(f"{strange[0]!r} does not go with a config; change it by key, such as schedule.eta_min=1e-5")
    return LrPlotRequest(config=Path(first), overrides=tuple(rest))


def config_changes(
    *, lr: float | None, epochs: int | None, steps: str | None, unit: str, warmup: str, warmup_from: float
) -> list[str]:
    """Options of the line as overrides of a config, where they were given."""
    given = {
        "optimizer.lr": lr,
        "train.epochs": epochs,
        "train.max_steps": None if steps is None else read_count(steps),
        "schedule.unit": None if unit == "auto" else unit,
        "schedule.warmup": None if warmup == "0" else warmup,
        "schedule.warmup_from": None if warmup_from == 0.01 else warmup_from,
    }
    return [f"{key}={value}" for key, value in given.items() if value is not None]


def _read_flag(word: str, rest: list[str]) -> tuple[str, Any]:
    """`--step-size 30`, `--step-size=30`, `--three-phase`, `--no-cycle-momentum`; takes its value off the rest."""
    from dlkit.schedules import read_plain

    option, has_value, text = word.removeprefix("--").partition("=")
    option = option.replace("-", "_")
    if not has_value and option.startswith("no_"):
        return option.removeprefix("no_"), False
    if not has_value:
        if not rest or rest[0].startswith("--") or option == "three_phase":
            return option, True
        text = rest.pop(0)
    return option, read_plain(text)


@dataclass(frozen=True)
class Frame:
    """The run that a schedule is placed in."""

    total_steps: int
    steps_per_epoch: int
    unit: str = "auto"
    warmup: str = "0"
    warmup_from: float = 0.01

    @property
    def warmup_steps(self) -> int:
        """The warm-up in steps, at most the run."""
        try:
            length = parse_warmup(int(self.warmup) if self.warmup.isdecimal() else self.warmup)
        except ValueError as error:
            raise UsageError(f"--warmup: {error}") from None
        steps = length.to_steps(total_steps=self.total_steps, steps_per_epoch=self.steps_per_epoch)
        return min(steps, self.total_steps)


def plan_run(
    epochs: int | None, steps: str | None, steps_per_epoch: int | None, *, num_metrics: int = 0
) -> tuple[int, int]:
    """Total steps and steps per epoch. A plateau's metrics, one per epoch, give the length if nothing else does."""
    if steps is None:
        per_epoch = steps_per_epoch or 1
        total = (epochs or num_metrics or DEFAULT_EPOCHS) * per_epoch
    else:
        total = read_count(steps)
        per_epoch = steps_per_epoch or (-(-total // epochs) if epochs else 1)
        if epochs and steps_per_epoch and epochs * steps_per_epoch != total:
            given = f"--epochs {epochs} times --steps-per-epoch {steps_per_epoch}"
            raise UsageError(f"--steps {total} is not {given}; leave one out")
    if total > MOST_STEPS:
        raise UsageError(f"{total:,} steps are too many to follow one by one; the most is {MOST_STEPS:,}")
    return total, per_epoch


def read_count(text: str) -> int:
    """A number of steps: `5000`, `10k`, `1.5M`."""
    try:
        count = round(parse_count(text))
    except (ValueError, OverflowError):
        count = 0
    if count < 1:
        raise UsageError(f"--steps: expected a number of steps such as 5000 or 10k, got {text!r}")
    return count


def load_metrics(metrics: str | None, series: str | None) -> list[float] | None:
    """What a plateau is to see, from a file's column or from the line."""
    from dlkit.schedules import load_column, read_series

    if metrics is None:
        return None if series is None else read_series(series)
    path, colon, column = metrics.rpartition(":")
    if not colon:
        raise UsageError(f"--metrics: expected FILE:COLUMN such as runs/x/metrics.csv:val_loss, got {metrics!r}")
    return load_column(Path(path), column)
