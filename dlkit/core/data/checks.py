"""Checks of targets and inputs before the first epoch: each failure is one sentence that names the sample."""

from dataclasses import dataclass

from torch import Tensor

from dlkit.config import LoadedConfig
from dlkit.core.data.samples import TensorSamples
from dlkit.core.data.subsets import Subset
from dlkit.errors import DataError
from dlkit.tasks import TaskName

USUALLY_IGNORED = (-100, -1, 255)  # torch's default, and what data sets write where nothing was annotated


@dataclass(frozen=True)
class TargetForm:
    """What the targets of a task must be: one of `num_classes` numbers from 0 on, or the one that is ignored; 0 or 1 for each
    label; or finite numbers. Masks are checked where they are read.
    """

    task: TaskName
    num_classes: int
    ignored: int | None = None

    def shaped(self, target: Tensor, *, name: str) -> Tensor:
        """Returns one sample's target as batches hold it. Raises DataError, which calls the sample `name`."""
        if self.task == "classification":
            self._check_label(target, name)
        if self.task in ("classification", "segmentation"):
            return target
        values = (target if target.is_floating_point() else target.float()).reshape(-1)
        if (wrong := self.is_wrong(values)).any():
            raise DataError(self._complaint(values[wrong][0], name))
        return values

    def is_wrong(self, targets: Tensor) -> Tensor:
        """Returns where a tensor of targets holds what it may not."""
        if self.task == "multilabel":
            return (targets != 0) & (targets != 1)
        if self.task == "regression":
            return ~targets.isfinite()
        is_wrong = (targets < 0) | (targets >= self.num_classes)
        return is_wrong if self.ignored is None else is_wrong & (targets != self.ignored)

    def check(self, part: Subset) -> None:
        """Raise DataError for the first target of a subset that may not be."""
        targets = part.targets
        if self.task == "segmentation":
            return
        if self.task == "classification" and (targets.is_floating_point() or targets.ndim != 1):
            raise DataError(
                f"labels must be whole numbers 0..{self.num_classes - 1}, one per sample; "
                f"got {targets.dtype} of shape {tuple(targets.shape)}"
            )
        if len(wrong := self.is_wrong(targets).nonzero()):
            raise DataError(self._complaint(targets[tuple(wrong[0])], _name(part, wrong)))

    def _check_label(self, target: Tensor, name: str) -> None:
        if target.ndim or target.is_floating_point():
            raise DataError(
                f"{name}: the label must be one whole number 0..{self.num_classes - 1}, got {_words(target)}"
            )
        if self.is_wrong(target):
            raise DataError(self._complaint(target, name))

    def _complaint(self, value: Tensor, name: str) -> str:
        if self.task == "multilabel":
            return f"with task: multilabel targets are 0 or 1 for each label; {name} has {value.item():g}"
        if self.task == "regression":
            return f"targets must be finite; {name} has {value.item()}"
        label = int(value)
        hint = f" (loss.ignore_index: {label} leaves such samples out)" if label in USUALLY_IGNORED else ""
        return f"labels must be 0..{self.num_classes - 1}; {name} has label {label}{hint}"


def ignored_label(loaded: LoadedConfig) -> int | None:
    """Returns the label that the config's loss ignores (`loss.ignore_index`); None where it does not say."""
    value = loaded.config.loss.options.get("ignore_index")
    return value if type(value) is int else None


def check_subset(subset: Subset, form: TargetForm) -> None:
    """Raise DataError for the first target that is not of the form, or for an input in memory that is not finite."""
    form.check(subset)
    _check_features(subset)


def _words(target: Tensor) -> str:
    return f"a tensor of shape {tuple(target.shape)}" if target.ndim else f"{target.item()}"


def _name(part: Subset, wrong: Tensor) -> str:
    return part.samples.name_of(int(part.rows[wrong[0, 0]]))


def _check_features(part: Subset) -> None:
    if not isinstance(part.samples, TensorSamples) or not part.samples.inputs.is_floating_point():
        return
    wrong = (~part.samples.inputs[part.rows].flatten(1).isfinite().all(1)).nonzero()
    if len(wrong):
        raise DataError(f"inputs must be finite; {_name(part, wrong)} holds NaN or infinity")
