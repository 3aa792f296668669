"""Maps from several views of a picture, also called test-time augmentation: three scales of it, and their mirror images."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dlkit.core.distributed import ALONE, World
from dlkit.core.models import find_size_step, size_problem
from dlkit.core.scoring import Scoring
from dlkit.errors import first_line
from dlkit.events import Emit, Note, ignore
from dlkit.shapes import size_text

SCALES = (0.75, 1.0, 1.25)

Size = tuple[int, int]


class MapViews:
    """A network in evaluation mode as a function: of each pixel, the mean of its probabilities over all views.

    Scaled sides are the nearest multiples of what the network needs, and sizes that come out alike are one view. Where a network takes
    one size alone, or processes share its weights, there are mirror images alone, with a note.
    """

    def __init__(self, network: nn.Module, scoring: Scoring, *, world: World = ALONE, emit: Emit = ignore) -> None:
        self.network, self.scoring, self.world, self.emit = network, scoring, world, emit
        self._sizes: dict[Size, list[Size]] = {}

    def __call__(self, inputs: Tensor) -> Tensor:
        """Returns logits (N, C, H, W) of the mean of probabilities, for inputs (N, channels, H, W)."""
        own = (inputs.shape[2], inputs.shape[3])
        with _uncompiled(self.network):
            if own not in self._sizes:
                self._sizes[own] = self._pick_sizes(inputs[:1], own)
            views = self._views(inputs, self._sizes[own])
            total = next(views)
            for view in views:
                total = total + view
        return self.scoring.scores.logits(total / (2 * len(self._sizes[own])))

    def _views(self, inputs: Tensor, sizes: list[Size]) -> Iterator[Tensor]:
        """Yields the probabilities of each pixel, (N, C, H, W), of each view."""
        own = inputs.shape[2:]
        for size in sizes:
            images = inputs if size == own else F.interpolate(inputs, size, mode="bilinear", antialias=True)
            for is_mirrored in (False, True):
                outputs = self.network(self.scoring.arrange(images.flip(-1) if is_mirrored else images))
                found = self.scoring.scores.probabilities(outputs.to(torch.promote_types(outputs.dtype, torch.float32)))
                assert found is not None
                found = found.flip(-1) if is_mirrored else found
                yield found if found.shape[2:] == own else F.interpolate(found, own, mode="bilinear")

    def _pick_sizes(self, image: Tensor, own: Size) -> list[Size]:
        """Returns the sizes of the views of an image (1, channels, H, W)."""
        if self.world.lockstep:
            self.emit(Note("tta of maps is the mean over mirror images, not over scales: runtime.parallel is fsdp"))
            return [own]
        step = find_size_step(self.network, image)
        if step.step is None:
            why = f": {first_line(step.problem, 200)}" if step.problem else ""
            self.emit(
                Note(
                    f"tta of maps is the mean over mirror images, not over scales: the network takes {size_text(own)} alone{why}"
                )
            )
            return [own]
        sizes = dict.fromkeys(own if scale == 1 else step.nearest(own, scale) for scale in SCALES)
        return [size for size in sizes if size == own or size_problem(self.network, image, size) is None]


def _uncompiled(network: nn.Module) -> AbstractContextManager[object]:
    """Returns a context where a network that was compiled runs as it is: it would be compiled once more for each size."""
    # torch loads its compiler for this, which takes seconds
    return nullcontext() if network._compiled_call_impl is None else torch.compiler.set_stance("force_eager")
