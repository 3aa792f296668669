"""The transposed convolution explained step by step gives torch's numbers."""

import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from dlkit.shapes import (
    Window,
    draw_fields,
    draw_windows,
    explain_transposed,
    explanation_lines,
    window_taps,
)

AXIS = st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(0, 2), st.integers(1, 2), st.integers(0, 1))


@settings(max_examples=200, deadline=None)
@given(AXIS, AXIS, st.tuples(st.integers(1, 3), st.integers(1, 3)))
def test_the_steps_give_what_torch_gives(
    down: tuple[int, ...], across: tuple[int, ...], sizes: tuple[int, int]
) -> None:
    (kh, sh, ph, dh, eh), (kw, sw, pw, dw, ew) = down, across
    eh, ew = min(eh, max(sh, dh) - 1), min(ew, max(sw, dw) - 1)
    rows, columns = Window(kh, sh, ph, ph, dh), Window(kw, sw, pw, pw, dw)
    if (sizes[0] - 1) * sh - 2 * ph + rows.span + eh < 1 or (sizes[1] - 1) * sw - 2 * pw + columns.span + ew < 1:
        return
    explained = explain_transposed(rows, columns, sizes=sizes, extra=(eh, ew))
    image, kernel = (
        torch.tensor(grid, dtype=torch.float64)[None, None] for grid in (explained.image, explained.kernel)
    )
    options = {"stride": (sh, sw), "padding": (ph, pw), "output_padding": (eh, ew), "dilation": (dh, dw)}
    expected = F.conv_transpose2d(image, kernel, **options)
    assert explained.output == expected[0, 0].long().tolist()


def test_the_text_names_every_step_and_fits_80_columns() -> None:
    window = Window(4, 2, 1, 1)
    lines = explanation_lines(
        explain_transposed(window, window, sizes=(3, 3), extra=(0, 0)), window, window, extra=(0, 0)
    )
    assert max(map(len, lines)) <= 80
    assert [line[0] for line in lines if line[0].isdigit()] == ["1", "2", "3", "4", "5"]
    assert "1*(4-1) - 1 = 2" in "\n".join(lines)


def test_windows_are_drawn_with_their_padding_and_what_they_miss() -> None:
    lines = draw_windows(window_taps(kernel=3, stride=2, pad=0), size=8, out=3, padding=(0, 0))
    assert lines == [
        "    input  ........",
        "    out 0  ###",
        "    out 1    ###",
        "    out 2      ###",
        " not read         !",
    ]


def test_a_long_axis_is_cut_in_the_middle() -> None:
    lines = draw_windows(window_taps(kernel=7, stride=2, pad=3), size=224, out=112, padding=(3, 3))
    assert max(map(len, lines)) <= 80
    assert " ~ " in lines[0]
    assert "#######" in lines[1]
    assert lines[-1].split()[1] == "111"


def test_field_bars_grow_with_the_field() -> None:
    bars = draw_fields([("a", 7), ("b", 112), ("c", 300), ("d", None)], size=224)
    assert [bar.count("=") for bar in bars] == [1, 20, 38, 40]
    assert [bar.split()[-1] for bar in bars] == ["7", "112", "300", "all"]
