"""Checks of targets and inputs before the first epoch: each failure is one sentence that names the sample."""

from torch import Tensor

from dlkit.config import LoadedConfig
from dlkit.core.data.samples import TensorSamples
from dlkit.core.data.subsets import Subset
from dlkit.errors import DataError

USUALLY_IGNORED = (-100, -1, 255)  # torch's default, and what data sets write where nothing was annotated


def ignored_label(loaded: LoadedConfig) -> int | None:
    """Returns the label that the config's loss ignores (`loss.ignore_index`); None where it does not say."""
    value = loaded.config.loss.options.get("ignore_index")
    return value if type(value) is int else None


def check_label(target: Tensor, num_classes: int, *, name: str, ignored: int | None = None) -> None:
    """Raise DataError unless the target is one class index in range, or the label that is ignored."""
    if target.ndim or target.is_floating_point():
        raise DataError(f"{name}: the label must be one whole number 0..{num_classes - 1}, got {_words(target)}")
    label = int(target)
    if not 0 <= label < num_classes and label != ignored:
        hint = f" (loss.ignore_index: {label} leaves such samples out)" if label in USUALLY_IGNORED else ""
        raise DataError(f"labels must be 0..{num_classes - 1}; {name} has label {label}{hint}")


def _words(target: Tensor) -> str:
    return f"a tensor of shape {tuple(target.shape)}" if target.ndim else f"{target.item()}"


def check_subset(subset: Subset, *, num_classes: int | None, ignored: int | None = None) -> None:
    """Raise DataError for the first target that is out of range and not ignored, or, without classes, not finite, or such an
    input in memory.
    """
    _check_targets(subset, num_classes, ignored)
    _check_features(subset)


def _check_targets(part: Subset, num_classes: int | None, ignored: int | None) -> None:
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
    is_wrong = (targets < 0) | (targets >= num_classes)
    wrong = (is_wrong if ignored is None else is_wrong & (targets != ignored)).nonzero()
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
