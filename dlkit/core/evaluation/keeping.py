"""What a run keeps of the evaluation of its exported weights: what `dlkit eval --json` tells, and what was said of each sample."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

from torch import Tensor

from dlkit.core.data import DataInfo, Split, restore_targets
from dlkit.core.evaluation.answers import target_names
from dlkit.core.evaluation.gathering import Predictions
from dlkit.core.evaluation.maps import MapScores
from dlkit.core.evaluation.results import describe_results
from dlkit.core.evaluation.temperature import calibrated
from dlkit.core.scoring import SCORES, Scoring
from dlkit.events import Emit, Note
from dlkit.files import to_json, write_text
from dlkit.run_folders import (
    EVALUATION_FILE,
    EVALUATION_SCHEMA,
    MOST_NUMBERS,
    PREDICTIONS_FILE,
    KeptPredictions,
    PredictionFacts,
    save_predictions,
)

NUM_WORST = 24  # samples of each kind that are named
MOST_CLASSES = 1000  # of a confusion matrix that is kept


def keep_evaluation(
    run_dir: Path,
    metrics: Mapping[str, float],
    found: Predictions | MapScores,
    split: Split,
    *,
    scoring: Scoring,
    samples: Mapping[str, str | int],
    emit: Emit,
) -> None:
    """Write evaluation.json and predictions.npz; of too many samples there are no predictions, with a note.

    `scoring.info` is the model's, `samples` describes the split's by counts and hashes.
    """
    assert scoring.info is not None
    info = scoring.info
    if isinstance(found, Predictions):
        found = found.without(scoring.loss.ignore_index)
    result = describe_results(metrics, found, split, scoring=scoring, info=info, num_worst=NUM_WORST)
    if len(result.classes) > MOST_CLASSES:
        result = replace(result, confusion=[])
    write_text(
        run_dir / EVALUATION_FILE, to_json({"schema": EVALUATION_SCHEMA, "task": info.task, **asdict(result)}) + "\n"
    )
    if isinstance(found, Predictions):
        positions, arrays = found.indices, _plain_arrays(found, info)
    else:
        positions, arrays = found.pictures.positions, _areas(found.pictures.areas)
    _keep_predictions(run_dir / PREDICTIONS_FILE, arrays, positions, split, info=info, samples=samples, emit=emit)


def _keep_predictions(
    path: Path,
    arrays: Mapping[str, Tensor],
    positions: Tensor,
    split: Split,
    *,
    info: DataInfo,
    samples: Mapping[str, str | int],
    emit: Emit,
) -> None:
    names = info.class_names
    facts = PredictionFacts(
        info.task, split.name, target_names(info) if info.task == "regression" else names, dict(samples)
    )
    arrays = {**arrays, "positions": positions.int(), "numbers": split.sample_numbers()[positions].int()}
    kept = KeptPredictions(facts, **{name: value.numpy() for name, value in arrays.items()})
    if not save_predictions(path, kept):
        emit(Note(f"{PREDICTIONS_FILE} is not written: {kept.targets.size:,} targets are more than {MOST_NUMBERS:,}"))


def _plain_arrays(predictions: Predictions, info: DataInfo) -> dict[str, Tensor]:
    outputs, targets = predictions.outputs, predictions.targets
    if info.task == "regression":
        return {"targets": restore_targets(targets, info), "predicted": restore_targets(outputs, info)}
    decided = SCORES[info.task](info).decisions(outputs)
    assert decided is not None
    if info.task == "multilabel":
        return {"targets": targets > 0, "predicted": decided, "probabilities": outputs.double().sigmoid().float()}
    return _of_classes(calibrated(outputs.double(), info).softmax(1).float(), targets, decided)


def _areas(areas: Tensor) -> dict[str, Tensor]:
    """Pixels of each class of a picture from their areas (N, 3, C)."""
    return dict(zip(("right", "targets", "predicted"), areas.unbind(1), strict=True))


def _of_classes(probabilities: Tensor, targets: Tensor, decided: Tensor) -> dict[str, Tensor]:
    confidence, likelihood = (probabilities.gather(1, classes[:, None])[:, 0] for classes in (decided, targets))
    return {
        "targets": targets.int(),
        "predicted": decided.int(),
        "probabilities": probabilities,
        "confidence": confidence,
        "likelihood": likelihood,
    }
