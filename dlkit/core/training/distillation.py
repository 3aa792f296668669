"""Knowledge distillation: the loss is mixed with how far the outputs of a network are from those of a teacher.

Source: Hinton, Vinyals and Dean: Distilling the knowledge in a neural network, 2015 (arXiv 1503.02531).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from dlkit.config import Distill, LoadedConfig
from dlkit.core.components import at_section
from dlkit.core.data import DataInfo
from dlkit.core.scoring import Scoring
from dlkit.core.training.teacher import Teacher, open_teacher
from dlkit.events import Emit, Note
from dlkit.tasks import TaskName


@dataclass(frozen=True)
class Distillation:
    """A teacher and how much it counts. `task` is that of the data."""

    teacher: Teacher
    task: TaskName
    temperature: float
    weight: float

    def distances(self, outputs: Tensor, inputs: Tensor) -> Tensor:
        """Returns how far each sample's outputs (N, num_outputs) are from the teacher's: (N,), with gradients to `outputs`. Of maps (N, C,
        H, W) the same of each pixel: (N, H, W).

        Classification: the divergence KL(teacher, network) of their probabilities at the temperature T, times T squared, which keeps
        its gradients as large as those of the task. Several labels: the mean over the labels of the same, of each label's two
        probabilities. Regression: the mean square of the differences of standardized outputs, at no temperature.
        """
        wanted = self.teacher.answer(inputs)
        dtype = torch.promote_types(
            outputs.dtype, torch.float32
        )  # logarithms of probabilities need more than half precision
        return _DISTANCES[self.task](outputs.to(dtype), wanted.to(dtype), self.temperature)

    def mix(self, loss: Tensor, distance: Tensor) -> Tensor:
        """Returns the loss that is minimized."""
        return (1 - self.weight) * loss + self.weight * distance


def _of_classes(outputs: Tensor, wanted: Tensor, temperature: float) -> Tensor:
    own, taught = (values.div(temperature).log_softmax(1) for values in (outputs, wanted))
    return (taught.exp() * (taught - own)).sum(1) * temperature**2


def _of_labels(outputs: Tensor, wanted: Tensor, temperature: float) -> Tensor:
    own, taught = outputs / temperature, wanted / temperature
    present = taught.sigmoid() * (logsigmoid(taught) - logsigmoid(own))
    absent = (-taught).sigmoid() * (logsigmoid(-taught) - logsigmoid(-own))
    return (present + absent).mean(1) * temperature**2


def _of_numbers(outputs: Tensor, wanted: Tensor, _: float) -> Tensor:
    return (outputs - wanted).square().mean(1)


_DISTANCES: dict[TaskName, Callable[[Tensor, Tensor, float], Tensor]] = {
    "classification": _of_classes,
    "multilabel": _of_labels,
    "regression": _of_numbers,
    "segmentation": _of_classes,  # of each pixel
}


def open_distillation(loaded: LoadedConfig, info: DataInfo, scoring: Scoring, emit: Emit) -> Distillation | None:
    """Returns the teacher that the config names, if it does, ready to teach, and report it."""
    section = loaded.config.train.distill
    if section is None:
        return None
    with at_section(loaded, "train", "distill"):
        teacher = open_teacher(section, info, scoring.precision.device)
    return set_up_distillation(section, teacher, scoring, emit)


def set_up_distillation(section: Distill, teacher: Teacher, scoring: Scoring, emit: Emit) -> Distillation:
    """Returns a teacher with what a config says of it, in the memory layout of its student, and report it."""
    if scoring.channels_last:
        teacher.network.to(memory_format=torch.channels_last)
    softened = "" if scoring.task == "regression" else f" at temperature {section.temperature:g}"
    emit(Note(f"{section.teacher} teaches: {section.weight:.0%} of the loss{softened}"))
    return Distillation(teacher, scoring.task, section.temperature, section.weight)
