"""The table of contents of loading data: open the source, pick the splits, check, measure, and build what makes
batches.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dlkit.choices import SplitName
from dlkit.config import Config, LoadedConfig, Model
from dlkit.config import Data as DataSection
from dlkit.core.components import is_import_path
from dlkit.core.data.caching import StoredSamples, load_subset, no_draws, pick_memory, run_fixed
from dlkit.core.data.contract import DataInfo, DataSplits, Split, Task
from dlkit.core.data.describing import describe_data, measured_positions, pick_statistics, pick_task
from dlkit.core.data.opening import open_source
from dlkit.core.data.preflight import check_features, check_targets
from dlkit.core.data.samples import Source
from dlkit.core.data.scan import scan_images
from dlkit.core.data.sources import FileSamples
from dlkit.core.data.splits import SplitBuilder, build_mixers, idle_options
from dlkit.core.data.subsets import Subset, Subsets, pick_subsets
from dlkit.core.data.transforms import Pipeline, build_pipeline, try_pipeline
from dlkit.core.distributed import ALONE, World
from dlkit.errors import DataError, UsageError
from dlkit.events import Emit, Note, ignore
from dlkit.shapes import size_text

WORTH_A_NOTE = 2000


class NoSplit(DataError):
    """The data have no split of that name."""


@dataclass(frozen=True)
class Pipelines:
    """The transforms of training and those of evaluation."""

    train: Pipeline
    evaluation: Pipeline

    def of(self, subset: Subset) -> Pipeline:
        """Those of one subset."""
        return self.train if subset.name == "train" else self.evaluation


def build_data(
    loaded: LoadedConfig,
    *,
    device: torch.device,
    seed: int,
    known: DataInfo | None = None,
    world: World = ALONE,
    emit: Emit = ignore,
) -> DataSplits:
    """The splits of a run, as this process of the world reads them, and their description. Choices are reported as notes.

    `known` describes what an existing model takes: then nothing is measured, classes are matched by name, and inputs are
    normalized as the model's were. Raises ConfigError at the key at fault; DataError for data that are missing, broken or
    do not fit together, or do not fit the model.
    """
    source, task = _open(loaded, known, seed=seed)
    subsets = pick_subsets(loaded, source, task=task, seed=seed)
    num_classes = _most_classes(loaded, source, known) if task == "classification" else None
    check_parts(subsets.listed(), num_classes=num_classes)
    pipelines = build_pipelines(loaded, source, known)
    shown = try_pipelines(loaded, pipelines, run_fixed(subsets.train, Pipeline(()), 0))
    evaluation, num_holders = pipelines.evaluation, world.local_size
    in_memory, why = pick_memory(loaded, subsets, train=pipelines.train, evaluation=evaluation, num_holders=num_holders)
    announce_decoding(subsets, emit)
    stored = load_parts(subsets, pipelines, device=device) if in_memory else {}
    info = known
    if info is None:
        found = pick_statistics(loaded, subsets.train, evaluation, kind=source.kind, stored=stored.get("train"))
        info = describe_data(loaded, source, task=task, sample=shown, statistics=found)
    check_fits(shown, info)
    if not in_memory:
        scan_parts(loaded.config.data, subsets)
    builder = SplitBuilder(loaded.config.data, info, device, seed, build_mixers(loaded, info), world)
    splits = {one.name: builder.build(one, pipelines.of(one), stored.get(one.name)) for one in subsets.listed()}
    check_has_batches(loaded, splits["train"], world)
    notes = (*source.notes, *subsets.notes, *why, *idle_options(loaded.config.data, in_memory=in_memory))
    return DataSplits(splits["train"], splits.get("val"), splits.get("test"), info, _announced(notes, emit))


def _announced(notes: tuple[str, ...], emit: Emit) -> tuple[str, ...]:
    for note in notes:
        emit(Note(note))
    return notes


def _open(loaded: LoadedConfig, known: DataInfo | None, *, seed: int) -> tuple[Source, Task]:
    if known is None:
        source = open_source(loaded, seed=seed)
        return source, pick_task(loaded, source)
    return match_source(open_source(loaded, seed=seed, task=known.task), known), known.task


def _most_classes(loaded: LoadedConfig, source: Source, known: DataInfo | None) -> int:
    return known.num_outputs if known else count_allowed(loaded, source)


def count_allowed(loaded: LoadedConfig, source: Source) -> int:
    """How many classes labels may name: what the data hold, or fewer if the model was told fewer."""
    if source.num_outputs < 2:
        raise DataError(f"{loaded.config.data.name} holds one class only; at least two are needed")
    asked = loaded.config.model.num_classes
    return source.num_outputs if asked == "auto" else min(asked, source.num_outputs)


def check_parts(subsets: Sequence[Subset], *, num_classes: int | None) -> None:
    """Raises DataError for the first target that is out of range, or input in memory that is not finite."""
    for subset in subsets:
        check_targets(subset, num_classes)
        check_features(subset)


def build_pipelines(loaded: LoadedConfig, source: Source, known: DataInfo | None = None) -> Pipelines:
    """The transforms of training and of evaluation, for the model that `known` describes if there is one yet.

    Raises ConfigError at the key at fault.
    """
    size = pick_model_size(loaded, source, known) if known else pick_image_size(loaded, source)
    keys = ("transforms", "eval_transforms")
    return Pipelines(*(build_pipeline(loaded, key, kind=source.kind, image_size=size) for key in keys))


def pick_image_size(loaded: LoadedConfig, source: Source) -> tuple[int, int] | None:
    """Height and width that images are brought to, if they are. Raises ConfigError where the data are no images."""
    asked = loaded.config.data.image_size
    if asked == "auto":
        return source.image_size
    if source.kind != "image":
        raise loaded.error(("data", "image_size"), f"these data are {source.kind}, not images", at="key")
    return (asked, asked) if isinstance(asked, int) else (asked[0], asked[1])


def try_pipelines(loaded: LoadedConfig, pipelines: Pipelines, sample: Tensor) -> Tensor:
    """One raw sample through both; gives what evaluation makes of it. Raises ConfigError at a transform that fails."""
    train = try_pipeline(loaded, "transforms", pipelines.train, sample=sample)
    shown = try_pipeline(loaded, "eval_transforms", pipelines.evaluation, sample=sample)
    if train.ndim != shown.ndim or (train.ndim == 3 and train.shape[0] != shown.shape[0]):
        made, other = (size_text(value.shape) for value in (train, shown))
        raise loaded.error(("data", "transforms"), f"training samples become {made}, but evaluation samples {other}")
    return shown


def announce_decoding(subsets: Subsets, emit: Emit) -> None:
    """Report that a wait is coming, if it is long enough to be noticed."""
    count = sum(len(subset.rows) for subset in subsets.listed() if subset.samples.is_slow)
    if count >= WORTH_A_NOTE:
        emit(Note(f"reading {count:,} image files before training starts"))


def load_parts(subsets: Subsets, pipelines: Pipelines, *, device: torch.device) -> dict[SplitName, StoredSamples]:
    """All subsets in memory, by name; a test split that also validates is kept once."""
    stored = {
        subset.name: load_subset(subset, pipelines.of(subset), device=device)
        for subset in (subsets.train, subsets.val)
        if subset
    }
    if subsets.test is not None:
        is_shared = subsets.val is not None and subsets.val.rows is subsets.test.rows
        stored["test"] = stored["val"] if is_shared else load_subset(subsets.test, pipelines.evaluation, device=device)
    return stored


def scan_parts(section: DataSection, subsets: Subsets) -> None:
    """Look for broken image files as `data.scan` asks, but not in those that were decoded to measure them."""
    paths = {path for subset in subsets.listed() for path in _file_paths(subset, subset.rows)}
    if section.normalize == "auto":
        paths -= set(_file_paths(subsets.train, subsets.train.rows[measured_positions(subsets.train)]))
    scan_images(sorted(paths), section.scan)


def _file_paths(subset: Subset, rows: Tensor) -> list[str]:
    return [subset.samples.paths[row] for row in rows.tolist()] if isinstance(subset.samples, FileSamples) else []


def check_has_batches(loaded: LoadedConfig, train: Split, world: World) -> None:
    """Raises ConfigError when dropping the last batch leaves none, UsageError when there are more processes than samples."""
    if train.num_samples < world.size:
        raise UsageError(
            f"{world.size} processes for {train.num_samples} training samples: each needs at least one; start fewer"
        )
    if not train.num_batches:
        size = loaded.config.data.batch_size * world.size
        message = f"drops the only batch: {train.num_samples} training samples, batch_size {size}"
        raise loaded.error(("data", "drop_last"), message)


def build_eval_split(
    wanted: LoadedConfig | DataSection,
    info: DataInfo,
    *,
    split: SplitName,
    device: torch.device,
    batch_size: int | None = None,
    seed: int | None = None,
) -> Split:
    """One split as a trained model is judged by, in order and normalized as the model was trained; nothing is measured.

    It holds the samples that a run with this data section and seed holds out. `seed` is the config's own unless given.
    Class labels are matched by name. Raises NoSplit when there is none of that name, DataError when it does not fit the
    model, and UsageError for a bare section that names code of the user's own.
    """
    loaded = wanted if isinstance(wanted, LoadedConfig) else _as_loaded(wanted, info.task)
    if seed is not None:
        loaded = replace(loaded, config=loaded.config.model_copy(update={"seed": seed}))
    source = match_source(open_source(loaded, seed=loaded.config.seed, task=info.task), info)
    subsets = pick_subsets(loaded, source, task=info.task, seed=loaded.config.seed)
    subset = next((subset for subset in subsets.listed() if subset.name == split), None)
    if subset is None:
        have = ", ".join(subset.name for subset in subsets.listed())
        raise NoSplit(f"{loaded.config.data.name} has no {split} split under this config; it has: {have}")
    return build_ordered_split(loaded, source, subset, info=info, device=device, batch_size=batch_size)


def build_ordered_split(
    loaded: LoadedConfig,
    source: Source,
    subset: Subset,
    *,
    info: DataInfo,
    device: torch.device,
    batch_size: int | None = None,
) -> Split:
    """A subset in its own order, as a trained model is judged by: evaluation's transforms, the model's normalization.

    Raises DataError when it does not fit the model.
    """
    check_parts([subset], num_classes=info.num_outputs if info.task == "classification" else None)
    size = pick_model_size(loaded, source, info)
    evaluation = build_pipeline(loaded, "eval_transforms", kind=source.kind, image_size=size)
    shown = try_pipeline(loaded, "eval_transforms", evaluation, sample=run_fixed(subset, Pipeline(()), 0))
    check_fits(shown, info)
    only = Subsets(subset, None, None, ())
    in_memory, _ = pick_memory(loaded, only, train=Pipeline(()), evaluation=evaluation)
    stored = load_subset(subset, evaluation, device=device) if in_memory else None
    if not in_memory:
        scan_images(_file_paths(subset, subset.rows), loaded.config.data.scan)
    section = loaded.config.data.model_copy(update={"eval_batch_size": batch_size} if batch_size else {})
    return SplitBuilder(section, info, device, loaded.config.seed).build_ordered(subset, evaluation, stored)


def pick_model_size(loaded: LoadedConfig, source: Source, info: DataInfo) -> tuple[int, int] | None:
    """Height and width for a trained model: folders of pictures of any size are brought to its own, unless told otherwise."""
    if loaded.config.data.image_size == "auto" and source.image_size is not None:
        return info.input_size[-2], info.input_size[-1]
    return pick_image_size(loaded, source)


def _as_loaded(section: DataSection, task: Task) -> LoadedConfig:
    # a bare section comes out of a model file, and a file never causes an import of anybody's code
    for name in (section.name, *(component.name for component in section.eval_transforms)):
        if is_import_path(name):
            raise UsageError(f"the model's own data section names {name}, which is not run unasked; give --data CFG")
    return LoadedConfig(Config(data=section, model=Model(name="unused"), task=task), {})


def match_source(source: Source, info: DataInfo) -> Source:
    """The source with its labels numbered as the model's. Raises DataError when its classes or its kind are others."""
    if source.kind != info.kind:
        raise DataError(f"the model takes {info.kind} input, these data are {source.kind}")
    is_same = source.classes is None or info.classes is None or source.classes == info.classes
    if info.task == "regression" or is_same:
        return source
    known = info.classes or ()
    unknown = [name for name in source.classes or () if name not in known]
    if unknown:
        raise DataError(f"class {unknown[0]!r} is unknown to the model; it knows {', '.join(known)}")
    return source.renumbered([known.index(name) for name in source.classes or ()], known)


def check_fits(shown: Tensor, info: DataInfo) -> None:
    """Raises DataError when samples have other channels or features than the model takes."""
    position, what = (0, "channels") if info.kind == "image" else (-1, "features")
    if shown.shape[position] != info.input_size[position]:
        raise DataError(
            f"the model takes {info.input_size[position]} {what}, these samples have {shown.shape[position]}"
        )


def build_eval_transform(wanted: LoadedConfig | DataSection, info: DataInfo) -> Callable[[Tensor], Tensor]:
    """What evaluation does to one decoded image (C, H, W) before `prepare_image` normalizes it; reads no data."""
    loaded = wanted if isinstance(wanted, LoadedConfig) else _as_loaded(wanted, info.task)
    size = (info.input_size[1], info.input_size[2])
    pipeline = build_pipeline(loaded, "eval_transforms", kind=info.kind, image_size=size)
    return lambda image: pipeline.run_sample(image, no_draws())
