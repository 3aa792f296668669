"""Which samples make up the training, validation and test splits."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from dlkit.choices import SplitName
from dlkit.config import LoadedConfig
from dlkit.core.data.counter_rng import Stream, hash_key, permutation
from dlkit.core.data.decoded_files import DecodedFiles, decode_once, decoding_of
from dlkit.core.data.folds import draw_fold
from dlkit.core.data.grouped import draw_groups
from dlkit.core.data.masks import part_mask
from dlkit.core.data.samples import Samples, Source
from dlkit.core.data.scan import run_on_all
from dlkit.core.data.sources import FileSamples, MaskedItems
from dlkit.core.data.time_limit import limit_of, time_limit
from dlkit.errors import DataError
from dlkit.events import Emit, Note
from dlkit.tasks import TaskName

Result = TypeVar("Result")


@dataclass(frozen=True)
class Subset:
    """The samples of one split: which rows of which samples, their targets in that order, and how long reading one may take."""

    name: SplitName
    samples: Samples
    rows: Tensor
    targets: Tensor
    timeout_s: float | None = None

    def name_of(self, position: int) -> str:
        """Returns what to call the sample at a position in a message."""
        return self.samples.name_of(int(self.rows[position]))

    def raw(self, position: int) -> Tensor:
        """Returns the input at a position before any transform; the first one, which stands for all, is read once."""
        # a transform may work in place
        return self._first.clone() if position == 0 else self._look(position)

    @property
    def has_masks(self) -> bool:
        """Whether raw samples are pictures joined with their masks."""
        return isinstance(self.samples, MaskedItems) or (
            isinstance(self.samples, FileSamples) and self.samples.masks is not None
        )

    def mask(self, position: int) -> Tensor:
        """Returns the mask at a position, (H, W); where masks are files, its picture is not read."""
        masks = self.samples.masks if isinstance(self.samples, FileSamples) else None
        if masks is None:
            return part_mask(self.raw(position))[1]
        with time_limit(self.timeout_s, self.name_of, position):
            return masks.read(int(self.rows[position]))

    @cached_property
    def _first(self) -> Tensor:
        return self._look(0)

    def _look(self, position: int) -> Tensor:
        with time_limit(self.timeout_s, self.name_of, position):
            return self.samples.look(int(self.rows[position]))[0]

    def map(self, function: Callable[[int], Result], positions: Sequence[int]) -> list[Result]:
        """Returns a function's results for all positions, each of which it reads; by threads where that decodes files.

        Raises DataError naming all samples that cannot be read, or one that takes too long.
        """
        if not self.samples.is_slow:
            return [function(position) for position in positions]
        return run_on_all(function, positions, name_of=self.name_of, limit_s=self.timeout_s)

    def file_paths(self, rows: Tensor | None = None) -> list[str]:
        """Returns the files of these rows of the samples, by default of all; none where samples are no files."""
        chosen = self.rows if rows is None else rows
        return [self.samples.paths[row] for row in chosen.tolist()] if isinstance(self.samples, FileSamples) else []

    def mask_paths(self) -> list[str]:
        """Returns the files of masks, none where samples have none."""
        masks = self.samples.masks if isinstance(self.samples, FileSamples) else None
        return [masks.paths[row] for row in self.rows.tolist()] if masks else []

    def decoded_by(self, pictures: DecodedFiles, masks: DecodedFiles | None) -> "Subset":
        """Returns the same samples, read from where they lie decoded. Raises DataError where mask and picture differ in size."""
        samples = self.samples
        assert isinstance(samples, FileSamples)
        of_masks = samples.masks and replace(samples.masks, decoded=masks)
        samples = replace(samples, decoded=pictures, masks=of_masks)
        if masks:
            run_on_all(samples.check_decoded, self.rows.tolist())
        return replace(self, samples=samples)


@dataclass(frozen=True)
class Subsets:
    """The splits of a run. `notes` are sentences about how they came about."""

    train: Subset
    val: Subset | None
    test: Subset | None
    notes: tuple[str, ...]

    def listed(self) -> list[Subset]:
        """Returns those that exist."""
        return [subset for subset in (self.train, self.val, self.test) if subset is not None]


def pick_subsets(loaded: LoadedConfig, source: Source, *, task: TaskName, seed: int) -> Subsets:
    """Returns the splits as `data.val`, `data.test` and `data.limit` ask for.

    A fraction for test is held out first, then one for val from the rest, and `limit` picks from what remains, so that
    the held-out samples are the same whatever the limit. A validation split of the source's own is used in place of a
    fraction; a fold is of the training split, whatever else there is.
    """
    section = loaded.config.data
    notes: list[str] = []
    targets = shape_targets(source.train.targets, task)
    rows = torch.arange(len(source.train))
    test = _own_subset("test", source.test, task) if section.test == "auto" else None
    if isinstance(section.test, float):
        rows, held = hold_out(targets, section.test, seed=seed, stream=Stream.TEST, groups=source.groups)
        test = Subset("test", source.train, held, targets[held])
    groups = None if source.groups is None else source.groups[rows]
    val: Subset | None = None
    if section.fold is not None:
        is_held = draw_fold(targets[rows], section.fold.number, section.fold.of, seed=seed, groups=groups)
        rows, val = rows[~is_held], Subset("val", source.train, rows[is_held], targets[rows[is_held]])
    elif section.val == "test":
        val = _test_as_val(loaded, test or _own_subset("test", source.test, task), notes)
    elif section.val != "none" and source.val is not None:
        val = _own_subset("val", source.val, task)
        notes.append(f"validating on the data set's own {len(source.val)} validation samples")
    elif isinstance(section.val, float):
        kept, held = hold_out(targets[rows], section.val, seed=seed, stream=Stream.VAL, groups=groups)
        rows, val = rows[kept], Subset("val", source.train, rows[held], targets[rows[held]])
    rows = rows[pick_limit(len(rows), section.limit, seed=seed)]
    train, limited = Subset("train", source.train, rows, targets[rows]), partial(replace, timeout_s=limit_of(section))
    return Subsets(limited(train), val and limited(val), test and limited(test), tuple(notes))


def hold_out(
    targets: Tensor, fraction: float, *, seed: int, stream: Stream, groups: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Returns positions that stay and positions that are held out, ascending; together they are all, each once.

    With `groups`, int64 (N,), whole groups are held out; see `draw_groups`. Else class labels, int64 (N,), are
    held out in proportion wherever every class can keep and give at least one sample; other targets, and classes too small for
    that, are drawn regardless of their value. Raises DataError when either part would be empty.
    """
    size = len(targets)
    count = min(max(1, round(size * fraction)), size - 1)
    if count < 1:
        raise DataError(
            f"{size} training sample{'s' * (size != 1)} cannot be split; set data.val to test or none, or add samples"
        )
    if groups is not None:
        is_held = draw_groups(groups, targets, count, key=hash_key(seed, stream))
    else:
        is_held = _draw_samples(targets, count, key=hash_key(seed, stream))
    return (~is_held).nonzero()[:, 0], is_held.nonzero()[:, 0]


