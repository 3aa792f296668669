"""Data as a trained network is evaluated on them: in order, normalized as the network was trained, nothing measured."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from dlkit.choices import SplitName
from dlkit.config import LoadedConfig
from dlkit.core.data.caching import load_subset, no_draws, pick_memory
from dlkit.core.data.checks import TargetForm, check_subset, ignored_label
from dlkit.core.data.contract import DataInfo, Split
from dlkit.core.data.matching import check_fits, fit_of, match_source, pick_fit
from dlkit.core.data.opening import open_source
from dlkit.core.data.samples import Source
from dlkit.core.data.scan import scan_images
from dlkit.core.data.splits import SplitBuilder
from dlkit.core.data.subsets import Subset, Subsets, pick_subsets
from dlkit.core.data.transforms import Pipeline, build_pipeline, try_pipeline
from dlkit.core.data.unreadable import readable_part, skipped_note
from dlkit.errors import DataError
from dlkit.events import Emit, Note, ignore
from dlkit.tasks import TRAITS


class NoSplit(DataError):
    """The data have no split of that name."""


def build_eval_split(
    loaded: LoadedConfig,
    info: DataInfo,
    *,
    split: SplitName,
    instead: Sequence[SplitName] = (),
    device: torch.device,
    batch_size: int | None = None,
    emit: Emit = ignore,
) -> Split:
    """Returns one split for a trained model: the samples that a run with this config holds out.

    Where there is none of that name it is the first one of `instead`. Class labels are matched by name. Raises NoSplit when
    there is none of any name, DataError when it does not fit the model.
    """
    source, subset = _pick_subset(loaded, info, (split, *instead), emit)
    return build_ordered_split(loaded, source, subset, info=info, device=device, batch_size=batch_size, emit=emit)


def open_eval_subset(
    loaded: LoadedConfig, info: DataInfo, *, split: SplitName, instead: Sequence[SplitName] = (), emit: Emit = ignore
) -> Subset:
    """Returns the samples of such a split as they are before any transform. Raises as `build_eval_split`."""
    _, subset = _pick_subset(loaded, info, (split, *instead), emit)
    return _checked(loaded, subset, info, emit)


def _pick_subset(loaded: LoadedConfig, info: DataInfo, names: Sequence[SplitName], emit: Emit) -> tuple[Source, Subset]:
    opened = open_source(loaded, seed=loaded.config.seed, known=info)
    source = match_source(opened, info)
    for note in source.notes[len(opened.notes) :]:
        emit(Note(note))
    subsets = pick_subsets(loaded, source, task=info.task, seed=loaded.config.seed)
    have = {subset.name: subset for subset in subsets.listed()}
    subset = next((have[name] for name in names if name in have), None)
    if subset is None:
        raise NoSplit(f"{loaded.config.data.name} has no {names[0]} split under this config; it has: {', '.join(have)}")
    return source, subset


def _checked(loaded: LoadedConfig, subset: Subset, info: DataInfo, emit: Emit) -> Subset:
    """The samples that can be read, where `data.on_bad` leaves out the others, after a look at their targets."""
    subset, skipped = readable_part(subset, loaded.config.data)
    if skipped:
        emit(Note(skipped_note(skipped)))
    check_subset(subset, TargetForm(info.task, info.num_outputs, ignored_label(loaded)))
    return subset


def build_ordered_split(
    loaded: LoadedConfig,
    source: Source,
    subset: Subset,
    *,
    info: DataInfo,
    device: torch.device,
    batch_size: int | None = None,
    emit: Emit = ignore,
) -> Split:
    """Returns a subset in its own order, with evaluation's transforms and the model's normalization.

    Samples that cannot be read are left out where `data.on_bad` says so, and reported. Raises DataError when it does not fit the
    model.
    """
    subset = _checked(loaded, subset, info, emit)
    fit = pick_fit(loaded, source, known=info)
    has_masks = TRAITS[info.task].has_maps
    evaluation = build_pipeline(loaded, "eval_transforms", kind=source.kind, fit=fit, has_masks=has_masks)
    check_fits(try_pipeline(loaded, "eval_transforms", evaluation, sample=subset.raw(0), has_mask=has_masks), info)
    only = Subsets(subset, None, None, ())
    in_memory, _ = pick_memory(loaded, only, train=Pipeline(()), evaluation=evaluation)
    stored = load_subset(subset, evaluation, device=device) if in_memory else None
    if not in_memory and loaded.config.data.on_bad == "stop":
        scan_images(subset.file_paths(), loaded.config.data.scan, limit_s=subset.timeout_s)
    section = loaded.config.data.model_copy(update={"eval_batch_size": batch_size} if batch_size else {})
    builder = SplitBuilder(section, info, device, loaded.config.seed, ignored_label=ignored_label(loaded))
    return builder.build_ordered(subset, evaluation, stored)


def build_eval_transform(loaded: LoadedConfig, info: DataInfo) -> Callable[[Tensor], Tensor]:
    """Returns what evaluation does to one decoded image (C, H, W) before `prepare_image` normalizes it; reads no data."""
    pipeline = build_pipeline(loaded, "eval_transforms", kind=info.kind, fit=fit_of(loaded, info))
    return lambda image: pipeline.run_sample(image, no_draws())
