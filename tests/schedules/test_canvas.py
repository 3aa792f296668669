"""The canvas shows every value: nothing between two columns gets lost."""

import math

import pytest

from dlkit.schedules import Canvas, Scale, fit_scale


def rows_with_marks(canvas):
    return [row for row, line in enumerate(canvas.lines()) if line.strip()]


def draw(values, *, width=20, height=5, scale=None, is_ascii=True):
    canvas = Canvas(width, height, is_ascii=is_ascii)
    canvas.draw(values, scale or fit_scale([values]))
    return canvas


def test_a_rising_line_in_ascii():
    assert draw([0, 1, 2, 3], width=4, height=4).lines() == ["   *", "  *", " *", "*"]


def test_braille_dots_are_where_unicode_says():
    canvas = draw([0, 1, 2, 3, 3, 2, 1, 0], width=4, height=1, is_ascii=False)
    assert canvas.lines() == ["⡠⠊⠑⢄"]


def test_few_values_are_held_over_their_columns():
    assert draw([0, 1], width=6, height=2).lines() == ["   ***", "***"]


@pytest.mark.parametrize("is_ascii", [True, False])
@pytest.mark.parametrize("place", [0, 1, 499_999, 777_777, 999_999])
def test_a_spike_of_one_step_in_a_million_survives(place, is_ascii):
    values = [0.0] * 1_000_000
    values[place] = 1.0
    canvas = draw(values, is_ascii=is_ascii)
    assert rows_with_marks(canvas) == [0, 1, 2, 3, 4]
    column = min(place * 20 // 1_000_000, 19)
    assert canvas.lines()[0].strip()
    assert canvas.lines()[0].index(canvas.lines()[0].strip()[0]) == column


def test_a_jump_leaves_no_gap():
    assert draw([0, 0, 4, 4], width=4, height=5).lines() == ["  **", "  *", "  *", "  *", "**"]


def test_nan_leaves_a_gap_and_infinity_stays_on_the_border():
    assert draw([0.0, math.nan, 1.0, math.inf], width=4, height=2, scale=Scale(0, 1)).lines() == ["  **", "*"]


def test_log_scale_spaces_decades_evenly():
    scale = fit_scale([[1e-4, 1e-3, 1e-2, 1e-1, 0.0]], is_log=True)
    assert [scale.share(value) for value in (1e-4, 1e-3, 1e-2, 1e-1)] == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert scale.share(0.0) == 0
    assert scale.value(1 / 3) == pytest.approx(1e-3)


@pytest.mark.parametrize("values", [[0.0, 0.0], [0.1, 0.1], [-1.0, -1.0], [math.nan, math.nan]])
@pytest.mark.parametrize("is_log", [True, False])
def test_a_level_line_has_a_scale(values, is_log):
    scale = fit_scale([values], is_log=is_log)
    assert scale.low < scale.high


def test_scales_begin_at_zero_unless_told_otherwise():
    assert fit_scale([[0.5, 1.0]]).low == 0
    assert fit_scale([[0.5, 1.0]], from_zero=False).low == 0.5
    assert fit_scale([[-0.5, 1.0]]).low == -0.5
