"""What a sweep was asked for, as far as it needs no torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlkit.choices import PrunerName, SamplerName
from dlkit.config import SearchSpace
from dlkit.errors import ConfigError, Problem, UsageError

# where things lie, how fast they come and what is told of them: machines that join may differ in these
_FREE = {"name", "log", "runtime"}
_FREE_DATA = {"root", "download", "cache", "cache_dir", "num_workers", "pin_memory", "persistent_workers", "timeout"}


@dataclass(frozen=True)
class SweepRequest:
    """What to search, how, and for how long. `trials` count those of all workers together, `seconds` are of this one alone;
    `folds` are parts of the training split for cross-validation, `seeds` how often each trial runs with another seed. `out` is the
    sweep's folder, `storage` the URL of a data base in place of a journal in it.
    """

    space: SearchSpace
    trials: int | None = None
    seconds: float | None = None
    sampler: SamplerName = "tpe"
    pruner: PrunerName = "asha"
    folds: int | None = None
    seeds: int = 1
    storage: str | None = None
    out: Path | None = None

    @property
    def most_trials(self) -> int | None:
        """The trials at which the sweep ends; None where only time ends it. A grid has so many points."""
        points = self.num_points if self.sampler == "grid" else None
        return points if self.trials is None else min(self.trials, points or self.trials)

    @property
    def num_points(self) -> int:
        """The points of a grid."""
        product = 1
        for space in self.space.spaces:
            product *= len(space.points or ())
        return product

    @property
    def members(self) -> list["TrialRun"]:
        """The runs that make up a trial."""
        seed = self.space.base.config.seed
        folds = [None] if self.folds is None else range(1, self.folds + 1)
        return [
            TrialRun(seed + number, fold, self.folds, is_seeded=self.seeds > 1)
            for number in range(self.seeds)
            for fold in folds
        ]

    def describe(self) -> dict[str, Any]:
        """What all who join a sweep must agree on, as plain values."""
        config = self.space.base.config.model_dump(mode="json", exclude=_FREE)
        config["data"] = {key: value for key, value in config["data"].items() if key not in _FREE_DATA}
        return {
            "spaces": {space.key: _words(space.text) for space in self.space.spaces},
            "sampler": self.sampler,
            "pruner": self.pruner,
            "folds": self.folds,
            "seeds": self.seeds,
            "config": config,
        }


@dataclass(frozen=True)
class TrialRun:
    """One of the runs of a trial: its seed, and the fold, from 1, that validates."""

    seed: int
    fold: int | None
    folds: int | None
    is_seeded: bool

    @property
    def overrides(self) -> list[str]:
        """What sets it apart."""
        fold = [] if self.fold is None else [f"data.fold={{number: {self.fold}, of: {self.folds}}}"]
        return [f"seed={self.seed}", *fold]

    def folder(self, number: int) -> str:
        """The name of its run folder."""
        seed = f"-seed-{self.seed}" if self.is_seeded else ""
        return f"trial-{number:03d}{seed}" + ("" if self.fold is None else f"-fold-{self.fold}")


def _words(text: str) -> str:
    return text.partition("=")[2].strip()


def check_request(request: SweepRequest) -> None:
    """Raise UsageError, or ConfigError at the space at fault, for what does not go together."""
    if request.trials is None and request.seconds is None and request.sampler != "grid":
        raise UsageError("a sweep needs an end: --trials N, --time 30m, or both; --sampler grid ends by itself")
    problems = [
        Problem(space.place, 0, 0, space.key, "a grid needs a step, such as 0.0..0.5:0.1, or a list of values")
        for space in request.space.spaces
        if request.sampler == "grid" and space.points is None
    ]
    taken: Mapping[str, str] = {
        "data.fold": "--folds" if request.folds else "",
        "seed": "--seeds" if request.seeds > 1 else "",
    }
    problems += [
        Problem(space.place, 0, 0, space.key, f"this is what {taken[space.key]} varies; give one of both")
        for space in request.space.spaces
        if taken.get(space.key)
    ]
    if problems:
        raise ConfigError(problems)
    first = {space.key: space.values[0] for space in request.space.spaces}
    request.space.load(first, *request.members[0].overrides)
