"""The solver against brute force: nothing extra, nothing missing."""

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlkit.shapes import SOLVABLE, Asked, Geometry, SearchLimits, ShapeError, forward, inputs_for, solve

LIMITS = SearchLimits(kernel_size=4, stride=6, dilation=2)


def gives(kind: str, size: int, geometry: Geometry, out: int) -> bool:
    try:
        return forward(kind, size, geometry) == out
    except ShapeError:
        return False


def brute(asked: Asked) -> set[Geometry]:
    """Every geometry of the limits that gives the output, by trying all of them."""
    kernels = [asked.kernel_size] if asked.kernel_size else range(1, LIMITS.kernel_size + 1)
    is_any_stride_right = asked.ins[0] == 1 if asked.kind == "tconv" else asked.outs[0] == 1
    strides = [asked.stride] if asked.stride else range(1, 7 if is_any_stride_right else 40)
    dilations = [asked.dilation] if asked.dilation else range(1, LIMITS.dilation + 1)
    found = set()
    for kernel, stride, dilation in product(kernels, strides, dilations):
        if kernel == 1 and dilation > 1 and not asked.dilation:
            continue
        most = kernel // 2 if asked.kind.endswith("pool") else dilation * (kernel - 1)
        paddings = range(1 if asked.kind == "lppool" else most + 1) if asked.padding is None else [asked.padding]
        extras = range(max(stride, dilation) if asked.kind == "tconv" else 1)
        for padding, extra in product(paddings, extras):
            geometry = Geometry(kernel, stride, padding, dilation, extra, asked.ceil_mode)
            if all(gives(asked.kind, size, geometry, out) for size, out in zip(asked.ins, asked.outs, strict=True)):
                found.add(geometry)
    return found


@settings(max_examples=500, deadline=None)
@given(st.data())
def test_solutions_are_exactly_those_of_brute_force(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(SOLVABLE))
    size = data.draw(st.integers(1, 12))
    out = data.draw(st.integers(1, 20 if kind == "tconv" else size + 4))
    asked = Asked(
        kind,
        (out,),
        (size,),
        kernel_size=data.draw(st.none() | st.integers(1, 4)),
        stride=data.draw(st.none() | st.integers(1, 5)),
        padding=data.draw(st.none() | st.integers(0, 2)) if kind != "lppool" else None,
        dilation=data.draw(st.sampled_from([None, 1, 2])) if kind in ("conv", "tconv", "maxpool") else 1,
        ceil_mode=data.draw(st.booleans()) if kind.endswith("pool") else False,
    )
    solved = [solution.geometry for solution in solve(asked, LIMITS)]
    assert len(solved) == len(set(solved))
    ratio = max(size, out) // min(size, out)
    small = {geometry for geometry in solved if geometry.kernel_size <= 4 or geometry.kernel_size != ratio}
    assert small == brute(asked)
    assert all(gives(kind, size, geometry, out) for geometry in solved)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_the_range_of_inputs_is_exact(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(SOLVABLE))
    kernel, stride = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 6))
    dilation = data.draw(st.integers(1, 3)) if kind in ("conv", "tconv", "maxpool") else 1
    padding = data.draw(st.integers(0, kernel // 2 if kind.endswith("pool") else 5))
    extra = data.draw(st.integers(0, max(stride, dilation) - 1)) if kind == "tconv" else 0
    ceil_mode = data.draw(st.booleans()) if kind.endswith("pool") else False
    geometry = Geometry(kernel, stride, padding, dilation, extra, ceil_mode)
    out = data.draw(st.integers(1, 30))
    assert list(inputs_for(kind, out, geometry)) == [size for size in range(1, 260) if gives(kind, size, geometry, out)]


def first_lines(asked: Asked, number: int) -> list[tuple[int, int, int, str]]:
    geometries = [(solution.geometry, solution.note) for solution in solve(asked)[:number]]
    return [(geometry.kernel_size, geometry.stride, geometry.padding, note) for geometry, note in geometries]


def test_usual_geometries_come_first() -> None:
    halves = first_lines(Asked("conv", (112,), (224,)), 4)
    assert halves[0] == (3, 2, 1, "usual")
    assert (7, 2, 3, "ResNet stem") in halves
    assert (2, 2, 0, "patch, no overlap") in first_lines(Asked("conv", (112,), (224,)), 6)
    assert first_lines(Asked("tconv", (14,), (7,)), 3)[0][:3] == (4, 2, 1)
    assert (16, 16, 0, "patch, no overlap") in first_lines(Asked("conv", (14,), (224,)), 3)


def test_the_inputs_with_the_same_output_are_given() -> None:
    usual = solve(Asked("conv", (112,), (224,)))[0]
    assert usual.inputs == (range(223, 225),)
    assert usual.leftover == 1


def test_all_axes_must_fit() -> None:
    both = {solution.geometry for solution in solve(Asked("conv", (112, 150), (224, 301)))}
    first = {solution.geometry for solution in solve(Asked("conv", (112,), (224,)))}
    second = {solution.geometry for solution in solve(Asked("conv", (150,), (301,)))}
    assert both == first & second


def test_an_unknown_input_is_a_range() -> None:
    (only,) = solve(Asked("conv", (112,), None, kernel_size=3, stride=2, padding=1))
    assert only.inputs == (range(223, 225),)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (Asked("linear", (3,)), "cannot solve 'linear'"),
        (Asked("conv", (3,), (4, 4)), "2 axes and --out 1"),
        (Asked("conv", (0,)), "at least 1"),
    ],
)
def test_wrong_questions_are_refused(asked: Asked, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        solve(asked)
