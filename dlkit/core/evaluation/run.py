"""Evaluate a model file on the data that it was trained on, or on other data."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import nn

from dlkit.choices import SplitName
from dlkit.config import LoadedConfig
from dlkit.core.components import is_import_path
from dlkit.core.data import DataInfo, Split, build_eval_split
from dlkit.core.devices import torch_settings
from dlkit.core.evaluation.calibration_error import (
    ConfidenceBin,
    calibration_error,
    confidence_bins,
    save_reliability_picture,
)
from dlkit.core.evaluation.confusion import confusion_matrix, save_confusion_picture
from dlkit.core.evaluation.gathering import Predictions
from dlkit.core.evaluation.map_scores import PixelMetrics, count_maps, metrics_per_pixel_class
from dlkit.core.evaluation.metrics import (
    ClassMetrics,
    LabelMetrics,
    macro_average,
    metrics_per_class,
    metrics_per_label,
    ranking_scores,
    score_mirrored,
    score_split,
)
from dlkit.core.evaluation.request import EvalRequest, check_request
from dlkit.core.evaluation.temperature import calibrated, with_temperature
from dlkit.core.evaluation.worst import WorstSample, pictures_of, save_worst_picture, worst_samples
from dlkit.core.modelfile import ModelFile, build_from_file, pick_model_device, save_model_file
from dlkit.core.scoring import Scoring, build_loss, pick_precision
from dlkit.core.trained_config import own_config
from dlkit.events import Emit, Note, Saved, ignore


@dataclass(frozen=True)
class EvalResult:
    """What a model scores on a split. `per_class` and `confusion`, which has true classes as rows, are those of classes, of samples or of
    pixels, `reliability` that of samples, `per_label` that of several labels, which have a `reliability` too; elsewhere they are empty.
    `temperature` is what
    probabilities are made with, `worst` are the samples of a sheet that was asked for.
    """

    split: str
    num_samples: int
    metrics: Mapping[str, float]
    classes: tuple[str, ...]
    per_class: Sequence[ClassMetrics | PixelMetrics]
    confusion: list[list[int]]
    per_label: list[LabelMetrics] = field(default_factory=list)
    reliability: list[ConfidenceBin] = field(default_factory=list)
    temperature: float | None = None
    worst: list[WorstSample] = field(default_factory=list)


def run_evaluation(file: ModelFile, request: EvalRequest, emit: Emit = ignore) -> EvalResult:
    """Score a model file on a split of its own data, or of others, and write the files that are asked for.

    Without a name it is the test split; where there is none the validation split, or everything where none is held out, with
    a note. Raises UsageError when the data is the user's own code and is not named again, or when the model has not what is asked of
    it, DataError for a split that is not there.
    """
    check_request(file, request)
    loaded = request.data or own_config(file)
    with torch_settings():
        device = pick_model_device(file, request.device, emit)
        network = build_from_file(file, model=request.model).to(device)
        info = file.spec.info
        if request.fits_temperature:
            info = _with_temperature(loaded, network, info, device, emit)
        split = _open_split(loaded, info, request.split, device=device, emit=emit)
        scoring = scoring_for(loaded, info, split, device)
        result = _score(network, split, scoring, info, request, emit)
        _save_pictures(result, request, split, info)
    if request.fits_temperature:
        path = request.output or file.path
        save_model_file(path, replace(file.spec, info=info), file.state_dict)
        emit(Saved(path, "model"))
    return result


def _with_temperature(
    loaded: LoadedConfig, network: nn.Module, info: DataInfo, device: torch.device, emit: Emit
) -> DataInfo:
    if loaded.config.data.val == "test":
        emit(
            Note(
                "data.val is test: the temperature is fitted to the test split, so that the calibration error there is too good"
            )
        )
    val = build_eval_split(loaded, info, split="val", device=device, emit=emit)
    return with_temperature(network, val, scoring_for(loaded, info, val, device), info, emit=emit)


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
    network: nn.Module, split: Split, scoring: Scoring, info: DataInfo, request: EvalRequest, emit: Emit
) -> EvalResult:
    if scoring.scores.traits.has_maps:
        return _score_maps(network, split, scoring, request, emit)
    metrics, predictions = score_split(network, split, scoring, use_tta=request.use_tta, emit=emit)
    assert predictions is not None  # as these are no maps
    num_all = len(predictions.targets)
    predictions = predictions.without(scoring.loss.ignore_index)
    if num_left := num_all - len(predictions.targets):
        emit(Note(f"{num_left} of {num_all} samples have the label {scoring.loss.ignore_index}, which is not counted"))
    worst = worst_samples(predictions, info, request.num_worst, name_of=split.name_of) if request.worst else []
    result = EvalResult(split.name, split.num_samples, metrics, (), [], [], worst=worst)
    if info.task == "regression":
        return result
    result = replace(result, classes=_class_names(info))
    return (_score_labels if info.task == "multilabel" else _score_classes)(result, predictions, info)


def _class_names(info: DataInfo) -> tuple[str, ...]:
    return info.classes or tuple(map(str, range(info.num_outputs)))


def _score_maps(network: nn.Module, split: Split, scoring: Scoring, request: EvalRequest, emit: Emit) -> EvalResult:
    assert scoring.info is not None
    loss, counts = count_maps(network, split, scoring, emit=emit)
    metrics, classes = {"loss": loss, **scoring.scores.judge(counts)}, _class_names(scoring.info)
    if request.use_tta:
        metrics |= score_mirrored(network, split, scoring, emit=emit)
    rows = metrics_per_pixel_class(counts, classes)
    return EvalResult(split.name, split.num_samples, metrics, classes, rows, counts.tolist())


def _score_labels(result: EvalResult, predictions: Predictions, info: DataInfo) -> EvalResult:
    rows = metrics_per_label(predictions, result.classes, info.thresholds)
    ranked = [row.auroc for row in rows if not math.isnan(row.auroc)]
    bins = confidence_bins(predictions, of_labels=True)
    auroc = sum(ranked) / len(ranked) if ranked else math.nan
    metrics = {**result.metrics, "auroc": auroc, "ece": calibration_error(bins)}
    return replace(result, metrics=metrics, per_label=rows, reliability=bins)


def _score_classes(result: EvalResult, predictions: Predictions, info: DataInfo) -> EvalResult:
    rows = metrics_per_class(predictions, result.classes)
    confusion = confusion_matrix(predictions).tolist()
    predictions = replace(predictions, outputs=calibrated(predictions.outputs, info))
    bins = confidence_bins(predictions)
    macro = {f"macro_{name}": value for name, value in macro_average(rows).items()}
    metrics = {**result.metrics, **macro, **ranking_scores(predictions), "ece": calibration_error(bins)}
    return replace(
        result,
        metrics=metrics,
        per_class=rows,
        confusion=confusion,
        reliability=bins,
        temperature=info.temperature,
    )


def _save_pictures(result: EvalResult, request: EvalRequest, split: Split, info: DataInfo) -> None:
    if request.confusion is not None:
        save_confusion_picture(request.confusion, result.confusion, result.classes)
    if request.reliability is not None:
        save_reliability_picture(request.reliability, result.reliability, of_labels=info.task == "multilabel")
    if request.worst is not None:
        pictures = pictures_of(split, [sample.position for sample in result.worst], info)
        save_worst_picture(request.worst, result.worst, pictures)


def most_confused(result: EvalResult, most: int = 5) -> list[tuple[str, str, int]]:
    """Returns the pairs (true class, predicted class, count) that are mistaken most often."""
    pairs = [
        (result.classes[row], result.classes[column], count)
        for row, counts in enumerate(result.confusion)
        for column, count in enumerate(counts)
        if row != column and count
    ]
    return sorted(pairs, key=lambda pair: -pair[2])[:most]
