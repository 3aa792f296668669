"""Loading data: open and check them (opening.py), bring them into memory or scan their files, measure them (describing.py),
and build the splits that cut them into batches (splits.py).
"""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch

from dlkit.choices import SplitName
from dlkit.config import LoadedConfig
from dlkit.core.data.caching import StoredSamples, load_subset
from dlkit.core.data.checks import ignored_label
from dlkit.core.data.contract import DataInfo, DataSplits
from dlkit.core.data.decoded_files import cache_folder
from dlkit.core.data.describing import describe_data, follows_weights, is_measured, measured_positions
from dlkit.core.data.opening import OpenedData, open_data
from dlkit.core.data.scan import FULL_SCAN_LIMIT, scan_images
from dlkit.core.data.splits import SplitBuilder
from dlkit.core.data.subsets import Subset, decode_subsets
from dlkit.core.distributed import ALONE, World
from dlkit.events import Emit, Note, ignore
from dlkit.shapes import size_text
from dlkit.tasks import TRAITS

WORTH_A_NOTE = 2000
MOST_SCALES = 4


def build_data(
    loaded: LoadedConfig,
    *,
    device: torch.device,
    seed: int,
    known: DataInfo | None = None,
    world: World = ALONE,
    emit: Emit = ignore,
) -> DataSplits:
    """Open and load the data of a config: see `open_data` and `load_data`."""
    opened = open_data(loaded, seed=seed, known=known, world=world)
    return load_data(opened, device=device, world=world, emit=emit)


def load_data(opened: OpenedData, *, device: torch.device, world: World = ALONE, emit: Emit = ignore) -> DataSplits:
    """Returns the splits of opened data, as this process of the world reads them, and their description.

    Where an existing model is known, nothing is measured and inputs are normalized as the model's were. Choices are
    reported as notes. Raises DataError for samples that are broken or do not fit together.
    """
    opened = decode_opened(opened, world, emit)
    announce_decoding(opened.subsets.listed(), emit)
    stored = load_subsets(opened, device=device) if opened.is_in_memory else {}
    info = opened.known or describe_data(opened, stored.get("train"))
    if not opened.is_in_memory:
        scan_files(opened)
    builder = SplitBuilder(
        opened.loaded.config.data, info, device, opened.plan.seed, world, ignored_label(opened.loaded)
    )
    train = builder.build(
        opened.subsets.train,
        opened.pipelines.train,
        stored.get("train"),
        plan=opened.plan,
        mixing=opened.mixing,
        sizes=opened.sizes,
    )
    val, test = (
        builder.build_ordered(subset, opened.pipelines.evaluation, stored.get(subset.name)) if subset else None
        for subset in (opened.subsets.val, opened.subsets.test)
    )
    announce_choices(opened, info, emit)
    return DataSplits(train, val, test, info, opened.notes, opened.skipped, opened.subsets.train.name_of)


def measure_data(opened: OpenedData, *, device: torch.device, emit: Emit = ignore) -> DataInfo:
    """Returns the description of opened data as `build_data` does, with its notes, reading only what statistics need."""
    opened = decode_opened(opened, ALONE, emit) if is_measured(opened) else opened
    stored, train = None, opened.subsets.train
    if is_measured(opened):
        announce_decoding([train], emit)
        stored = load_subset(train, opened.pipelines.train, device=device) if opened.is_in_memory else None
    info = describe_data(opened, stored)
    announce_choices(opened, info, emit)
    return info


def decode_opened(opened: OpenedData, world: World, emit: Emit) -> OpenedData:
    """Returns opened data whose image files are decoded in one file, made by one process of each machine, as `cache: disk` asks; with
    another cache they stay as they are.
    """
    section = opened.loaded.config.data
    if section.cache != "disk":
        return opened
    with world.first_on_machine():
        subsets = decode_subsets(opened.subsets, Path(section.cache_dir) if section.cache_dir else cache_folder(), emit)
    return replace(opened, subsets=subsets)


