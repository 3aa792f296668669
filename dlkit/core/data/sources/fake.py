"""Samples that cost nothing and can be learnt, for tests and dry runs."""

import torch

from dlkit.core.data.contract import Kind
from dlkit.core.data.masks import join_mask
from dlkit.core.data.samples import Source, SourceRequest, TensorSamples
from dlkit.errors import DataError
from dlkit.tasks import TaskName

_KINDS: dict[int, Kind] = {1: "features", 2: "sequence", 3: "image"}


def fake(
    num_samples: int = 256,
    shape: tuple[int, ...] = (1, 8, 8),
    num_classes: int = 10,
    *,
    noise: float = 0.25,
    request: SourceRequest,
) -> Source:
    """One random pattern per class, plus noise: images (C, H, W), sequences (T, F) or features (F,), by the length of
    `shape`. For `task: segmentation`, pictures with two rectangles each, of classes other than 0 and their patterns.

    A quarter as many test samples come on top. `noise` is its standard deviation, that of the patterns is 1.
    """
    if request.task == "segmentation" and len(shape) != 3:
        raise DataError(f"fake makes masks of pictures, whose shape has 3 sizes; got {list(shape)}")
    if len(shape) not in _KINDS or min(num_samples, num_classes, *shape) < 1:
        raise DataError(
            f"fake needs a shape of 1 to 3 sizes, all at least 1, and at least 1 sample and class; got {list(shape)}"
        )
    generator = torch.Generator().manual_seed(request.seed)
    patterns = torch.randn(num_classes, *shape, generator=generator)

    def draw(count: int) -> TensorSamples:
        if request.task == "segmentation":
            return _draw_masked(count, patterns, noise, generator)
        labels = torch.arange(count) % num_classes
        values = patterns[labels] + noise * torch.randn(count, *shape, generator=generator)
        return TensorSamples((values * 40 + 128).clamp(0, 255).to(torch.uint8) if len(shape) == 3 else values, labels)

    train, test = draw(num_samples), draw(max(1, num_samples // 4))
    task: TaskName = "segmentation" if request.task == "segmentation" else "classification"
    return Source(task, _KINDS[len(shape)], train, None, test, num_classes)


def _draw_masked(count: int, patterns: torch.Tensor, noise: float, generator: torch.Generator) -> TensorSamples:
    num_classes, channels, *size = patterns.shape
    masks = torch.zeros(count, *size, dtype=torch.int64)
    for index in range(2 * count):
        corners = [sorted(torch.randint(0, side + 1, (2,), generator=generator).tolist()) for side in size]
        rows, columns = (slice(*pair) for pair in corners)
        masks[index // 2, rows, columns] = 1 + index % max(1, num_classes - 1) if num_classes > 1 else 0
    values = patterns[
        masks[:, None], torch.arange(channels)[:, None, None], *torch.meshgrid(*map(torch.arange, size), indexing="ij")
    ]
    values = values + noise * torch.randn(values.shape, generator=generator)
    pictures = (values * 40 + 128).clamp(0, 255).to(torch.uint8)
    return TensorSamples(join_mask(pictures, masks), torch.zeros(count, dtype=torch.int64))
