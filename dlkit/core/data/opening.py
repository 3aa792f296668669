"""From a config to data that are opened and checked: the source, the splits, the transforms, and one sample looked at.

Nothing but that sample is read here, unless samples that cannot be read are to be skipped, so what only has to know about the
data need not load them.
"""

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from dlkit.config import Data as DataSection
from dlkit.config import LoadedConfig, Sampling
from dlkit.core.components import Builder, ComponentError, at_component, check_options, is_import_path, resolve
from dlkit.core.data.batching import SharedBatches
from dlkit.core.data.caching import pick_memory
from dlkit.core.data.checks import TargetForm, check_subset, ignored_label
from dlkit.core.data.contract import DataInfo, PublishedInput
from dlkit.core.data.matching import check_fits, match_source, pick_fit
from dlkit.core.data.missing import fill_missing
from dlkit.core.data.mixing import MixingPlan
from dlkit.core.data.samples import Source, SourceRequest
from dlkit.core.data.sampling import build_sampling, sampling_notes
from dlkit.core.data.size_plan import SizePlan
from dlkit.core.data.sources import open_custom, open_torchvision
from dlkit.core.data.splits import idle_options, mixing_notes, plan_mixing, plan_sizes, plan_training, repeat_notes
from dlkit.core.data.subsets import Subset, Subsets, pick_subsets
from dlkit.core.data.time_limit import limit_of
from dlkit.core.data.transforms import Fit, Pipeline, build_pipeline, notes_on_transforms, try_pipeline
from dlkit.core.data.unreadable import skip_unreadable, skipped_note
from dlkit.core.distributed import ALONE, World
from dlkit.errors import DataError, UsageError
from dlkit.registry import injected_into
from dlkit.shapes import size_text
from dlkit.tasks import TRAITS, TaskName

REGRESSION_LOSSES = frozenset({"mse", "mseloss", "l1loss", "smoothl1loss", "huberloss", "poissonnllloss"})
MAP_LOSSES = frozenset({"dice", "diceloss", "sum"})
CLASSIFICATION_LOSSES = frozenset({"cross_entropy", "crossentropyloss", "nllloss", "multimarginloss"})


@dataclass(frozen=True)
class Pipelines:
    """The transforms of training and those of evaluation."""

    train: Pipeline
    evaluation: Pipeline

    def of(self, subset: Subset) -> Pipeline:
        """Returns those of one subset."""
        return self.train if subset.name == "train" else self.evaluation


@dataclass(frozen=True)
class OpenedData:
    """The data of a config before they are read: what makes up each split, what is done to it, and where it is kept.

    `shown` is the first training sample as evaluation transforms it, `plan` says which samples make up the batches of
    training, `known` what an existing model takes, `published` what
    its published weights were trained on, `notes` which choices were made, in sentences, `skipped` what is wrong with
    each sample that was left out.
    """

    loaded: LoadedConfig
    source: Source
    task: TaskName
    subsets: Subsets
    pipelines: Pipelines
    shown: Tensor
    mixing: MixingPlan | None
    sizes: SizePlan | None
    plan: SharedBatches
    is_in_memory: bool
    known: DataInfo | None
    notes: tuple[str, ...]
    skipped: tuple[str, ...] = ()
    published: PublishedInput | None = None