def announce_decoding(subsets: Iterable[Subset], emit: Emit) -> None:
    """Report that a wait is coming, if it is long enough to be noticed."""
    count = sum(len(subset.rows) for subset in subsets if subset.samples.is_slow)
    if count >= WORTH_A_NOTE:
        emit(Note(f"reading {count:,} image files before training starts"))


def announce_choices(opened: OpenedData, info: DataInfo, emit: Emit) -> None:
    """Report the choices that were made."""
    for note in opened.notes:
        emit(Note(note))
    if note := _published_note(opened, info):
        emit(Note(note))
    if opened.known is None and info.target_mean is not None and info.target_std is not None:
        scales = [f"{mean:.5g} and {std:.5g}" for mean, std in zip(info.target_mean, info.target_std, strict=True)]
        listed = ", ".join(scales[:MOST_SCALES]) + (" ..." if len(scales) > MOST_SCALES else "")
        emit(
            Note(
                f"targets are standardized by their mean and deviation ({listed}); losses are of standardized targets, all "
                "else is in the units of the data (data.standardize_target)"
            )
        )


def _published_note(opened: OpenedData, info: DataInfo) -> str:
    """What is taken from weights that tell it, in a sentence; empty where nothing is."""
    published, data = opened.published, opened.loaded.config.data
    if published is None or opened.known is not None:
        return ""
    taken, fit = [], opened.pipelines.evaluation.image_fit
    if data.image_size == "auto":
        taken.append(f"image_size {size_text(published.size)}")
    if data.fitting == "auto" and fit is not None:
        taken.append(f"fitting {fit.interpolation} at {size_text(fit.resize_size)}, {fit.crop_mode}")
    if follows_weights(opened):
        statistics = [" ".join(f"{number:.3f}" for number in numbers or ()) for numbers in (info.mean, info.std)]
        taken.append("normalize mean {}, std {}".format(*statistics) if info.mean else "normalize none")
    return f"pictures are prepared as {published.weights} were: {'; '.join(taken)}" if taken else ""


def load_subsets(opened: OpenedData, *, device: torch.device) -> dict[SplitName, StoredSamples]:
    """Read all subsets into memory, by name; a test split that also validates is kept once."""
    subsets, pipelines = opened.subsets, opened.pipelines
    stored = {
        subset.name: load_subset(subset, pipelines.of(subset), device=device)
        for subset in (subsets.train, subsets.val)
        if subset
    }
    if subsets.test is not None:
        is_shared = subsets.val is not None and subsets.val.rows is subsets.test.rows
        stored["test"] = stored["val"] if is_shared else load_subset(subsets.test, pipelines.evaluation, device=device)
    return stored


def scan_masks(subset: Subset, how: Literal["auto", "full", "quick", "off"]) -> None:
    """Read all pictures of a subset with their masks where they are files, with `auto` and `quick` only if there are few.

    Raises DataError naming broken ones, and masks that do not fit.
    """
    count = len(subset.file_paths())
    if how == "full" or (how != "off" and count <= FULL_SCAN_LIMIT):
        subset.map(lambda position: subset.raw(position).numel(), range(count))


def scan_files(opened: OpenedData) -> None:
    """Look for broken image files as `data.scan` asks, but not in those that were decoded already."""
    section, train = opened.loaded.config.data, opened.subsets.train
    if section.on_bad == "skip" or section.cache == "disk":
        return  # read already
    if TRAITS[opened.task].has_maps:
        for subset in opened.subsets.listed():
            scan_masks(subset, section.scan)
        return
    paths = {path for subset in opened.subsets.listed() for path in subset.file_paths()}
    decoded = measured_positions(train) if is_measured(opened) else torch.tensor([0])
    scan_images(sorted(paths.difference(train.file_paths(train.rows[decoded]))), section.scan, limit_s=train.timeout_s)
