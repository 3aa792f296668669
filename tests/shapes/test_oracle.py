"""Every size and every refusal against torch: the whole 1-d grid on meta, samples on the CPU and in 2-d, 3-d."""

import random
from collections.abc import Callable, Iterator
from itertools import product

import pytest
import torch
import torch.nn.functional as F

from dlkit.shapes import Conv, ConvTranspose, Pool, ShapeError, Spatial, Unpool

SIZES, KERNELS, STRIDES, PADDINGS, DILATIONS = range(1, 25), range(1, 7), range(1, 6), range(6), range(1, 5)
Case = tuple[int, ...]


def grid(*more: range) -> Iterator[Case]:
    return product(SIZES, KERNELS, STRIDES, PADDINGS, DILATIONS, *more)


def torch_size(run: Callable[[], torch.Tensor]) -> tuple[int, ...] | None:
    """Spatial sizes, or None where torch refuses."""
    try:
        return tuple(run().shape[2:])
    except (RuntimeError, ValueError):
        return None


def our_size(build: Callable[[], Spatial], sizes: tuple[int, ...]) -> tuple[int, ...] | None:
    try:
        return build().out_sizes(sizes)
    except ShapeError:
        return None


def conv(case: Case, dims: int, device: str) -> tuple[object, object]:
    size, kernel, stride, padding, dilation = case
    x, w = torch.zeros(1, 1, *(size,) * dims, device=device), torch.zeros(1, 1, *(kernel,) * dims, device=device)
    run = (F.conv1d, F.conv2d, F.conv3d)[dims - 1]
    return (
        torch_size(lambda: run(x, w, stride=stride, padding=padding, dilation=dilation)),
        our_size(
            lambda: Conv((kernel,) * dims, (stride,) * dims, (dilation,) * dims, padding=(padding,) * dims),
            (size,) * dims,
        ),
    )


def tconv(case: Case, dims: int, device: str) -> tuple[object, object]:
    size, kernel, stride, padding, dilation, extra = case
    x, w = torch.zeros(1, 1, *(size,) * dims, device=device), torch.zeros(1, 1, *(kernel,) * dims, device=device)
    run = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[dims - 1]

    def build() -> Spatial:
        options = {"padding": (padding,) * dims, "output_padding": (extra,) * dims}
        return ConvTranspose((kernel,) * dims, (stride,) * dims, (dilation,) * dims, **options)

    theirs = torch_size(lambda: run(x, w, stride=stride, padding=padding, output_padding=extra, dilation=dilation))
    # an empty output passes on some backends (CUDA, CPU in 2-d) and is refused by the others and on meta; we refuse it
    theirs = None if theirs and min(theirs) == 0 else theirs
    return theirs, our_size(build, (size,) * dims)


def pool(operation: str, case: Case, dims: int, device: str) -> tuple[object, object]:
    size, kernel, stride, padding, dilation, ceil_mode = case
    x = torch.zeros(1, 1, *(size,) * dims, device=device)
    geometry = {"stride": stride, "padding": padding, "ceil_mode": bool(ceil_mode)}
    if operation == "max":
        run = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[dims - 1]
        theirs = torch_size(lambda: run(x, kernel, dilation=dilation, **geometry))
    elif operation == "avg":
        run = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[dims - 1]
        theirs = torch_size(lambda: run(x, kernel, **geometry))
    else:
        run = (F.lp_pool1d, F.lp_pool2d, F.lp_pool3d)[dims - 1]
        theirs = torch_size(lambda: run(x, 2.0, kernel, stride=stride, ceil_mode=bool(ceil_mode)))

    def build() -> Spatial:
        axes = [(number,) * dims for number in (kernel, stride, padding, dilation)]
        return Pool(operation, *axes, ceil_mode=bool(ceil_mode))

    return theirs, our_size(build, (size,) * dims)


def unpool(case: Case, dims: int, device: str) -> tuple[object, object]:
    size, kernel, stride, padding = case
    x = torch.zeros(1, 1, *(size,) * dims, device=device)
    run = (F.max_unpool1d, F.max_unpool2d, F.max_unpool3d)[dims - 1]
    theirs = torch_size(lambda: run(x, torch.zeros_like(x, dtype=torch.long), kernel, stride, padding))
    build = lambda: Unpool((kernel,) * dims, (stride,) * dims, (padding,) * dims)  # noqa: E731
    return theirs, our_size(build, (size,) * dims)


RUNS = {
    "conv": (conv, lambda: grid()),
    "tconv": (tconv, lambda: grid(range(5))),
    "maxpool": (lambda *a: pool("max", *a), lambda: grid(range(2))),
    "avgpool": (lambda *a: pool("avg", *a), lambda: product(SIZES, KERNELS, STRIDES, PADDINGS, (1,), range(2))),
    "lppool": (lambda *a: pool("lp", *a), lambda: product(SIZES, KERNELS, STRIDES, (0,), (1,), range(2))),
    "unpool": (unpool, lambda: product(SIZES, KERNELS, STRIDES, PADDINGS)),
}


def mismatches(kind: str, cases: list[Case], dims: int, device: str) -> list[object]:
    run = RUNS[kind][0]
    answers = ((case, *run(case, dims, device)) for case in cases)
    return [answer for answer in answers if answer[1] != answer[2]]


@pytest.mark.parametrize("kind", RUNS)
def test_the_whole_grid_equals_torch_on_meta(kind: str) -> None:
    assert mismatches(kind, list(RUNS[kind][1]()), 1, "meta") == []


@pytest.mark.parametrize(
    ("dims", "device", "number"),
    [(1, "meta", 600), (1, "cpu", 300), (2, "meta", 300), (2, "cpu", 100), (3, "meta", 200)],
)
@pytest.mark.parametrize("kind", RUNS)
def test_samples_equal_torch(kind: str, dims: int, device: str, number: int) -> None:
    cases = random.Random(0).sample(list(RUNS[kind][1]()), number)
    if kind == "unpool" and device == "cpu":  # zeros as indices are out of range for an empty output
        cases = [case for case in cases if (case[0] - 1) * case[2] + case[1] - 2 * case[3] > 0]
    assert mismatches(kind, cases, dims, device) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dims", "device", "number"), [(1, "cpu", 2000), (2, "cpu", 1000), (3, "meta", 2000), (3, "cpu", 150)]
)
@pytest.mark.parametrize("kind", ["conv", "tconv", "maxpool", "avgpool"])
def test_more_samples_equal_torch(kind: str, dims: int, device: str, number: int) -> None:
    cases = random.Random(1).sample(list(RUNS[kind][1]()), number)
    assert mismatches(kind, cases, dims, device) == []
