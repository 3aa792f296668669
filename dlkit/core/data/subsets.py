"""Which samples make up the training, validation and test splits."""

from dataclasses import dataclass

import torch
from torch import Tensor

from dlkit.choices import SplitName
from dlkit.config import LoadedConfig
from dlkit.core.data.contract import Task
from dlkit.core.data.counter_rng import Stream
from dlkit.core.data.holding_out import hold_out, pick_limit
from dlkit.core.data.samples import Samples, Source


@dataclass(frozen=True)
class Subset:
    """The samples of one split: which rows of which samples, and their targets in that order."""

    name: SplitName
    samples: Samples
    rows: Tensor
    targets: Tensor


@dataclass(frozen=True)
class Subsets:
    """The splits of a run. `notes` are sentences about how they came about."""

    train: Subset
    val: Subset | None
    test: Subset | None
    notes: tuple[str, ...]

    def listed(self) -> list[Subset]:
        """Those that exist."""
        return [subset for subset in (self.train, self.val, self.test) if subset is not None]


def pick_subsets(loaded: LoadedConfig, source: Source, *, task: Task, seed: int) -> Subsets:
    """The splits as `data.val`, `data.test` and `data.limit` ask for.

    A fraction for test is held out first, then one for val from the rest, and `limit` picks from what remains, so that
    the held-out samples are the same whatever the limit. A validation split of the source's own is used in place of a
    fraction.
    """
    section = loaded.config.data
    notes: list[str] = []
    targets = shape_targets(source.train.targets, task)
    rows = torch.arange(len(source.train))
    test = _own_subset("test", source.test, task) if section.test == "auto" else None
    if isinstance(section.test, float):
        rows, held = hold_out(targets, section.test, seed=seed, stream=Stream.TEST)
        test = Subset("test", source.train, held, targets[held])
    val: Subset | None = None
    if section.val == "test":
        val = _test_as_val(loaded, test or _own_subset("test", source.test, task), notes)
    elif section.val != "none" and source.val is not None:
        val = _own_subset("val", source.val, task)
        notes.append(f"validating on the data set's own {len(source.val)} validation samples")
    elif isinstance(section.val, float):
        kept, held = hold_out(targets[rows], section.val, seed=seed, stream=Stream.VAL)
        rows, val = rows[kept], Subset("val", source.train, rows[held], targets[rows[held]])
    rows = rows[pick_limit(len(rows), section.limit, seed=seed)]
    return Subsets(Subset("train", source.train, rows, targets[rows]), val, test, tuple(notes))


def shape_targets(targets: Tensor, task: Task) -> Tensor:
    """Targets as the task has them: int64 (N,), or float32 (N, num_outputs)."""
    return targets if task == "classification" else targets.float().reshape(len(targets), -1)


def _own_subset(name: SplitName, samples: Samples | None, task: Task) -> Subset | None:
    if samples is None:
        return None
    return Subset(name, samples, torch.arange(len(samples)), shape_targets(samples.targets, task))


def _test_as_val(loaded: LoadedConfig, test: Subset | None, notes: list[str]) -> Subset:
    if test is None:
        raise loaded.error(("data", "val"), "this data set has no test split; give a fraction such as 0.1, or none")
    notes.append(
        "validation uses the test split: whatever is chosen by it, the best checkpoint say, "
        "makes the test figures too good"
    )
    return Subset("val", test.samples, test.rows, test.targets)
