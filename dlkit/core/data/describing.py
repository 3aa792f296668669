"""The description of the data that a model is built and fed by: task, sizes, classes, statistics."""

import math
from collections.abc import Iterable, Iterator
from statistics import fmean

import torch
from torch import Tensor

from dlkit.config import LoadedConfig, Normalization
from dlkit.core.data.caching import StoredSamples, input_chunks
from dlkit.core.data.contract import DataInfo, Kind
from dlkit.core.data.counter_rng import Draws, Stream, hash_key, permutation
from dlkit.core.data.masks import only_pictures
from dlkit.core.data.opening import OpenedData
from dlkit.core.data.samples import Source, TensorSamples
from dlkit.core.data.statistics import Statistics, measure_statistics
from dlkit.core.data.subsets import Subset
from dlkit.core.data.transforms import Pipeline
from dlkit.errors import DataError
from dlkit.tasks import TRAITS, TaskName

MOST_MEASURED = 20_000
_CHUNK = 256
# those that compare by differences; counts (Poisson), probabilities and one's own losses may need targets as they are
_UNBOUND_LOSSES = frozenset({"auto", "mse", "mseloss", "l1loss", "smoothl1loss", "huberloss"})


def describe_data(opened: OpenedData, stored: StoredSamples | None) -> DataInfo:
    """Returns the description of opened data; `stored` are the training samples where they are in memory."""
    loaded, source, task = opened.loaded, opened.source, opened.task
    mean, std = pick_statistics(opened, stored) or (None, None)
    target_mean, target_std = pick_target_statistics(opened) or (None, None)
    num_outputs = pick_num_outputs(loaded, source, task=task)
    return DataInfo(
        task=task,
        kind=source.kind,
        input_size=tuple(opened.shown.shape),
        num_outputs=num_outputs,
        classes=label_names(source, task, num_outputs),
        mean=mean,
        std=std,
        columns=source.columns,
        targets=source.targets,
        target_mean=target_mean,
        target_std=target_std,
        fit=opened.pipelines.evaluation.image_fit,
    )


def label_names(source: Source, task: TaskName, num_outputs: int) -> tuple[str, ...] | None:
    """Returns the names of classes or labels; the target columns of a table, if need be, are labels. Classes that the model has beyond
    those of the data are called by their numbers.
    """
    if task == "multilabel":
        return source.classes or source.targets
    if task == "regression" or source.classes is None:
        return None
    return *source.classes, *(f"class {number}" for number in range(len(source.classes), num_outputs))


def pick_num_outputs(loaded: LoadedConfig, source: Source, *, task: TaskName) -> int:
    """Returns the number of classes, or more if the model was told more; of labels; or of target columns, class numbers being one."""
    if task not in ("classification", "segmentation"):
        return 1 if source.task == "classification" else source.num_outputs
    asked = loaded.config.model.num_classes
    return source.num_outputs if asked == "auto" else max(asked, source.num_outputs)


def pick_statistics(opened: OpenedData, stored: StoredSamples | None) -> Statistics | None:
    """Returns mean and standard deviation as `data.normalize` asks: none, given, those of published weights, or measured on the
    training split.
    """
    asked, kind = opened.loaded.config.data.normalize, opened.source.kind
    train, evaluation = opened.subsets.train, opened.pipelines.evaluation
    if asked == "none":
        return None
    if isinstance(asked, Normalization):
        return _given(opened.loaded, asked, opened.shown, kind=kind)
    if follows_weights(opened):
        return _published_statistics(opened)
    chunks = training_chunks(train, evaluation, stored=stored)
    chunks = only_pictures(chunks) if TRAITS[opened.task].has_maps else chunks
    mean, std = measure_statistics(chunks, is_image=kind == "image")
    if not all(map(math.isfinite, mean + std)):
        raise DataError("the training samples hold values that are not finite (nan or inf); remove or replace them")
    return mean, std


def follows_weights(opened: OpenedData) -> bool:
    """Returns whether mean and standard deviation are those that the weights of the model were trained with: where `data.normalize`
    leaves it to them, and the channels are theirs, or one of grey, which gets the means over the colours.
    """
    published = opened.published
    if published is None or opened.loaded.config.data.normalize != "auto":
        return False
    return published.mean is None or opened.shown.shape[0] in (1, len(published.mean))


def _published_statistics(opened: OpenedData) -> Statistics | None:
    published = opened.published
    if published is None or published.mean is None or published.std is None:
        return None
    if opened.shown.shape[0] == len(published.mean):
        return published.mean, published.std
    return (fmean(published.mean),), (fmean(published.std),)


def is_measured(opened: OpenedData) -> bool:
    """Returns whether mean and standard deviation are measured on the training split."""
    asked = opened.loaded.config.data.normalize
    return asked == "data" or (asked == "auto" and not follows_weights(opened))


def pick_target_statistics(opened: OpenedData) -> Statistics | None:
    """Returns mean and standard deviation of each target over the training split, as `data.standardize_target` asks.

    Raises ConfigError where targets are classes and it asks for them.
    """
    loaded, asked = opened.loaded, opened.loaded.config.data.standardize_target
    if opened.task != "regression":
        if asked is True:
            outputs = TRAITS[opened.task].outputs
            raise loaded.error(
                ("data", "standardize_target"), f"the targets are {outputs}; only numbers are standardized"
            )
        return None
    is_wanted = loaded.config.loss.name.casefold() in _UNBOUND_LOSSES if asked == "auto" else asked
    return measure_statistics([opened.subsets.train.targets.double()], is_image=False) if is_wanted else None


def _given(loaded: LoadedConfig, asked: Normalization, sample: Tensor, *, kind: Kind) -> Statistics:
    count = sample.shape[0 if kind == "image" else -1]
    for name, values in (("mean", asked.mean), ("std", asked.std)):
        if len(values) not in (1, count):
            what = "channels" if kind == "image" else "features"
            raise loaded.error(
                ("data", "normalize", name), f"{len(values)} numbers for {count} {what}; give {count}, or one for all"
            )
    mean, std = (tuple(values) * (count if len(values) == 1 else 1) for values in (asked.mean, asked.std))
    return mean, std


def training_chunks(train: Subset, evaluation: Pipeline, *, stored: StoredSamples | None) -> Iterable[Tensor]:
    """Returns raw training inputs after evaluation's transforms, some at a time; of samples on disk at most 20,000, by seed."""
    done = stored.steps if stored else ()
    if stored is not None and evaluation.steps[: len(done)] == done:
        return input_chunks(stored.inputs, stored.rows, Pipeline(evaluation.steps[len(done) :]), first=len(done))
    if isinstance(train.samples, TensorSamples):
        return input_chunks(train.samples.inputs, train.rows, evaluation, first=0)
    return _read_chunks(train, evaluation)


def measured_positions(train: Subset, most: int = MOST_MEASURED) -> Tensor:
    """Returns the positions of a subset on disk that are measured, ascending."""
    return permutation(hash_key(0, Stream.STATISTICS), len(train.rows))[:most].sort().values


def _read_chunks(train: Subset, evaluation: Pipeline) -> Iterator[Tensor]:
    def read(position: int) -> Tensor:
        sample = train.raw(position)
        return evaluation.run_sample(sample, Draws(0, 0, torch.tensor([position])))

    for positions in torch.split(measured_positions(train), _CHUNK):
        for sample in train.map(read, positions.tolist()):
            yield sample[None]
