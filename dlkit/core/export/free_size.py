"""ONNX files of networks that take images of any size: height and width as free axes, or multiples of what the network halves."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim

from dlkit.core.export.tracing import reason
from dlkit.core.modelfile import ModelSpec
from dlkit.core.models import OTHERS, find_size_step
from dlkit.errors import UsageError

SIDES = ("height", "width")
# sides that torch.export is told of: a size of 1 in the middle of a network, which it would take for fixed, is ruled out; the file knows
# no such bound, and is checked at small sizes
_LEAST = 160


@dataclass(frozen=True)
class FreeSize:
    """`step`: both sides of an image are multiples of it, as far as the network was tried. `size` is the height and width that it was
    trained with.
    """

    step: int
    size: tuple[int, int]

    @property
    def words(self) -> str:
        """A sentence for a user."""
        taken = "any height and width" if self.step == 1 else f"heights and widths that are multiples of {self.step}"
        checked = ", ".join(f"{height}x{width}" for height, width in self._checked_sizes())
        return f"takes images of {taken}; checked at {checked} too"

    def dims(self) -> dict[int, Dim]:
        """What torch.export is told of both sides."""
        least = -(-_LEAST // self.step)
        plain = {place: Dim(name, min=least) for place, name in enumerate(SIDES, start=2)}
        return plain if self.step == 1 else {place: dim * self.step for place, dim in plain.items()}

    def traced(self, example: Tensor) -> Tensor:
        """Returns images that are large enough to be traced."""
        sides = [side * -(-2 * _LEAST // side) for side in self.size]
        return example.new_zeros(*example.shape[:2], *sides)

    def other_inputs(self, inputs: Tensor) -> list[Tensor]:
        """Returns the same images at the other sizes that a file is checked at; noise may be out of the ranges that int8 was made for."""
        return [F.interpolate(inputs, size, mode="bilinear") for size in self._checked_sizes()]

    def _checked_sizes(self) -> list[tuple[int, int]]:
        height, width = self.size
        return [(height + rows * self.step, width + columns * self.step) for rows, columns in OTHERS]


def find_free_size(network: nn.Module, spec: ModelSpec) -> FreeSize:
    """Returns which sizes a network takes, found by running it. Raises UsageError for one that takes no images, or one size alone."""
    if spec.info.kind != "image":
        raise UsageError(f"--dynamic-size: this model takes {spec.info.kind}, no images")
    channels, height, width = spec.info.input_size
    found = find_size_step(network, torch.zeros(1, channels, height, width))
    if found.step is not None:
        return FreeSize(found.step, (height, width))
    assert found.problem is not None
    raise UsageError(
        f"--dynamic-size: this network takes images of {height}x{width} alone ({reason(found.problem)}); "
        "--resize lets the file bring others to that size"
    )
