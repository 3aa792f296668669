"""The static int8 network that a request means: the remedies that help, a ranking of layers, and those kept in float."""

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor, nn

from dlkit.core.data import Split
from dlkit.core.evaluation import evaluate
from dlkit.core.scoring import Scoring
from dlkit.errors import UsageError
from dlkit.events import Emit, Note
from dlkit.quantities import counted
from dlkit.quantize.calibration_data import ModelData
from dlkit.quantize.ptq import (
    Fallback,
    Int8,
    LayerSensitivity,
    Remedies,
    first_samples,
    keep_sensitive_layers,
    quantize_accurately,
    rank_layers,
)
from dlkit.quantize.recipe import Recipe
from dlkit.quantize.task import Made, Task

RANKED_ON = 128  # samples; the order of layers hardly changes with more
SEARCHED = "kept in float by the accuracy search"


def make_calibrated(task: Task, recipe: Recipe, batches: Sequence[Tensor]) -> Made:
    """Observe, convert, correct; then rank the layers and keep the most sensitive in float, if asked to.

    Raises UsageError for a network that cannot be followed, and when no choice of layers meets `--max-drop`.
    """
    remedies = Remedies(bias_correction=task.request.use_bias_correction)
    best = _quantize(task, task.network, recipe, batches, remedies)
    note_unstable_ranges(task, best)
    made = Made(best.network, best.recipe, batches[0], sum(map(len, batches)), best.trials)
    if not task.request.rank_layers and task.request.max_drop is None:
        return made
    made = replace(made, ranking=tuple(rank(task, best, batches)))
    if task.request.max_drop is None or task.data is None:
        return made
    return _fall_back(task, task.data, made, best, batches)


def note_unstable_ranges(task: Task, best: Int8) -> None:
    """Report a range that two halves of the calibration data do not agree on."""
    if best.stability is not None and best.stability.note:
        task.emit(Note(best.stability.note))


def rank(task: Task, best: Int8, batches: Sequence[Tensor]) -> list[LayerSensitivity]:
    """Layers by what int8 costs in each, the most expensive first."""
    some = first_samples(batches, min(RANKED_ON, len(best.outputs)))
    return rank_layers(best.prepared, best.recipe, some, task=task.name, emit=task.emit)


def _quantize(task: Task, network: nn.Module, recipe: Recipe, batches: Sequence[Tensor], remedies: Remedies) -> Int8:
    return quantize_accurately(network, recipe, batches, remedies=remedies, task=task.name, emit=task.emit)


def _fall_back(task: Task, data: ModelData, made: Made, best: Int8, batches: Sequence[Tensor]) -> Made:
    """Keep layers in float until the judging metric on the validation split is near enough to the float network's."""
    max_drop = task.request.max_drop
    assert max_drop is not None
    split = data.validation(task.emit)
    # what helped all layers helps most of them too, so that only the biases are done again
    again = Remedies(bias_correction=task.request.use_bias_correction, equalization="off", smoothing="off")

    def build(kept: tuple[str, ...]) -> nn.Module:
        if not kept:
            return best.network
        return _quantize(task, best.origin, _keeping(best.recipe, kept), batches, again).network

    def score(network: nn.Module) -> float:
        return _judge(network, split, data.scoring, task.emit)

    names = [layer.name for layer in made.ranking]
    found = keep_sensitive_layers(
        names,
        build,
        score,
        float_score=score(task.network),
        max_drop=max_drop,
        metric=task.judging.title,
        emit=task.emit,
    )
    _require_met(found, max_drop, split)
    kept = found.chosen.kept
    return replace(
        made,
        network=found.network,
        recipe=_keeping(best.recipe, kept),
        fallback=found,
        kept=dict.fromkeys(kept, SEARCHED),
    )


def _keeping(recipe: Recipe, kept: tuple[str, ...]) -> Recipe:
    return replace(recipe, keep_float=(*recipe.keep_float, *kept))


def _judge(network: nn.Module, split: Split, scoring: Scoring, emit: Emit) -> float:
    means = evaluate(network, split, scoring, emit=emit)
    assert means is not None
    return means[scoring.scores.traits.judging]


def _require_met(found: Fallback, max_drop: float, split: Split) -> None:
    if not found.is_met:
        raise UsageError(
            f"--max-drop {max_drop:g}: the least drop that was found on the {split.name} split is {found.chosen.drop:.2f} points, "
            f"with {counted(len(found.chosen.kept), 'layer')} in float; allow more, or train for int8 with --qat"
        )
