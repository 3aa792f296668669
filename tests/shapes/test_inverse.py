"""The solver against brute force: nothing extra, nothing missing."""

from dataclasses import astuple
from functools import cache
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlkit.shapes import KINDS, SearchLimits, ShapeError, SolveRequest, build_layer, solve

LIMITS = SearchLimits(kernel_size=4, stride=6, dilation=2)
SOLVABLE = ("conv", "tconv", "maxpool", "avgpool", "lppool")
Geometry = tuple[int, int, int, int, int, bool]  # kernel_size, stride, padding, dilation, output_padding, ceil_mode


@cache
def output_size(kind: str, size: int, geometry: Geometry) -> int | None:
    """What the layer itself makes of `size`, or None where it refuses."""
    names = ("kernel_size", "stride", "padding", "dilation", "output_padding")
    options: dict[str, Any] = {name: (number,) for name, number in zip(names, geometry[:5], strict=True)}
    options["ceil_mode"] = geometry[5]
    known = {name: value for name, value in options.items() if name in KINDS[kind].options}
    try:
        return build_layer(kind, known, dims=1).out_shape((1, size))[1]
    except ShapeError:
        return None


def brute(request: SolveRequest) -> set[Geometry]:
    """Every geometry of the limits that gives the output, by trying all of them."""
    kernels = [request.kernel_size] if request.kernel_size else range(1, LIMITS.kernel_size + 1)
    is_any_stride_right = request.ins[0] == 1 if request.kind == "tconv" else request.outs[0] == 1
    strides = [request.stride] if request.stride else range(1, 7 if is_any_stride_right else 40)
    dilations = [request.dilation] if request.dilation else range(1, LIMITS.dilation + 1)
    found = set()
    for kernel, stride, dilation in product(kernels, strides, dilations):
        if kernel == 1 and dilation > 1 and not request.dilation:
            continue
        most = kernel // 2 if request.kind.endswith("pool") else dilation * (kernel - 1)
        paddings = range(1 if request.kind == "lppool" else most + 1) if request.padding is None else [request.padding]
        extras = range(max(stride, dilation) if request.kind == "tconv" else 1)
        for padding, extra in product(paddings, extras):
            geometry = (kernel, stride, padding, dilation, extra, request.ceil_mode)
            if tuple(output_size(request.kind, size, geometry) for size in request.ins) == request.outs:
                found.add(geometry)
    return found


@settings(max_examples=500, deadline=None)
@given(st.data())
def test_solutions_are_exactly_those_of_brute_force(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(SOLVABLE))
    size = data.draw(st.integers(1, 12))
    out = data.draw(st.integers(1, 20 if kind == "tconv" else size + 4))
    request = SolveRequest(
        kind,
        (out,),
        (size,),
        kernel_size=data.draw(st.none() | st.integers(1, 4)),
        stride=data.draw(st.none() | st.integers(1, 5)),
        padding=data.draw(st.none() | st.integers(0, 2)) if kind != "lppool" else None,
        dilation=data.draw(st.sampled_from([None, 1, 2])) if kind in ("conv", "tconv", "maxpool") else 1,
        ceil_mode=data.draw(st.booleans()) if kind.endswith("pool") else False,
    )
    solved = [astuple(solution.geometry) for solution in solve(request, LIMITS)]
    assert len(solved) == len(set(solved))
    ratio = max(size, out) // min(size, out)
    small = {geometry for geometry in solved if geometry[0] <= 4 or geometry[0] != ratio}
    assert small == brute(request)
    assert all(output_size(kind, size, geometry) == out for geometry in solved)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_the_range_of_inputs_is_exact(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(SOLVABLE))
    kernel, stride = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 6))
    dilation = data.draw(st.integers(1, 3)) if kind in ("conv", "tconv", "maxpool") else 1
    padding = data.draw(st.integers(0, 0 if kind == "lppool" else kernel // 2 if kind.endswith("pool") else 5))
    extra = data.draw(st.integers(0, max(stride, dilation) - 1)) if kind == "tconv" else 0
    ceil_mode = data.draw(st.booleans()) if kind.endswith("pool") else False
    geometry = (kernel, stride, padding, dilation, extra, ceil_mode)
    out = data.draw(st.integers(1, 30))
    found = [size for solution in solve(SolveRequest(kind, (out,), None, *geometry)) for size in solution.inputs[0]]
    assert found == [size for size in range(1, 260) if output_size(kind, size, geometry) == out]


def first_lines(request: SolveRequest, number: int) -> list[tuple[int, int, int, str]]:
    geometries = [(solution.geometry, solution.note) for solution in solve(request)[:number]]
    return [(geometry.kernel_size, geometry.stride, geometry.padding, note) for geometry, note in geometries]


def test_usual_geometries_come_first() -> None:
    halves = first_lines(SolveRequest("conv", (112,), (224,)), 4)
    assert halves[0] == (3, 2, 1, "usual")
    assert (7, 2, 3, "ResNet stem") in halves
    assert (2, 2, 0, "patch, no overlap") in first_lines(SolveRequest("conv", (112,), (224,)), 6)
    assert first_lines(SolveRequest("tconv", (14,), (7,)), 3)[0][:3] == (4, 2, 1)
    assert (16, 16, 0, "patch, no overlap") in first_lines(SolveRequest("conv", (14,), (224,)), 3)


def test_the_inputs_with_the_same_output_are_given() -> None:
    usual = solve(SolveRequest("conv", (112,), (224,)))[0]
    assert usual.inputs == (range(223, 225),)
    assert usual.leftover == 1


def test_all_axes_must_fit() -> None:
    both = {solution.geometry for solution in solve(SolveRequest("conv", (112, 150), (224, 301)))}
    first = {solution.geometry for solution in solve(SolveRequest("conv", (112,), (224,)))}
    second = {solution.geometry for solution in solve(SolveRequest("conv", (150,), (301,)))}
    assert both == first & second


def test_an_unknown_input_is_a_range() -> None:
    (only,) = solve(SolveRequest("conv", (112,), None, kernel_size=3, stride=2, padding=1))
    assert only.inputs == (range(223, 225),)


@pytest.mark.parametrize(
    ("question", "message"),
    [
        (SolveRequest("linear", (3,)), "cannot solve 'linear'"),
        (SolveRequest("conv", (3,), (4, 4)), "2 axes and --out 1"),
        (SolveRequest("conv", (0,)), "at least 1"),
    ],
)
def test_wrong_questions_are_refused(question: SolveRequest, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        solve(question)
