"""Maps from several views of a picture, also called test-time augmentation: three scales of it, and their mirror images."""

from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dlkit.core.data import Split
from dlkit.core.distributed import ALONE, World
from dlkit.core.evaluation.evaluate import CountSum, announced, without_gradients
from dlkit.core.models import eval_mode, find_size_step, size_problem
from dlkit.core.scoring import Scoring
from dlkit.errors import first_line
from dlkit.events import Emit, Note, ignore
from dlkit.shapes import size_text

SCALES = (0.75, 1.25)  # beside that of the picture

Size = tuple[int, int]


class MapViews:
    """A network in evaluation mode as a function: of each pixel, the mean of its probabilities over views.

    Scaled sides are the nearest multiples of what the network needs, and sizes that come out alike are one view. Where a network takes
    one size alone, or processes share its weights, there are mirror images alone, with a note.
    """

    def __init__(self, network: nn.Module, scoring: Scoring, *, world: World = ALONE, emit: Emit = ignore) -> None:
        self.network, self.scoring, self.world, self.emit = network, scoring, world, emit
        self._sizes: dict[Size, list[Size]] = {}

    def __call__(self, inputs: Tensor) -> list[Tensor]:
        """Returns mean probabilities (N, C, H, W) for inputs (N, channels, H, W): over both mirror images, and where there are further
        scales also over those of all of them.
        """
        own = (inputs.shape[2], inputs.shape[3])
        with _uncompiled(self.network):
            if own not in self._sizes:
                self._sizes[own] = self._pick_sizes(inputs[:1], own)
            mirrored = self._mean_at(inputs, own)
            others = [self._mean_at(inputs, size) for size in self._sizes[own]]
        return [mirrored, sum(others, mirrored) / (1 + len(others))] if others else [mirrored]

    def _mean_at(self, inputs: Tensor, size: Size) -> Tensor:
        """Returns the mean over images of a size and their mirror images, at the size of the inputs."""
        own = inputs.shape[2:]
        images = inputs if size == own else F.interpolate(inputs, size, mode="bilinear", antialias=True)
        mean = (self._probabilities(images) + self._probabilities(images.flip(-1)).flip(-1)) / 2
        return mean if size == own else F.interpolate(mean, own, mode="bilinear")

    def _probabilities(self, images: Tensor) -> Tensor:
        outputs = self.network(self.scoring.arrange(images))
        found = self.scoring.scores.probabilities(outputs.to(torch.promote_types(outputs.dtype, torch.float32)))
        assert found is not None
        return found

    def _pick_sizes(self, image: Tensor, own: Size) -> list[Size]:
        """Returns the sizes of further views of an image (1, channels, H, W)."""
        if self.world.lockstep:
            self.emit(Note("tta of maps is the mean over mirror images, not over scales: runtime.parallel is fsdp"))
            return []
        step = find_size_step(self.network, image)
        if step.step is None:
            why = f": {first_line(step.problem, 200)}" if step.problem else ""
            self.emit(
                Note(
                    f"tta of maps is the mean over mirror images, not over scales: the network takes {size_text(own)} alone{why}"
                )
            )
            return []
        sizes = dict.fromkeys(step.nearest(own, scale) for scale in SCALES)
        return [size for size in sizes if size != own and size_problem(self.network, image, size) is None]


def score_views(
    network: nn.Module, split: Split, scoring: Scoring, *, world: World = ALONE, emit: Emit = ignore
) -> dict[str, float]:
    """Returns `miou_tta`, of the mean over both mirror images, and `miou_tta_scales`, of that over all scales where there are any."""
    views = MapViews(network, scoring, world=world, emit=emit)
    sums = [CountSum(scoring), CountSum(scoring)]
    num_views = 1
    with eval_mode(network), without_gradients(world):
        for batch in announced(split, None, world, emit):
            with scoring.precision.autocast():
                found = views(batch.inputs)
            num_views = len(found)
            if batch.is_counted:
                for counts, probabilities in zip(sums, found, strict=False):
                    counts.add(probabilities, batch.targets)
    judging = scoring.scores.traits.judging
    metrics = [scoring.scores.judge(counts.read(world))[judging] for counts in sums]  # a process may have had no batch
    names = (f"{judging}_tta", f"{judging}_tta_scales")[: max(world.gather_values(num_views))]
    return dict(zip(names, metrics, strict=False))


def _uncompiled(network: nn.Module) -> AbstractContextManager[object]:
    """Returns a context where a network that was compiled runs as it is: it would be compiled once more for each size."""
    # torch loads its compiler for this, which takes seconds
    return nullcontext() if network._compiled_call_impl is None else torch.compiler.set_stance("force_eager")