def open_data(
    loaded: LoadedConfig,
    *,
    seed: int,
    known: DataInfo | None = None,
    published: PublishedInput | None = None,
    world: World = ALONE,
) -> OpenedData:
    """Open the data of a config and check what can be checked without reading them all.

    With `known`, what an existing model takes, classes are matched by name; `published` is what the model's published weights were
    trained on, which stands for every `auto`. Raises ConfigError at the key at fault; DataError for data that are missing, broken or do
    not fit together, or do not fit the model.
    """
    with world.first_on_machine() if loaded.config.data.download else nullcontext():
        source = open_source(loaded, seed=seed, known=known)
    source, task = (match_source(source, known), known.task) if known else (source, pick_task(loaded, source))
    source, subsets, skipped = _pick_readable(loaded, source, task, seed)
    _check_subsets(subsets, _target_form(loaded, source, task, known))
    fit, has_masks = pick_fit(loaded, source, known=known, published=published), TRAITS[task].has_maps
    pipelines = build_pipelines(loaded, source, fit, has_masks=has_masks)
    shown = try_pipelines(loaded, pipelines, subsets.train, known, has_masks=has_masks)
    in_memory, why = pick_memory(
        loaded, subsets, train=pipelines.train, evaluation=pipelines.evaluation, num_holders=world.local_size
    )
    plan = _plan(loaded, source, subsets.train, task, seed=seed, world=world)
    mixing = plan_mixing(loaded, source.kind, plan.num_batches, has_masks=has_masks)
    drawn = sampling_notes(plan.sampling, source, subsets.train, task)
    idle = (*idle_options(loaded.config.data, in_memory=in_memory), *mixing_notes(mixing))
    is_augmented = pipelines.train.is_random or mixing is not None or subsets.train.samples.is_random
    repeated = repeat_notes(loaded.config, plan, is_augmented=is_augmented)
    of_config = (*drawn, *repeated, *notes_on_transforms(loaded), *why, *idle)
    return OpenedData(
        *(loaded, source, task, subsets, pipelines, shown, mixing, plan_sizes(loaded, plan.num_batches), plan),
        is_in_memory=in_memory,
        known=known,
        notes=(*source.notes, *subsets.notes, *([skipped_note(skipped)] if skipped else []), *of_config),
        skipped=skipped,
        published=published if source.kind == "image" else None,
    )


def _check_subsets(subsets: Subsets, form: TargetForm) -> None:
    for subset in subsets.listed():
        check_subset(subset, form)


def _plan(
    loaded: LoadedConfig, source: Source, train: Subset, task: TaskName, *, seed: int, world: World
) -> SharedBatches:
    sampling = build_sampling(loaded, source, train, task)
    plan = plan_training(loaded.config.data, len(train.rows), seed=seed, world=world, sampling=sampling)
    check_has_batches(loaded, plan, world)
    return plan


def _pick_readable(
    loaded: LoadedConfig, source: Source, task: TaskName, seed: int
) -> tuple[Source, Subsets, tuple[str, ...]]:
    """Returns source and subsets with what is missing filled and what cannot be read left out, and what is wrong with the latter."""
    source, subsets = fill_missing(source, pick_subsets(loaded, source, task=task, seed=seed))
    return source, *skip_unreadable(subsets, loaded.config.data)


def _target_form(loaded: LoadedConfig, source: Source, task: TaskName, known: DataInfo | None) -> TargetForm:
    """Returns what targets must be. Raises ConfigError where the ignored label is the name of a class."""
    _check_ignored_label(loaded, source)
    has_classes = task in ("classification", "segmentation")
    allowed = count_allowed(loaded, source) if has_classes and not known else source.num_outputs
    return TargetForm(task, known.num_outputs if known else allowed, ignored_label(loaded))


def _check_ignored_label(loaded: LoadedConfig, source: Source) -> None:
    """Raise ConfigError where the ignored label is the name of a class, which has another number."""
    label, classes = ignored_label(loaded), source.classes or ()
    if label is not None and not 0 <= label < len(classes) and str(label) in classes:
        number = classes.index(str(label))
        raise loaded.error(
            ("loss", "ignore_index"),
            f"{label} is the name of a class of these data, whose number is {number}; write {number}",
        )


def open_source(loaded: LoadedConfig, *, seed: int, known: DataInfo | None = None) -> Source:
    """Open the source that the config names, as an existing model takes it if one is known.

    Raises ConfigError at the key at fault, DataError where the data are.
    """
    section = loaded.config.data
    request = SourceRequest(
        root=None if section.root == "auto" else section.root,
        download=section.download,
        seed=seed,
        task=known.task if known else hinted_task(loaded),
        ignored_label=ignored_label(loaded),
        skips_bad=section.on_bad == "skip",
        columns=known.columns if known else None,
        timeout_s=limit_of(section),
        weights=section.sampling.weights if isinstance(section.sampling, Sampling) else None,
    )
    with at_component(loaded, "data"):
        builder = resolve("datasets", section.name)
        injected = injected_into("datasets", builder.__module__)
        check_options(builder, section.options, injected=injected, also_known=DataSection.model_fields)
        return _open(builder, section, request)