def _draw_samples(targets: Tensor, count: int, *, key: int) -> Tensor:
    order = permutation(key, len(targets))
    shares = _shares_by_class(targets, count) if not targets.is_floating_point() else None
    if shares is None:
        held = order[:count]
    else:
        held = torch.cat([order[targets[order] == label][:share] for label, share in shares.items()])
    is_held = torch.zeros(len(targets), dtype=torch.bool)
    is_held[held] = True
    return is_held


def _shares_by_class(targets: Tensor, count: int) -> dict[int, int] | None:
    labels, sizes = torch.unique(targets, return_counts=True)
    quotas = sizes.double() * count / len(targets)
    shares = quotas.floor().long()
    # the largest remainders take what rounding down left over, so that the total is exact
    rest = count - int(shares.sum())
    shares[(quotas - shares).argsort(descending=True, stable=True)[:rest]] += 1
    if (shares < 1).any() or (shares >= sizes).any():
        return None
    return dict(zip(labels.tolist(), shares.tolist(), strict=True))


def pick_limit(size: int, limit: int | None, *, seed: int) -> Tensor:
    """Returns positions of at most `limit` samples, picked by seed, ascending."""
    if limit is None or limit >= size:
        return torch.arange(size)
    return permutation(hash_key(seed, Stream.LIMIT), size)[:limit].sort().values


def shape_targets(targets: Tensor, task: TaskName) -> Tensor:
    """Returns targets as the task has them: int64 (N,) for classification and, of no meaning, where samples have masks; else floats (N,
    num_outputs).
    """
    if task in ("classification", "segmentation"):
        return targets
    return (targets if targets.is_floating_point() else targets.float()).reshape(len(targets), -1)


def _own_subset(name: SplitName, samples: Samples | None, task: TaskName) -> Subset | None:
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


def decode_subsets(subsets: Subsets, folder: Path, emit: Emit) -> Subsets:
    """Returns subsets whose files, masks too, are read from where they lie decoded; see `decode_once`. Other samples stay as they are.

    Raises DataError for masks that have not the size of their picture.
    """
    paths = sorted({path for subset in subsets.listed() for path in subset.file_paths()})
    if not paths:
        emit(Note("data.cache: disk has no effect: the samples are no image files"))
        return subsets
    some, limit_s = subsets.train.samples, subsets.train.timeout_s
    assert isinstance(some, FileSamples)
    decoded = decode_once(paths, decoding_of(some.mode), folder, limit_s=limit_s, emit=emit)
    masks = None
    if some.masks is not None:
        paths = sorted({path for subset in subsets.listed() for path in subset.mask_paths()})
        masks = decode_once(paths, some.masks.decoding, folder, limit_s=limit_s, emit=emit)

    def with_pixels(subset: Subset | None) -> Subset | None:
        return subset and subset.decoded_by(decoded, masks)

    train = with_pixels(subsets.train)
    assert train is not None
    return replace(subsets, train=train, val=with_pixels(subsets.val), test=with_pixels(subsets.test))
