"""Checks of targets and inputs before the first epoch: each failure is one sentence that names the sample."""

from torch import Tensor

from dlkit.core.data.samples import TensorSamples
from dlkit.core.data.subsets import Subset
from dlkit.errors import DataError


def check_label(target: Tensor, num_classes: int, *, name: str) -> None:
    """Raise DataError unless the target is one class index in range."""
    if target.ndim or target.is_floating_point():
        raise DataError(f"{name}: the label must be one whole number 0..{num_classes - 1}, got {_words(target)}")
    if not 0 <= int(target) < num_classes:
        raise DataError(f"labels must be 0..{num_classes - 1}; {name} has label {int(target)}")


def _words(target: Tensor) -> str:
    return f"a tensor of shape {tuple(target.shape)}" if target.ndim else f"{target.item()}"


def check_subset(subset: Subset, *, num_classes: int | None) -> None:
    """Raise DataError for the first target that is out of range, or, without classes, not finite, or such an input in memory."""
    _check_targets(subset, num_classes)
    _check_features(subset)


def _check_targets(part: Subset, num_classes: int | None) -> None:
    targets = part.targets
    if num_classes is None:
        wrong = (~targets.isfinite()).nonzero()
        if len(wrong):
            raise DataError(f"targets must be finite; {_name(part, wrong)} has {targets[tuple(wrong[0])].item()}")
        return
    if targets.is_floating_point() or targets.ndim != 1:
        raise DataError(
            f"labels must be whole numbers 0..{num_classes - 1}, one per sample; "
            f"got {targets.dtype} of shape {tuple(targets.shape)}"
        )
    wrong = ((targets < 0) | (targets >= num_classes)).nonzero()
    if len(wrong):
        check_label(targets[wrong[0, 0]], num_classes, name=_name(part, wrong))


def _name(part: Subset, wrong: Tensor) -> str:
    return part.samples.name_of(int(part.rows[wrong[0, 0]]))


def _check_features(part: Subset) -> None:
    if not isinstance(part.samples, TensorSamples) or not part.samples.inputs.is_floating_point():
        return
    wrong = (~part.samples.inputs[part.rows].flatten(1).isfinite().all(1)).nonzero()
    if len(wrong):
        raise DataError(f"inputs must be finite; {_name(part, wrong)} holds NaN or infinity")
