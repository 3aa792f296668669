"""Temperature scaling: one number that outputs are divided by before the softmax, so that probabilities can be taken at their word.

Source: Guo, Pleiss, Sun and Weinberger, On calibration of modern neural networks, 2017.
"""

from dataclasses import replace
from math import exp, log

from torch import Tensor, nn

from dlkit.core.data import TEMPERATURES, DataInfo, Split
from dlkit.core.evaluation.calibration_error import calibration_error, confidence_bins
from dlkit.core.evaluation.gathering import Predictions
from dlkit.core.evaluation.predictions import predict_split
from dlkit.core.scoring import Scoring
from dlkit.errors import DataError
from dlkit.events import Emit, Note, ignore

NUM_HALVINGS = 44  # of a range of 9.2 in logarithms, to 5e-13


def calibrated(outputs: Tensor, info: DataInfo) -> Tensor:
    """Returns the outputs whose softmax is the probabilities."""
    return outputs if info.temperature is None else outputs / info.temperature


def with_temperature(
    model: nn.Module, split: Split, scoring: Scoring, info: DataInfo, *, emit: Emit = ignore
) -> DataInfo:
    """Returns the description with the temperature that fits the split best, and reports what that changes.

    Raises DataError where none does.
    """
    found = predict_split(model, split, scoring, emit=emit).without(scoring.loss.ignore_index)
    tempered = replace(info, temperature=fit_temperature(found))
    before, after = (
        calibration_error(confidence_bins(replace(found, outputs=outputs)))
        for outputs in (found.outputs, calibrated(found.outputs, tempered))
    )
    emit(
        Note(
            f"temperature {tempered.temperature:.4g}, fitted to {len(found.targets):,} {split.name} samples: their calibration "
            f"error goes from {before:.2%} to {after:.2%}"
        )
    )
    return tempered


def without_temperature(info: DataInfo, emit: Emit = ignore) -> DataInfo:
    """Returns the description for a network that was changed, which needs a temperature of its own; that is reported."""
    if info.temperature is not None:
        emit(
            Note(
                f"the temperature {info.temperature:.4g} was fitted to the network as it was and is left out; "
                "`dlkit eval --fit-temperature` fits one to the new"
            )
        )
    return replace(info, temperature=None)


def fit_temperature(predictions: Predictions) -> float:
    """Returns the temperature by which the negative log-likelihood of the targets is least, in float64.

    Raises DataError where there is none between 0.01 and 100, as where every sample is right.
    """
    outputs = predictions.outputs.double()
    right = outputs.gather(1, predictions.targets[:, None])[:, 0]

    def slope(inverse: float) -> float:
        """Returns the derivative by 1 / temperature, in which the likelihood is convex."""
        return float((((outputs * inverse).softmax(1) * outputs).sum(1) - right).mean())

    least, most = TEMPERATURES
    lower, upper = -log(most), -log(least)
    if not slope(exp(lower)) < 0 < slope(exp(upper)):
        raise DataError(
            f"no temperature between {least:g} and {most:g} fits the {len(right):,} validation samples best: nearly all are right, "
            "or the outputs tell no more than chance"
        )
    for _ in range(NUM_HALVINGS):
        middle = (lower + upper) / 2
        lower, upper = (middle, upper) if slope(exp(middle)) < 0 else (lower, middle)
    return exp(-(lower + upper) / 2)
