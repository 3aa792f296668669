"""A network before and after it was changed, on the same samples, inputs and machine: what a report is made of."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from dlkit.core.benchmark import SpeedPlan, Speeds, TimedModel, measure_speeds
from dlkit.core.data import DataInfo, Split
from dlkit.core.evaluation.file_size import FileSizes, file_sizes
from dlkit.core.evaluation.maps import compare_maps
from dlkit.core.evaluation.metrics import score_predictions
from dlkit.core.evaluation.predictions import Predictions, predict_split
from dlkit.core.models import copy_network, has_int8_layers, parameter_count
from dlkit.core.profile import InputSpec, ProfileError, profile_model
from dlkit.core.scoring import Regression, Scoring
from dlkit.events import Emit, ignore


@dataclass(frozen=True)
class Costs:
    """Parameters, MACs of one sample, and the file's sizes. None where it is not known, with the reason in `notes`."""

    num_parameters: int | None
    macs: int | None
    sizes: FileSizes | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scores:
    """Loss and the task's metrics on a split; accuracies and their like are fractions of 1."""

    split: str
    num_samples: int
    metrics: Mapping[str, float]


NO_SCORES = Scores("", 0, {})


@dataclass(frozen=True)
class Agreement:
    """How alike two networks answer: the fraction of samples with the same class, of labels that are decided alike, of pixels with the
    same class, or, for regression, the mean absolute difference of their outputs. The others are None.
    """

    same_top1: float | None = None
    mean_absolute_difference: float | None = None
    same_labels: float | None = None
    same_pixels: float | None = None


@dataclass(frozen=True)
class Side:
    """One of the two networks: its name in the report, what it scores and what it costs."""

    name: str
    scores: Scores
    costs: Costs


@dataclass(frozen=True)
class Comparison:
    """Both networks, how alike they answer, and their speeds, whose first network is the one before."""

    before: Side
    after: Side
    agreement: Agreement
    speeds: Speeds | None

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values for JSON."""
        return {
            "before": asdict(self.before),
            "after": asdict(self.after),
            "agreement": asdict(self.agreement),
            "speeds": self.speeds.to_dict() if self.speeds else None,
        }


@dataclass(frozen=True)
class NamedNetwork:
    """A network to compare, by its name in the report, with the file that it is stored in, and a description of its data where that
    has thresholds of its own.
    """

    name: str
    network: nn.Module
    path: Path | None = None
    info: DataInfo | None = None


def compare_networks(
    before: NamedNetwork,
    after: NamedNetwork,
    split: Split | None,
    *,
    scoring: Scoring | None,
    speed_plan: SpeedPlan | None,
    input_size: tuple[int, ...],
    emit: Emit = ignore,
) -> Comparison:
    """Score both networks on a split, one pass each, weigh them, and time them interleaved unless `speed_plan` is None.

    Without a split there are no scores. Both networks lie on the device of `split`; they are left as they were.
    """
    both = (before, after)
    scores, agreement = [NO_SCORES, NO_SCORES], Agreement()
    if split is not None and scoring is not None:
        judge = _judge_maps if scoring.scores.traits.has_maps else _judge_outputs
        metrics, agreement = judge(both, split, scoring, emit)
        scores = [Scores(split.name, split.num_samples, found) for found in metrics]
    sides = [
        Side(side.name, found, weigh_network(side.network, input_size, side.path))
        for side, found in zip(both, scores, strict=True)
    ]
    speeds = None
    if speed_plan is not None:
        task = scoring.task if scoring else "classification"
        models = [TimedModel(side.name, side.network, has_int8_layers(side.network), task) for side in both]
        speeds = measure_speeds(models, speed_plan, emit=emit)
    return Comparison(sides[0], sides[1], agreement, speeds)


def _judge_maps(
    sides: Sequence[NamedNetwork], split: Split, scoring: Scoring, emit: Emit
) -> tuple[Sequence[dict[str, float]], Agreement]:
    found = compare_maps([side.network for side in sides], split, scoring, emit=emit)
    return found.metrics, Agreement(same_pixels=found.same[0, 1].item())


def _judge_outputs(
    sides: Sequence[NamedNetwork], split: Split, scoring: Scoring, emit: Emit
) -> tuple[Sequence[dict[str, float]], Agreement]:
    predictions = [predict_split(side.network, split, scoring, emit=emit) for side in sides]
    own = [replace(scoring, info=side.info or scoring.info) for side in sides]
    metrics = [score_predictions(found, by) for found, by in zip(predictions, own, strict=True)]
    return metrics, compare_predictions(*predictions, scoring=scoring)


def compare_predictions(before: Predictions, after: Predictions, *, scoring: Scoring) -> Agreement:
    """Returns how far two networks agree on the same samples. Raises ValueError when the samples are not the same."""
    if not before.indices.equal(after.indices):
        raise ValueError("the predictions are of different samples")
    scores = scoring.scores
    if isinstance(scores, Regression):
        difference = scores.in_own_units(before.outputs) - scores.in_own_units(after.outputs)
        return Agreement(mean_absolute_difference=difference.abs().mean().item())
    same = scores.agreement(before.outputs, after.outputs)
    return Agreement(same_labels=same) if scoring.task == "multilabel" else Agreement(same_top1=same)


def weigh_network(network: nn.Module, input_size: tuple[int, ...], path: Path | None) -> Costs:
    """Returns what a network costs on one sample. int8 layers hold their weights packed, and have no MAC formula."""
    sizes = None if path is None else file_sizes(path)
    if has_int8_layers(network):
        return Costs(None, None, sizes, ("parameters and MACs are not counted in int8 layers",))
    num_parameters, _ = parameter_count(network)
    try:
        profile = profile_model(copy_network(network).to("meta"), [InputSpec(input_size)], with_memory=False)
    except (ProfileError, NotImplementedError, RuntimeError) as error:
        return Costs(num_parameters, None, sizes, (f"MACs are not counted: {error}",))
    notes = tuple(f"{name} ({count}x) has no MAC formula" for name, count in profile.uncounted.items())
    return Costs(profile.num_parameters, profile.macs, sizes, notes)


@dataclass(frozen=True)
class Original:
    """What a network cost and scored before it was first pruned. `data` names the data set of the scores.

    None, or no metrics, where it was not known.
    """

    num_parameters: int | None
    macs: int | None
    num_bytes: int
    data: str | None
    scores: Scores

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values for a model file."""
        return asdict(self)

    def score_on(self, data: str | None, scores: Scores, metric: str) -> float | None:
        """Returns a metric, if it was measured on the same samples as these scores."""
        same = (self.scores.split, self.scores.num_samples) == (scores.split, scores.num_samples)
        return self.scores.metrics.get(metric) if same and data is not None and data == self.data else None


def read_original(provenance: Mapping[str, Any]) -> Original | None:
    """Returns the original that a model file's provenance names; None for a file that was not pruned or does not name it."""
    try:
        told = provenance["prune"]["original"]
        scores = Scores(
            str(told["scores"]["split"]),
            int(told["scores"]["num_samples"]),
            {str(name): float(value) for name, value in told["scores"]["metrics"].items()},
        )
        return Original(told["num_parameters"], told["macs"], int(told["num_bytes"]), told["data"], scores)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
