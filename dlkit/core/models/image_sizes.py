"""Which heights and widths a network of images takes, found by running it."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dlkit.core.models.eval_mode import eval_mode
from dlkit.core.out_of_memory import is_out_of_memory

Size = tuple[int, int]

STEPS = (1, 2, 4, 8, 16, 32, 64, 128)
OTHERS = ((1, 3), (2, 0))  # by how many steps the sides of images are longer on which a network is tried


@dataclass(frozen=True)
class SizeStep:
    """Both sides of an image are multiples of `step`, as far as the network was tried; None for one that takes one size alone, and then
    `problem` is what it raised first.
    """

    step: int | None
    problem: Exception | None = None

    def nearest(self, size: Size, scale: float) -> Size:
        """Returns a size times `scale`, both sides the nearest multiples of the step; halves go up."""
        assert self.step is not None
        height, width = (max(1, int(side * scale / self.step + 0.5)) * self.step for side in size)
        return height, width


def find_size_step(network: nn.Module, image: Tensor) -> SizeStep:
    """Returns the step of a network that takes an image (1, C, H, W), which tells channels, size, device and dtype."""
    height, width = image.shape[2:]
    problem: Exception | None = None
    for step in STEPS:
        if height % step or width % step:
            break
        sizes = ((height + rows * step, width + columns * step) for rows, columns in ((1, 1), *OTHERS))
        found = next(filter(None, (size_problem(network, image, size) for size in sizes)), None)
        if found is None:
            return SizeStep(step)
        problem = problem or found
    return SizeStep(None, problem)


def size_problem(network: nn.Module, image: Tensor, size: Size) -> Exception | None:
    """Returns what a network raises that gets black images of a size; None where it takes them. Raises what lacks memory."""
    with eval_mode(network), torch.no_grad():
        try:
            network(image.new_zeros(*image.shape[:2], *size))
        except Exception as error:  # the network's own code
            if is_out_of_memory(error):
                raise
            return error
    return None
