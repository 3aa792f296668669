"""The table of contents of loading data: open the source, pick the splits, check them, measure, and build what makes batches."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from dlkit.config.loaded import LoadedConfig
from dlkit.config.schema import Config, Model
from dlkit.config.schema import Data as DataSection
from dlkit.core.data.contract import Data, DataInfo, Split, SplitName
from dlkit.core.data.describing import describe_data, pick_statistics, pick_task
from dlkit.core.data.memory import Stored, load_part, pick_memory, run_fixed
from dlkit.core.data.opening import open_source
from dlkit.core.data.parts import Part, Parts, pick_parts
from dlkit.core.data.preflight import check_features, check_part
from dlkit.core.data.samples import Source
from dlkit.core.data.scan import scan_images
from dlkit.core.data.sources.imagefolder import FileSamples
from dlkit.core.data.splits import SplitBuilder, build_mixers
from dlkit.core.data.transforms import Pipeline, build_pipeline, try_pipeline
from dlkit.errors import DataError
from dlkit.events import Note, Report, ignore


def build_data(loaded: LoadedConfig, *, device: torch.device, seed: int, report: Report = ignore) -> Data:
    """The splits of a run and their description. Choices that were made are reported once, as notes.

    Raises ConfigError at the key at fault; DataError for data that are missing, broken or do not fit together.
    """
    source = open_source(loaded, seed=seed)
    task = pick_task(loaded, source)
    parts = pick_parts(loaded, source, task=task, seed=seed)
    check_parts(parts.listed(), num_classes=count_classes(loaded, source) if task == "classification" else None)
    train, evaluation = build_pipelines(loaded, source)
    sample = run_fixed(parts.train, Pipeline(()), 0)
    try_pipeline(loaded, "transforms", train, sample)
    shown = try_pipeline(loaded, "eval_transforms", evaluation, sample)
    in_memory, why = pick_memory(loaded, parts, train, evaluation)
    stored = load_parts(parts, train, evaluation, device=device) if in_memory else {}
    if not in_memory:
        scan_parts(loaded.config.data, parts.listed())
    statistics = pick_statistics(loaded, parts.train, evaluation, kind=source.kind, stored=stored.get("train"))
    info = describe_data(loaded, source, task=task, sample=shown, statistics=statistics)
    builder = SplitBuilder(loaded.config.data, info, device, seed, build_mixers(loaded, info))
    splits = {
        part.name: builder.build(part, train if part.name == "train" else evaluation, stored.get(part.name))
        for part in parts.listed()
    }
    if not splits["train"].num_batches:
        raise loaded.error(
            ("data", "drop_last"),
            f"drops the only batch: {len(parts.train.rows)} training samples, batch_size {loaded.config.data.batch_size}",
        )
    notes = (*source.notes, *parts.notes, *([why] if why else []))
    for note in notes:
        report(Note(note))
    return Data(splits["train"], splits.get("val"), splits.get("test"), info, notes)


def build_eval_split(
    wanted: LoadedConfig | DataSection,
    info: DataInfo,
    *,
    split: SplitName,
    device: torch.device,
    batch_size: int | None = None,
    seed: int | None = None,
) -> Split:
    """One split as a trained model is judged by: the samples that a run with this data section and seed holds out, in order,
    under the evaluation's transforms and the model's own normalization. Nothing is measured.

    Class labels are matched by name. `seed` is the config's own unless given. Raises DataError when there is no such split,
    or when it does not fit the model.
    """
    loaded = wanted if isinstance(wanted, LoadedConfig) else _as_loaded(wanted, info, seed or 0)
    seed = loaded.config.seed if seed is None else seed
    source = match_source(open_source(loaded, seed=seed, task=info.task), info)
    parts = pick_parts(loaded, source, task=info.task, seed=seed)
    part = next((part for part in parts.listed() if part.name == split), None)
    if part is None:
        have = ", ".join(part.name for part in parts.listed())
        raise DataError(f"{loaded.config.data.name} has no {split} split under this config; it has: {have}")
    check_parts([part], num_classes=info.num_outputs if info.task == "classification" else None)
    _, evaluation = build_pipelines(loaded, source)
    shown = try_pipeline(loaded, "eval_transforms", evaluation, run_fixed(part, Pipeline(()), 0))
    check_size(shown, info, source)
    in_memory, _ = pick_memory(loaded, replace(parts, train=part, val=None, test=None), Pipeline(()), evaluation)
    stored = load_part(part, evaluation, device=device) if in_memory else None
    if stored is None:
        scan_parts(loaded.config.data, [part])
    section = loaded.config.data.model_copy(update={"eval_batch_size": batch_size} if batch_size else {})
    return SplitBuilder(section, info, device, seed).build_ordered(part, evaluation, stored)


def _as_loaded(section: DataSection, info: DataInfo, seed: int) -> LoadedConfig:
    return LoadedConfig(Config(data=section, model=Model(name="unused"), task=info.task, seed=seed), {})


def build_pipelines(loaded: LoadedConfig, source: Source) -> tuple[Pipeline, Pipeline]:
    """The pipelines of training and of evaluation. Raises ConfigError where image options meet data of another kind."""
    section = loaded.config.data
    size: tuple[int, int] | None = source.image_size
    if section.image_size != "auto":
        if source.kind != "image":
            raise loaded.error(("data", "image_size"), f"these data are {source.kind}, not images", at="key")
        size = (
            (section.image_size,) * 2
            if isinstance(section.image_size, int)
            else (section.image_size[0], section.image_size[1])
        )
    train, evaluation = (
        build_pipeline(loaded, key, kind=source.kind, image_size=size) for key in ("transforms", "eval_transforms")
    )
    return train, evaluation


def count_classes(loaded: LoadedConfig, source: Source) -> int:
    """How many classes labels may name: what the model was told, else what the data hold."""
    asked = loaded.config.model.num_classes
    return source.num_outputs if asked == "auto" else min(asked, source.num_outputs)


def load_parts(parts: Parts, train: Pipeline, evaluation: Pipeline, *, device: torch.device) -> dict[SplitName, Stored]:
    """All parts in memory, by name; a test split that also validates is kept once."""
    stored = {part.name: load_part(part, evaluation, device=device) for part in (parts.val,) if part is not None}
    if parts.test is not None:
        is_shared = parts.val is not None and parts.val.rows is parts.test.rows
        stored["test"] = stored["val"] if is_shared else load_part(parts.test, evaluation, device=device)
    return {"train": load_part(parts.train, train, device=device), **stored}


def scan_parts(section: DataSection, parts: Sequence[Part]) -> None:
    """Look for broken image files as `data.scan` asks."""
    paths = {
        part.samples.paths[row] for part in parts if isinstance(part.samples, FileSamples) for row in part.rows.tolist()
    }
    scan_images(sorted(paths), section.scan)


def check_parts(parts: Sequence[Part], *, num_classes: int | None) -> None:
    """Raises DataError for the first target that is out of range or input that is not finite."""
    for part in parts:
        check_part(part, num_classes)
        check_features(part)


def match_source(source: Source, info: DataInfo) -> Source:
    """The source with its labels numbered as the model's. Raises DataError when its classes or its kind are others."""
    if source.kind != info.kind:
        raise DataError(f"the model takes {info.kind} input, these data are {source.kind}")
    if info.task == "regression" or source.classes is None or info.classes is None or source.classes == info.classes:
        return source
    unknown = [name for name in source.classes if name not in info.classes]
    if unknown:
        raise DataError(f"class {unknown[0]!r} is unknown to the model; it knows {', '.join(info.classes)}")
    return source.renumbered([info.classes.index(name) for name in source.classes], info.classes)


def check_size(shown: Tensor, info: DataInfo, source: Source) -> None:
    """Raises DataError when samples have other channels or features than the model takes."""
    position = 0 if source.kind == "image" else -1
    if shown.shape[position] != info.input_size[position]:
        what = "channels" if source.kind == "image" else "features"
        raise DataError(
            f"the model takes {info.input_size[position]} {what}, these samples have {shown.shape[position]}"
        )
