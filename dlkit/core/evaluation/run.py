"""Evaluate a model file on the data that it was trained on, or on other data."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from dlkit.choices import SplitName
from dlkit.config import LoadedConfig
from dlkit.core.components import is_import_path
from dlkit.core.data import DataInfo, Split, Subset, build_eval_split, open_eval_subset, whole_picture
from dlkit.core.devices import torch_settings
from dlkit.core.evaluation.calibration_error import save_reliability_picture
from dlkit.core.evaluation.confusion import save_confusion_picture
from dlkit.core.evaluation.gathering import Predictions
from dlkit.core.evaluation.maps import (
    MapPredictor,
    class_colors,
    count_pixels,
    count_whole_maps,
    look_at_maps,
    pick_overlap,
    save_map_sheet,
)
from dlkit.core.evaluation.metrics import score_split
from dlkit.core.evaluation.request import EvalRequest, check_request
from dlkit.core.evaluation.results import EvalResult, describe_maps, describe_results
from dlkit.core.evaluation.temperature import with_temperature
from dlkit.core.evaluation.worst import pictures_of, save_worst_picture
from dlkit.core.modelfile import ModelFile, build_from_file, pick_model_device, save_model_file
from dlkit.core.scoring import SCORES, Scoring, build_loss, pick_precision
from dlkit.core.trained_config import own_config
from dlkit.events import Emit, Note, Saved, ignore
from dlkit.tasks import TRAITS

Opened = TypeVar("Opened", Split, Subset)


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
        if request.uses_windows:
            return _score_whole(file, network, loaded, request, emit, device=device)
        split = _open_named(
            partial(build_eval_split, loaded, info, device=device, emit=emit), request.split, loaded, emit
        )
        scoring = scoring_for(loaded, info, split, device)
        result = _score(network, split, scoring, info, request, emit)
        _save_pictures(result, request, split, info)
        if request.worst is not None:
            _save_worst(request.worst, result, network, split, file)
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


def _open_named(open_split: Callable[..., Opened], name: SplitName | None, loaded: LoadedConfig, emit: Emit) -> Opened:
    """Returns the split of a name; without one that of test, or what there is, with a note."""
    if name is not None:
        return open_split(split=name)
    split = open_split(split="test", instead=("val", "train"))
    if split.name != "test":
        emit(Note(f"{loaded.config.data.name} has no test split under this config: {split.name} samples are scored"))
    return split


def _score_whole(
    file: ModelFile,
    network: nn.Module,
    loaded: LoadedConfig,
    request: EvalRequest,
    emit: Emit,
    *,
    device: torch.device,
) -> EvalResult:
    info = file.spec.info
    subset = _open_named(partial(open_eval_subset, loaded, info, emit=emit), request.split, loaded, emit)
    prepare = whole_picture(loaded, info, keeps_scale=True)
    predictor = MapPredictor(network, prepare, pick_overlap(request.overlap), device)
    counts, areas = count_whole_maps(predictor, subset, emit)
    metrics = SCORES[info.task](info).judge(counts)
    result = describe_maps(metrics, counts, areas, info, split=subset.name, num_samples=len(subset.rows))
    if request.confusion is not None:
        save_confusion_picture(request.confusion, result.confusion, result.classes)
    return result


def scoring_for(loaded: LoadedConfig, info: DataInfo, split: Split, device: torch.device) -> Scoring:
    """Returns how a model is scored on a split: by the config's loss, but cross-entropy or squared error where that is own code."""
    section = loaded.config.loss
    if is_import_path(section.name):
        kept = {name: value for name, value in section.options.items() if name == "ignore_index"}
        section = type(section)(name="auto", **kept)
    targets = partial(count_pixels, split, info.num_outputs) if TRAITS[info.task].has_maps else split.sample_targets
    loss = build_loss(section, info, targets=targets, device=device)
    return Scoring(loss, pick_precision("off", device), info.task, info=info)


def _score(
    network: nn.Module, split: Split, scoring: Scoring, info: DataInfo, request: EvalRequest, emit: Emit
) -> EvalResult:
    metrics, found = score_split(network, split, scoring, use_tta=request.use_tta, emit=emit)
    if isinstance(found, Predictions):
        num_all, found = len(found.targets), found.without(scoring.loss.ignore_index)
        if num_left := num_all - len(found.targets):
            label = scoring.loss.ignore_index
            emit(Note(f"{num_left} of {num_all} samples have the label {label}, which is not counted"))
    return describe_results(
        metrics, found, split, scoring=scoring, info=info, num_worst=request.num_worst if request.worst else 0
    )


def _save_pictures(result: EvalResult, request: EvalRequest, split: Split, info: DataInfo) -> None:
    if request.confusion is not None:
        save_confusion_picture(request.confusion, result.confusion, result.classes)
    if request.reliability is not None:
        save_reliability_picture(request.reliability, result.reliability, of_labels=info.task == "multilabel")


def _save_worst(path: Path, result: EvalResult, network: nn.Module, split: Split, file: ModelFile) -> None:
    positions, info = [sample.position for sample in result.worst], file.spec.info
    if not TRAITS[info.task].has_maps:
        save_worst_picture(path, result.worst, pictures_of(split, positions, info))
        return
    colors = class_colors(file.spec.config, info.num_outputs)
    seen = look_at_maps(network, split, positions, info)
    save_map_sheet(path, result.worst, seen, colors=colors, names=result.classes)
