"""Settings that are right one by one and wrong together, as far as this is certain without torch and data."""

import re
from collections.abc import Iterator

from dlkit.config.data_section import GrowingSize, Sampling
from dlkit.config.schema import Config
from dlkit.config.source_locations import KeyPath, Locations
from dlkit.config.type_mismatch import join_or
from dlkit.errors import Problem
from dlkit.registry import find_entry
from dlkit.suggestions import closest, did_you_mean
from dlkit.tasks import TRAITS

# the usual columns of metrics.csv, as core/training/folder/records.py writes them; another name is refused only if it is
# close to one of these, or does not look like a column at all
_SPLITS = ("train", "val", "val_ema")
_COMMON_METRICS = tuple(
    f"{split}_{name}"
    for split in _SPLITS
    for name in dict.fromkeys(
        name for traits in TRAITS.values() for name in traits.columns(is_validated=split != "train")
    )
)
_COLUMN = re.compile(r"(train|val)_\w+")
_TAKES_CLASS_WEIGHTS = ("cross_entropy", "focal", "bce", "sum", "NLLLoss")
_COMPILE_MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")
_DEVICES = ("auto", "cpu", "cuda", "mps")

_Found = Iterator[tuple[KeyPath, str]]


def check_consistency(config: Config, locations: Locations) -> dict[KeyPath, Problem]:
    """Problems between settings, by the path of the one that is easiest to change."""
    checks = (_splits, _pictures, _loaders, _sampling, _repeats, _model, _loss, _metrics, _machine)
    return {path: locations.problem(path, message, at="value") for check in checks for path, message in check(config)}


def find_warnings(config: Config, locations: Locations) -> tuple[Problem, ...]:
    """Warnings about settings that are allowed but probably not wanted."""
    if config.data.val != "test":
        return ()
    why = "the best epoch is picked on the test split, so test metrics come out too good"
    message = f"{why}; a fraction such as 0.1 holds out training samples instead"
    return (locations.problem(("data", "val"), message, at="value"),)


def _splits(config: Config) -> _Found:
    val, test, fold = config.data.val, config.data.test, config.data.fold
    if isinstance(val, float) and isinstance(test, float) and val + test >= 1:
        yield (
            ("data", "test"),
            f"val and test together hold out {val + test:g} of the samples; nothing is left to train on",
        )
    if fold is not None and fold.number > fold.of:
        yield ("data", "fold", "number"), f"there are {fold.of} folds, counted from 1"
    if fold is not None and not isinstance(val, float):
        yield ("data", "fold"), f"a fold validates in place of a share, but data.val is {val}"
    if val == "test" and test == "none":
        yield ("data", "val"), "validates on the test split, but data.test is none"


def _pictures(config: Config) -> _Found:
    size, mixing = config.data.image_size, config.data.mixing
    if isinstance(size, GrowingSize) and size.to <= getattr(size, "from"):
        yield (
            ("data", "image_size", "to"),
            f"images grow from {getattr(size, 'from')}; expected a larger number than that",
        )
    names = [component.name.casefold() for component in config.data.batch_transforms]
    if mixing is not None and not names:
        yield ("data", "mixing"), "nothing mixes: data.batch_transforms is empty; add mixup or cutmix"
    elif mixing is not None and mixing.switch is not None and sorted(names) != ["cutmix", "mixup"]:
        yield ("data", "mixing", "switch"), "is for mixup and cutmix together; list both in data.batch_transforms"


def _loaders(config: Config) -> _Found:
    if config.data.on_bad == "skip" and config.data.scan == "off":
        yield ("data", "scan"), "off does not look for samples that on_bad: skip could leave out; use auto or quick"
    if config.data.num_workers != 0:
        return
    if config.data.persistent_workers is True:
        yield ("data", "persistent_workers"), "there are no loader processes to keep: data.num_workers is 0"
    if config.data.prefetch_factor is not None:
        yield ("data", "prefetch_factor"), "there are no loader processes to fetch ahead: data.num_workers is 0"


def _sampling(config: Config) -> _Found:
    asked, path = config.data.sampling, ("data", "sampling")
    if isinstance(asked, Sampling) and (asked.power is None) == (asked.weights is None):
        yield path, "expected balanced, {power: 0.5} or {weights: column}"
    if asked != "none" and not config.data.shuffle:
        yield path, "draws samples, but data.shuffle is false, which keeps their order"
    if (
        not isinstance(asked, Sampling)
        and asked == "balanced"
        and config.task in ("regression", "multilabel", "segmentation")
    ):
        yield path, f"balances classes, but the task is {config.task}; {{weights: column}} takes weights of your own"


def _repeats(config: Config) -> _Found:
    data, path = config.data, ("data", "repeats")
    if data.repeats == 1:
        return
    if data.repeats > data.batch_size:
        yield path, f"{data.repeats} copies of a sample do not fit into a batch; data.batch_size is {data.batch_size}"
    elif data.sampling != "none":
        yield path, "does not go with data.sampling, which repeats samples in its own way; leave one of both out"
    elif not data.shuffle:
        yield path, "needs data.shuffle; without it an epoch is always the same part of the samples in a row"


