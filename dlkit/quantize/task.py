"""What is quantized, and what came of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from dlkit.core.modelfile import ModelFile
from dlkit.errors import Diverged
from dlkit.events import Emit
from dlkit.quantize.calibration_data import ModelData
from dlkit.quantize.ptq import Fallback, LayerSensitivity, Trial
from dlkit.quantize.qat import QatOutcome
from dlkit.quantize.recipe import Recipe
from dlkit.quantize.request import QuantizeRequest
from dlkit.tasks import TRAITS, Metric, TaskName


@dataclass(frozen=True)
class Task:
    """What is quantized, as it was asked for, and on which data; `data` is None where there is none."""

    file: ModelFile
    request: QuantizeRequest
    network: nn.Module
    data: ModelData | None
    emit: Emit

    @property
    def name(self) -> TaskName:
        """What the network was trained for."""
        return self.file.spec.info.task

    @property
    def judging(self) -> Metric:
        """The metric by which networks are compared."""
        return TRAITS[self.name].judging_metric


@dataclass(frozen=True)
class Made:
    """An int8 network, the recipe that rebuilds it, and a batch of inputs, real ones where there are any.

    `trials` are the remedies for accuracy that were tried, `ranking` the layers by what int8 costs in each, `fallback` the search
    for layers to keep in float, `training` what came of quantization-aware training; empty or None where that was not asked
    for. `kept` says why modules are in float that the user did not name.
    """

    network: nn.Module
    recipe: Recipe
    inputs: Tensor
    num_calibration: int = 0
    trials: tuple[Trial, ...] = ()
    ranking: tuple[LayerSensitivity, ...] = ()
    fallback: Fallback | None = None
    training: QatOutcome | None = None
    kept: Mapping[str, str] = field(default_factory=dict)

    @property
    def example(self) -> Tensor:
        """One sample as a batch."""
        return self.inputs[:1]

    @property
    def is_static_kept(self) -> bool:
        """Whether training gave nothing better than static quantization."""
        return self.training is not None and self.training.kept == "static"

    @property
    def steps(self) -> tuple[str, ...]:
        """What was done for accuracy, in words."""
        helped = [trial.what for trial in self.trials[1:] if trial.is_kept]
        steps = [f"with {' and '.join(helped)}"] if helped else []
        if self.fallback is not None:
            count = len(self.fallback.chosen.kept)
            steps.append(f"{count} sensitive layers in float" if count else "no layer needed in float")
        if self.is_static_kept:
            steps.append("training gave nothing better than static quantization, which is kept")
        elif self.training is not None:
            steps.append(f"{self.training.steps:,} steps of training with rounding in {self.training.train_s:.0f} s")
        return tuple(steps)

    def facts(self) -> dict[str, Any]:
        """What the model file says of how it was made."""
        return {"num_calibration": self.num_calibration, "steps": list(self.steps)}


def check_weights(file: ModelFile, network: nn.Module) -> None:
    """Raise Diverged for a network that holds NaN or infinities, which no int8 number stands for."""
    for name, tensor in network.state_dict().items():
        if isinstance(tensor, Tensor) and not tensor.isfinite().all():
            raise Diverged(
                f"{file.path}: {name} holds values that are not finite; take the model from before it diverged"
            )
