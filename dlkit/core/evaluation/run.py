"""Evaluate a model file on the data that it was trained on, or on other data."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import nn

from dlkit.choices import SplitName
from dlkit.config import LoadedConfig
from dlkit.core.components import is_import_path
from dlkit.core.data import DataInfo, Split, build_eval_split
from dlkit.core.devices import torch_settings
from dlkit.core.evaluation.calibration_error import ConfidenceBin, calibration_error, confidence_bins
from dlkit.core.evaluation.confusion import confusion_matrix
from dlkit.core.evaluation.metrics import (
    ClassMetrics,
    LabelMetrics,
    macro_average,
    metrics_per_class,
    metrics_per_label,
    ranking_scores,
    score_mirrored,
    score_predictions,
)
from dlkit.core.evaluation.predictions import predict_split
from dlkit.core.evaluation.temperature import calibrated, with_temperature
from dlkit.core.evaluation.worst import WorstSample, pictures_of, save_worst_picture, worst_samples
from dlkit.core.modelfile import ModelFile, build_from_file, pick_model_device
from dlkit.core.scoring import Scoring, build_loss, pick_precision
from dlkit.core.trained_config import own_config
from dlkit.events import Emit, Note, ignore


@dataclass(frozen=True)
class EvalResult:
    """What a model scores on a split. `per_class`, `confusion`, which has true classes as rows, and `reliability` are those of
    classification, `per_label` that of several labels; elsewhere they are empty. `temperature` is what probabilities are made with,
    `worst` are the samples of a sheet that was asked for.
    """

    split: str
    num_samples: int
    metrics: Mapping[str, float]
    classes: tuple[str, ...]
    per_class: list[ClassMetrics]
    confusion: list[list[int]]
    per_label: list[LabelMetrics] = field(default_factory=list)
    reliability: list[ConfidenceBin] = field(default_factory=list)
    temperature: float | None = None
    worst: list[WorstSample] = field(default_factory=list)


@dataclass(frozen=True)
class Sheet:
    """A picture file of so many samples of the highest loss."""

    path: Path
    num_samples: int


def run_evaluation(
    file: ModelFile,
    *,
    data: LoadedConfig | None,
    split_name: SplitName | None,
    use_tta: bool,
    fits_temperature: bool = False,
    sheet: Sheet | None = None,
    model: str | None = None,
    device: str = "auto",
    emit: Emit = ignore,
) -> EvalResult:
    """Score a model file on a split of its own data, or of `data`, a config.

    Without a name it is the test split; where there is none the validation split, or everything where none is held out, with
    a note. With `fits_temperature` one is fitted to the validation split first, and used. A `sheet` is written, which
    a model of classes of images alone has.
    Raises UsageError when the data is the user's own code and is not named again, DataError for a split that is not there.
    """
    loaded = data or own_config(file)
    with torch_settings():
        target = pick_model_device(file, device, emit)
        network = build_from_file(file, model=model).to(target)
        info = file.spec.info
        if fits_temperature:
            val = build_eval_split(loaded, info, split="val", device=target, emit=emit)
            info = with_temperature(network, val, scoring_for(loaded, info, val, target), info, emit=emit)
        split = _open_split(loaded, info, split_name, device=target, emit=emit)
        scoring, num_worst = scoring_for(loaded, info, split, target), sheet.num_samples if sheet else 0
        result = _score(network, split, scoring, info, use_tta=use_tta, num_worst=num_worst, emit=emit)
        if sheet is not None:
            pictures = pictures_of(split, [sample.position for sample in result.worst], info)
            save_worst_picture(sheet.path, result.worst, pictures)
    return result


def _open_split(
    loaded: LoadedConfig, info: DataInfo, name: SplitName | None, *, device: torch.device, emit: Emit
) -> Split:
    if name is not None:
        return build_eval_split(loaded, info, split=name, device=device, emit=emit)
    split = build_eval_split(loaded, info, split="test", instead=("val", "train"), device=device, emit=emit)
    if split.name != "test":
        emit(Note(f"{loaded.config.data.name} has no test split under this config: {split.name} samples are scored"))
    return split


def scoring_for(loaded: LoadedConfig, info: DataInfo, split: Split, device: torch.device) -> Scoring:
    """Returns how a model is scored on a split: by the config's loss, but cross-entropy or squared error where that is own code."""
    section = loaded.config.loss
    if is_import_path(section.name):
        kept = {name: value for name, value in section.options.items() if name == "ignore_index"}
        section = type(section)(name="auto", **kept)
    loss = build_loss(section, info, targets=split.sample_targets, device=device)
    return Scoring(loss, pick_precision("off", device), info.task, info=info)


def _score(
    network: nn.Module, split: Split, scoring: Scoring, info: DataInfo, *, use_tta: bool, num_worst: int, emit: Emit
) -> EvalResult:
    predictions = predict_split(network, split, scoring, emit=emit)
    metrics = score_predictions(predictions, scoring)
    if use_tta:
        metrics |= score_mirrored(network, split, scoring, emit=emit)
    result = EvalResult(split.name, split.num_samples, metrics, (), [], [])
    if info.task == "regression":
        return result
    classes = info.classes or tuple(map(str, range(info.num_outputs)))
    if info.task == "multilabel":
        return replace(result, classes=classes, per_label=metrics_per_label(predictions, classes, info.thresholds))
    num_all = len(predictions.targets)
    predictions = predictions.without(scoring.loss.ignore_index)
    if num_left := num_all - len(predictions.targets):
        emit(Note(f"{num_left} of {num_all} samples have the label {scoring.loss.ignore_index}, which is not counted"))
    rows = metrics_per_class(predictions, classes)
    confusion = confusion_matrix(predictions).tolist()
    predictions = replace(predictions, outputs=calibrated(predictions.outputs, info))
    bins = confidence_bins(predictions)
    metrics |= {f"macro_{name}": value for name, value in macro_average(rows).items()}
    metrics |= {**ranking_scores(predictions), "ece": calibration_error(bins)}
    return replace(
        result,
        classes=classes,
        per_class=rows,
        confusion=confusion,
        reliability=bins,
        temperature=info.temperature,
        worst=worst_samples(predictions, classes, num_worst) if num_worst else [],
    )


def most_confused(result: EvalResult, most: int = 5) -> list[tuple[str, str, int]]:
    """Returns the pairs (true class, predicted class, count) that are mistaken most often."""
    pairs = [
        (result.classes[row], result.classes[column], count)
        for row, counts in enumerate(result.confusion)
        for column, count in enumerate(counts)
        if row != column and count
    ]
    return sorted(pairs, key=lambda pair: -pair[2])[:most]