def _model(config: Config) -> _Found:
    is_list = _is_spelling_of("models", config.model.name, "layers")
    if is_list and config.model.layers is None:
        yield ("model", "layers"), "missing; the model named layers is written as a list here, see docs/models.md"
    if config.model.layers is not None and not is_list:
        yield ("model", "layers"), f"a list of layers needs `name: layers`; {config.model.name} has its own"


def _loss(config: Config) -> _Found:
    name = config.loss.name
    if config.task in ("multilabel", "regression") and _is_spelling_of("losses", name, "cross_entropy"):
        better = TRAITS[config.task].default_loss
        yield ("loss", "name"), f"cross-entropy needs classes, but task is {config.task}; use {better}"
    for ours in ("dice", "sum"):
        if config.task not in ("auto", "segmentation") and _is_spelling_of("losses", name, ours):
            yield ("loss", "name"), f"{ours} is a loss for segmentation; the task is {config.task}"
    if config.task not in ("auto", "multilabel") and _is_spelling_of("losses", name, "asymmetric"):
        yield ("loss", "name"), f"asymmetric is a loss for multilabel; the task is {config.task}"
    if config.loss.class_weights is None:
        return
    if config.task == "regression":
        yield ("loss", "class_weights"), "there are no classes to weight: task is regression"
    elif find_entry("losses", name) and not any(
        _is_spelling_of("losses", name, taker) for taker in _TAKES_CLASS_WEIGHTS
    ):
        yield (
            ("loss", "class_weights"),
            f"weights per class are for cross_entropy, focal, bce and sum; the loss is {name}",
        )


def _metrics(config: Config) -> _Found:
    watched: list[tuple[KeyPath, str]] = [(("checkpoint", "metric"), config.checkpoint.metric)]
    if config.train.early_stop:
        watched.append((("train", "early_stop", "metric"), config.train.early_stop.metric))
    followed, curve = config.schedule.metric, find_entry("schedules", config.schedule.name)
    if (curve and curve.name == "plateau") or (curve is None and followed != "val_loss"):
        watched.append((("schedule", "metric"), followed))
        if config.schedule.options.get("mode") == "max" and followed.endswith("loss"):
            yield ("schedule", "mode"), f"less of {followed} is better; leave mode out, or name another schedule.metric"
    elif curve and curve.is_ours and followed != "val_loss":
        yield ("schedule", "metric"), f"{curve.name} follows no metric; plateau does"
    if config.checkpoint.average is not None:
        if config.data.val == "none":
            yield ("checkpoint", "average"), "the mean is judged on the validation split, but data.val is none"
        if config.checkpoint.metric.startswith("train"):
            yield ("checkpoint", "metric"), "the mean of checkpoints is judged by a validation metric, as val_loss"
    for path, metric in watched:
        if message := _metric_mistake(metric, config):
            yield path, message


def _metric_mistake(metric: str, config: Config) -> str | None:
    name = metric.replace("/", "_")
    if name == "auto":
        return None
    if name not in _COMMON_METRICS and (not _COLUMN.fullmatch(name) or closest(name, _COMMON_METRICS)):
        hint = did_you_mean(name, _COMMON_METRICS)
        return f"no column {metric!r} in metrics.csv.{hint or ' Columns are named like val_loss and val_accuracy'}"
    if name.startswith("val_") and config.data.val == "none":
        return f"{metric} is never measured: data.val is none"
    if name.startswith("val_ema_") and config.ema is None:
        return f"{metric} is never measured: there is no section ema"
    if config.task != "auto" and name in _COMMON_METRICS:
        known = TRAITS[config.task].columns(is_validated=not name.startswith("train_"))
        if name not in (f"{split}_{known_name}" for split in _SPLITS for known_name in known):
            return f"{metric} is never measured: task is {config.task}"
    return None


def _machine(config: Config) -> _Found:
    mode, device = config.train.compile, config.runtime.device
    if isinstance(mode, str) and mode not in _COMPILE_MODES:
        known = join_or(["true", "false", *_COMPILE_MODES])
        yield ("train", "compile"), f"expected {known}, got {mode!r}.{did_you_mean(mode, _COMPILE_MODES)}"
    kind, _, index = device.partition(":")
    if kind not in _DEVICES or (":" in device and not index.isdecimal()):
        hint = " Did you mean 'cuda'?" if kind in ("gpu", "nvidia") else did_you_mean(kind, _DEVICES)
        yield ("runtime", "device"), f"expected auto, cpu, cuda, cuda:1 or mps, got {device!r}.{hint}"


def _is_spelling_of(kind: str, name: str, ours: str) -> bool:
    """Whether a name is a spelling of one of our own names."""
    entry = find_entry(kind, name)
    return entry is not None and entry.name == ours
