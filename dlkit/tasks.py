"""The kinds of task, and what each is trained on and judged by: one place for configs, training, compression and the screen."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

TaskName = Literal["classification", "multilabel", "regression", "segmentation"]
TASK_NAMES: tuple[TaskName, ...] = get_args(TaskName)


@dataclass(frozen=True)
class Metric:
    """What a metric is called in sentences, whether less or more of it is better, whether it is told in percent, and whether it is the
    share of samples that are right.
    """

    title: str
    mode: Literal["min", "max"] = "max"
    is_percent: bool = False
    is_share: bool = False


METRICS: Mapping[str, Metric] = {
    "loss": Metric("loss", "min"),
    "accuracy": Metric("accuracy", is_percent=True, is_share=True),
    "top5": Metric("top-5 accuracy", is_percent=True, is_share=True),
    "accuracy_tta": Metric("accuracy", is_percent=True, is_share=True),
    "map": Metric("mAP", is_percent=True),
    "map_tta": Metric("mAP", is_percent=True),
    "f1": Metric("F1"),
    "precision": Metric("precision"),
    "recall": Metric("recall"),
    "r2": Metric("R2"),
    "miou": Metric("mIoU", is_percent=True),
    "miou_tta": Metric("mIoU", is_percent=True),
    "miou_tta_scales": Metric("mIoU", is_percent=True),
    "pixel_accuracy": Metric("pixel accuracy", is_percent=True),
    "dice": Metric("Dice", is_percent=True),
}
_UNKNOWN = Metric("", "min")


def metric_of(name: str) -> Metric:
    """Returns the metric of a name or column, such as `val_ema_accuracy` or `macro_f1`; of other names less is better."""
    parts = name.split("_")
    return next((found for start in range(len(parts)) if (found := METRICS.get("_".join(parts[start:])))), _UNKNOWN)


@dataclass(frozen=True)
class TaskTraits:
    """What sets a task apart, without torch; dlkit.core.scoring has its arithmetic.

    `outputs` are what a network's outputs stand for, in the plural. `running` is the metric that adds up over batches, beside the
    loss; `judging` the one that picks the best epoch, and by which two networks are compared. `agreed` is what two networks have in
    common where they decide alike; empty where nothing is decided. With `has_maps`, all this is of every pixel of a picture: outputs are
    maps, and metrics follow from counts of pixels that add up over batches.
    """

    name: TaskName
    outputs: str
    default_loss: str
    running: str
    judging: str
    agreed: str
    has_maps: bool = False

    @property
    def judging_metric(self) -> Metric:
        """What decides."""
        return METRICS[self.judging]

    @property
    def needs_all_outputs(self) -> bool:
        """Whether what decides takes the outputs of a whole split, and does not add up over batches."""
        return not self.has_maps and self.judging not in ("loss", self.running)

    def columns(self, *, is_validated: bool) -> tuple[str, ...]:
        """Returns the metrics of an epoch of training, or those of a validation."""
        return tuple(dict.fromkeys(("loss", self.running, *((self.judging,) if is_validated else ()))))


TRAITS: Mapping[TaskName, TaskTraits] = {
    traits.name: traits
    for traits in (
        TaskTraits(
            "classification", "classes", "cross_entropy", running="accuracy", judging="accuracy", agreed="same class"
        ),
        TaskTraits("multilabel", "labels", "bce", running="micro_f1", judging="map", agreed="same labels"),
        TaskTraits("regression", "target columns", "mse", running="mae", judging="loss", agreed=""),
        TaskTraits(
            "segmentation",
            "classes",
            "cross_entropy",
            running="pixel_accuracy",
            judging="miou",
            agreed="same pixels",
            has_maps=True,
        ),
    )
}
