"""Raw samples by index, before transforms: whole tensors, files, or anybody's dataset. And a source: what a data set
offers.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import Tensor

from dlkit.core.data.contract import Kind, TableColumn
from dlkit.tasks import TaskName


class Samples(Protocol):
    """Random access to raw samples: uint8 images CHW (or float ones, taken as scaled already), float features F or
    sequences TF.
    """

    @property
    def targets(self) -> Tensor:
        """Targets of all samples: int64 (N,) of classes, uint8 or float32 (N, num_outputs) of 0 and 1 for labels, or floats (N,
        num_outputs).
        """

    @property
    def is_random(self) -> bool:
        """Whether reading a sample may draw from the global random generators."""

    @property
    def is_slow(self) -> bool:
        """Whether reading a sample decodes a file, so that threads help."""

    def __len__(self) -> int: ...

    def load(self, index: int) -> tuple[Tensor, Tensor]:
        """Read one sample: its input and its target. Raises DataError when it cannot be read."""

    def look(self, index: int) -> tuple[Tensor, Tensor]:
        """Read one sample before training: as `load`, but chance, if reading takes any, depends on the index alone."""

    def name_of(self, index: int) -> str:
        """Returns what to call a sample in a message."""

    def renumbered(self, table: Tensor) -> "Samples":
        """Returns the same samples with other numbers of classes; see `renumber`."""


@dataclass(frozen=True)
class TensorSamples:
    """Samples that are whole tensors already: inputs (N, ...), targets (N,) or (N, num_outputs)."""

    inputs: Tensor
    targets: Tensor
    is_random: bool = False
    is_slow: bool = False

    def __len__(self) -> int:
        return len(self.inputs)

    def load(self, index: int) -> tuple[Tensor, Tensor]:
        """Returns one row of each tensor."""
        return self.inputs[index], self.targets[index]

    look = load

    def name_of(self, index: int) -> str:
        """Returns the number of the sample."""
        return f"sample {index}"

    def renumbered(self, table: Tensor) -> "TensorSamples":
        """Returns the same samples with other numbers of classes; see `renumber`."""
        return replace(self, targets=renumber(self.targets, table))

    def taken(self, rows: Tensor) -> "TensorSamples":
        """Returns the samples at these rows."""
        return replace(self, inputs=self.inputs[rows], targets=self.targets[rows])


def renumber(targets: Tensor, table: Tensor) -> Tensor:
    """Returns class `i` as `table[i]`; a label that is no class, such as one that the loss ignores, stays.

    Of targets (..., L) for several labels, which are no int64, column `table[i]` becomes column `i`, and one of 0 where that is -1.
    """
    if targets.dtype != torch.int64:
        return torch.where(table >= 0, targets[..., table.clamp(min=0)], torch.zeros_like(targets[..., :1]))
    is_class = (targets >= 0) & (targets < len(table))
    return torch.where(is_class, table[targets.clamp(0, len(table) - 1)], targets)


@dataclass(frozen=True)
class Source:
    """What a data set offers: its training samples, and validation and test samples where it keeps them apart.

    `num_outputs` counts classes, labels or target columns; `classes` are the names of classes or labels. `image_size` is the
    source's own default for `data.image_size`. `columns` and `targets` are those of a table;
    `weights`, float64 (N,), the column of weights of training samples that was asked for, `groups`, int64 (N,), the number of each one's
    group, which goes into one split. With `fills_missing`, inputs that are NaN wait for the means of the training samples.
    """

    task: TaskName
    kind: Kind
    train: Samples
    val: Samples | None
    test: Samples | None
    num_outputs: int
    classes: tuple[str, ...] | None = None
    image_size: tuple[int, int] | None = None
    notes: tuple[str, ...] = field(default=())
    columns: tuple[TableColumn, ...] | None = None
    targets: tuple[str, ...] | None = None
    weights: Tensor | None = None
    groups: Tensor | None = None
    fills_missing: bool = False

    def renumbered(self, numbers: Sequence[int], classes: tuple[str, ...]) -> "Source":
        """Returns the same samples with other `classes`, by a table of numbers as `renumber` takes it."""
        table = torch.tensor(numbers)
        train, val, test = (
            None if subset is None else subset.renumbered(table) for subset in (self.train, self.val, self.test)
        )
        assert train is not None
        return replace(self, train=train, val=val, test=test, classes=classes, num_outputs=len(classes))


@dataclass(frozen=True)
class SourceRequest:
    """What dlkit asks of a source: `data.root` (None for auto) and `data.download`, the seed, the task if the config
    fixes it, the label that the loss ignores, whether samples that cannot be read are left out, of a table the columns that an
    existing model takes, how long reading a sample may take, and the column of weights that `data.sampling` names.
    """

    root: str | None
    download: bool
    seed: int
    task: TaskName | None
    ignored_label: int | None = None
    skips_bad: bool = False
    columns: tuple[TableColumn, ...] | None = None
    timeout_s: float | None = None
    weights: str | None = None
