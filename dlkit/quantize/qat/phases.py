"""When what is frozen while a network trains for int8, as shares of the run, so that one epoch works as well as thirty.

Late in the run batch norms keep their statistics and ranges their limits, so that the last steps train the very network that
is converted. torchvision's recipe does so after 3 and 4 of its 90 epochs (references/classification).
"""

from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.fx import GraphModule

from dlkit.core.training import Learner, NoRecords, StepResult
from dlkit.quantize.qat.switches import freeze_norms, switch_observers


@dataclass(frozen=True)
class Phases:
    """The shares of all steps after which batch norms and ranges stay as they are; 1 is never."""

    freeze_norms_at: float = 0.9
    freeze_ranges_at: float = 0.9


class PhaseSwitch(NoRecords):
    """Records that follow the steps, and a hook in front of each forward pass that switches what their number asks for.

    The hook is needed because ranges also follow in evaluation mode, so that validation would move the ranges, and
    because `train()` at the start of an epoch wakes frozen batch norms that stand alone.
    """

    def __init__(self, prepared: GraphModule, phases: Phases, *, total_steps: int) -> None:
        self._phases, self._total_steps = phases, total_steps
        self._step = 0
        self._are_watching: bool | None = None
        self._handle = prepared.register_forward_pre_hook(self._before_forward)

    def add_step(self, learner: Learner, result: StepResult) -> None:
        """Count the steps."""
        self._step = learner.position.step

    def remove(self) -> None:
        """Take the hook away."""
        self._handle.remove()

    def _before_forward(self, prepared: nn.Module, inputs: Any) -> None:
        done = self._step / self._total_steps
        are_watching = prepared.training and done < self._phases.freeze_ranges_at
        if are_watching != self._are_watching:
            switch_observers(prepared, is_on=are_watching)
            self._are_watching = are_watching
        if prepared.training and done >= self._phases.freeze_norms_at:
            freeze_norms(prepared)