def _open(builder: Builder, section: DataSection, request: SourceRequest) -> Source:
    if is_import_path(section.name):
        return open_custom(builder, section.options, request)
    if builder.__module__.startswith("torchvision."):
        return open_torchvision(builder, section.options, request)
    options: dict[str, Any] = section.options
    try:
        source: Source = builder(**options, request=request)
    except TypeError as error:
        raise ComponentError(f"{section.name}: {error}") from error
    return source


def hinted_task(loaded: LoadedConfig) -> TaskName | None:
    """Returns the task that the config states or whose kind of loss it names; None where neither decides."""
    config = loaded.config
    if config.task != "auto":
        return config.task
    loss = config.loss.name.casefold()
    if loss in REGRESSION_LOSSES:
        return "regression"
    if loss in MAP_LOSSES:
        return "segmentation"
    return "classification" if loss in CLASSIFICATION_LOSSES else None


def pick_task(loaded: LoadedConfig, source: Source) -> TaskName:
    """Returns the task that the config states, else that of the data. Raises ConfigError where the data cannot serve it."""
    asked = loaded.config.task
    task: TaskName = source.task if asked == "auto" else asked
    if task == "classification" and source.task != "classification":
        got = {
            "regression": "floats",
            "multilabel": "0 or 1 for each of several labels",
            "segmentation": "masks, a class for each pixel",
        }[source.task]
        raise loaded.error(("task",), f"the targets of this data set are {got}; classification needs whole numbers")
    if (task == "segmentation") != (source.task == "segmentation"):
        what = "masks, which are for segmentation" if source.task == "segmentation" else "no masks"
        raise loaded.error(("task",), f"the targets of this data set are {what}; the task is {task}")
    if task == "multilabel" and source.task == "classification":
        raise loaded.error(
            ("task",), "the targets of this data set are one class per sample; multilabel needs 0 or 1 for each label"
        )
    return task


def count_allowed(loaded: LoadedConfig, source: Source) -> int:
    """Returns how many classes labels may name: what the data hold, or fewer if the model was told fewer."""
    if source.num_outputs < 2:
        raise DataError(f"{loaded.config.data.name} holds one class only; at least two are needed")
    asked = loaded.config.model.num_classes
    return source.num_outputs if asked == "auto" else min(asked, source.num_outputs)


def build_pipelines(loaded: LoadedConfig, source: Source, fit: Fit | None, *, has_masks: bool) -> Pipelines:
    """Returns the transforms of training and of evaluation, behind the fitting of images. Raises ConfigError at the key at fault."""
    keys = ("transforms", "eval_transforms")
    return Pipelines(*(build_pipeline(loaded, key, kind=source.kind, fit=fit, has_masks=has_masks) for key in keys))


def try_pipelines(
    loaded: LoadedConfig, pipelines: Pipelines, subset: Subset, known: DataInfo | None, *, has_masks: bool
) -> Tensor:
    """Run the first sample through both and return what evaluation makes of its input. Raises ConfigError at a transform that fails."""
    train = try_pipeline(loaded, "transforms", pipelines.train, sample=subset.raw(0), has_mask=has_masks)
    shown = try_pipeline(loaded, "eval_transforms", pipelines.evaluation, sample=subset.raw(0), has_mask=has_masks)
    if train.ndim != shown.ndim or (train.ndim == 3 and train.shape[0] != shown.shape[0]):
        made, other = (size_text(value.shape) for value in (train, shown))
        raise loaded.error(("data", "transforms"), f"training samples become {made}, but evaluation samples {other}")
    if known:
        check_fits(shown, known)
    return shown


def check_has_batches(loaded: LoadedConfig, plan: SharedBatches, world: World) -> None:
    """Raise ConfigError when dropping the last batch leaves none, UsageError when there are more processes than samples."""
    if plan.num_samples < world.size:
        raise UsageError(
            f"{world.size} processes for {plan.num_samples} training samples: each needs at least one; start fewer"
        )
    if plan.repeats > plan.num_samples:
        message = f"{plan.repeats} copies of a sample are more than the {plan.num_samples} training samples of an epoch"
        raise loaded.error(("data", "repeats"), message)
    if not plan.num_batches:
        message = f"drops the only batch: {plan.num_samples} training samples, batch_size {plan.batch_size}"
        raise loaded.error(("data", "drop_last"), message)
