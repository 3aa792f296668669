"""Samples that cost nothing and can be learnt, for tests and dry runs."""

import torch

from dlkit.core.data.contract import Kind
from dlkit.core.data.samples import Source, SourceRequest, TensorSamples
from dlkit.errors import DataError

_KINDS: dict[int, Kind] = {1: "features", 2: "sequence", 3: "image"}


def fake(
    num_samples: int = 256,
    shape: tuple[int, ...] = (1, 8, 8),
    num_classes: int = 10,
    noise: float = 0.25,
    *,
    request: SourceRequest,
) -> Source:
    """One random pattern per class, plus noise: images (C, H, W), sequences (T, F) or features (F,), by the length of
    `shape`.

    A quarter as many test samples come on top. `noise` is its standard deviation, that of the patterns is 1.
    """
    if len(shape) not in _KINDS or min(num_samples, num_classes, *shape) < 1:
        raise DataError(
            f"fake needs a shape of 1 to 3 sizes, all at least 1, and at least 1 sample and class; got {list(shape)}"
        )
    generator = torch.Generator().manual_seed(request.seed)
    patterns = torch.randn(num_classes, *shape, generator=generator)

    def draw(count: int) -> TensorSamples:
        labels = torch.arange(count) % num_classes
        values = patterns[labels] + noise * torch.randn(count, *shape, generator=generator)
        return TensorSamples((values * 40 + 128).clamp(0, 255).to(torch.uint8) if len(shape) == 3 else values, labels)

    train, test = draw(num_samples), draw(max(1, num_samples // 4))
    return Source("classification", _KINDS[len(shape)], train, None, test, num_classes)
