"""What training for int8 brought: static quantization, rounding put in, and int8 kernels, on the same samples.

The two int8 networks are near to each other, so that a small difference in accuracy on a validation split says little of other
samples: where training is right on b samples that static quantization gets wrong, and wrong on c that it gets right, chance moves
b - c by about the root of b + c (after McNemar 1947, doi:10.1007/BF02295996). Samples of many decisions, labels or pixels, whose
mistakes go together, count by the square of what each gains or loses. Within that the loss decides, to which every sample
adds, and not only those on the border.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from dlkit.core.data import Split, build_eval_split
from dlkit.core.evaluation import Predictions, compare_maps, predict_split, score_predictions
from dlkit.core.scoring import Scoring, build_loss, pick_precision
from dlkit.core.training import FineTuning, is_better
from dlkit.event_lines import metric_value
from dlkit.events import Emit, Note

LEAST_AGREEMENT = 0.99
FORMS = ("static", "fake_quant", "int8")


@dataclass(frozen=True)
class QatComparison:
    """Metrics on the named split, by name, accuracies as fractions of 1; `metric` is what decided which int8 network is kept.

    `fake_quant` is the trained network before conversion, `int8` after it. `agreement` is the share of decisions, on samples or on
    their labels, that are the same in both, None for regression.
    """

    split: str
    num_samples: int
    metric: str
    is_static_kept: bool
    static: Mapping[str, float]
    fake_quant: Mapping[str, float]
    int8: Mapping[str, float]
    agreement: float | None


def compare_candidates(
    tuning: FineTuning, *, static: nn.Module, converted: nn.Module, may_keep_static: bool, emit: Emit
) -> QatComparison:
    """Judge the trained network in all its forms on the validation split, or where there is none on the training samples.

    Reports, as notes, when static quantization is kept, and when conversion changed more than it should.
    """
    split, scoring = _judging_split(tuning, emit), _on_cpu(tuning)
    trained = tuning.learner.model.cpu()
    judge = _judge_maps if scoring.scores.traits.has_maps else _judge_outputs
    found = judge([static, trained, converted], split, scoring, emit)
    metrics = dict(zip(FORMS, found.metrics, strict=True))
    metric, mode = _deciding(tuning)
    if metric == scoring.scores.traits.judging and found.right and is_chance(found.right[-1], found.right[0]):
        metric, mode = "loss", "min"
    comparison = QatComparison(
        split=split.name,
        num_samples=split.num_samples,
        metric=metric,
        is_static_kept=may_keep_static and is_better(metrics["static"][metric], metrics["int8"][metric], mode=mode),
        agreement=found.agreement,
        **metrics,
    )
    _report(comparison, emit)
    return comparison


@dataclass(frozen=True)
class _Judged:
    """Of each form of the network its metrics and how many decisions it gets right in each sample, (N,), nothing where none are made;
    and the share of decisions that are the same in the last two.
    """

    metrics: Sequence[dict[str, float]]
    right: Sequence[Tensor]
    agreement: float | None


def _judge_maps(networks: Sequence[nn.Module], split: Split, scoring: Scoring, emit: Emit) -> _Judged:
    found = compare_maps(networks, split, scoring, emit=emit)
    return _Judged(found.metrics, list(found.right), found.same[-2, -1].item())


def _judge_outputs(networks: Sequence[nn.Module], split: Split, scoring: Scoring, emit: Emit) -> _Judged:
    found = [predict_split(network, split, scoring, emit=emit) for network in networks]
    metrics = [score_predictions(predictions, scoring) for predictions in found]
    agreement = scoring.scores.agreement(found[-2].outputs, found[-1].outputs)
    return _Judged(metrics, _right_decisions(found, scoring), agreement)


def _right_decisions(found: Sequence[Predictions], scoring: Scoring) -> list[Tensor]:
    decided = [(scoring.scores.decisions(one.outputs), one.targets) for one in found]
    return [(made == targets).view(len(targets), -1).sum(1) for made, targets in decided if made is not None]


def _judging_split(tuning: FineTuning, emit: Emit) -> Split:
    """The validation split on the CPU, where int8 runs."""
    data, device = tuning.data, torch.device("cpu")
    if data.val is not None and tuning.learner.scoring.precision.device == device:
        return data.val
    if data.val is None:
        emit(Note("there is no validation split: the int8 networks are compared on the training samples"))
    return build_eval_split(tuning.loaded, data.info, split="train" if data.val is None else "val", device=device)


def _on_cpu(tuning: FineTuning) -> Scoring:
    scoring, device = tuning.learner.scoring, torch.device("cpu")
    if scoring.precision.device == device:
        return scoring
    targets = tuning.data.train.sample_targets
    loss = build_loss(tuning.loaded.config.loss, tuning.data.info, targets=targets, device=device)
    return replace(scoring, loss=loss, precision=pick_precision("off", device))


def _deciding(tuning: FineTuning) -> tuple[str, str]:
    """The metric that chose the best epoch, and whether less or more of it is better."""
    best = tuning.learner.best
    if best.metric.startswith("val_"):
        return best.metric.removeprefix("val_"), best.mode
    traits = tuning.learner.scoring.scores.traits
    return traits.judging, traits.judging_metric.mode


def is_chance(now: Tensor, before: Tensor) -> bool:
    """Whether the numbers of decisions that two networks get right in each sample, (N,), differ by no more than chance would explain."""
    gains = (now - before).double()
    return abs(gains.sum().item()) <= math.sqrt(gains.square().sum().item())


def _report(comparison: QatComparison, emit: Emit) -> None:
    metric = comparison.metric
    before, after = (metric_value(metric, values[metric]) for values in (comparison.static, comparison.int8))
    if comparison.is_static_kept:
        emit(
            Note(
                f"training for int8 gave {comparison.split} {metric} {after}, static quantization {before}: "
                "the static network is kept"
            )
        )
    if comparison.agreement is not None and comparison.agreement < LEAST_AGREEMENT:
        emit(
            Note(
                f"the int8 network and the one that was trained agree on {comparison.agreement:.2%} of their decisions only; "
                f"{LEAST_AGREEMENT:.0%} is what to expect"
            )
        )
