"""A transposed convolution step by step on a small grid: insert zeros, pad, convolve with the flipped kernel."""

from dataclasses import dataclass
from typing import Any

from dlkit.shapes.window import Window

Grid = list[list[int]]


@dataclass(frozen=True)
class Explained:
    """The grids of one small example. `padding` is that of each side; below 0 it crops."""

    image: Grid
    kernel: Grid
    spread: Grid
    padded: Grid
    flipped: Grid
    output: Grid
    padding: tuple[int, int]

    @property
    def is_row(self) -> bool:
        """Whether there is one dimension only."""
        return len(self.image) == len(self.kernel) == len(self.output) == 1


def explain_transposed(rows: Window, columns: Window, *, sizes: tuple[int, int], extra: tuple[int, int]) -> Explained:
    """Compute the steps for an image 1, 2, 3, ... of `sizes` and a kernel 1, 2, 3, ...; `extra` is the output_padding."""
    image, kernel = _counting(*sizes), _counting(rows.kernel, columns.kernel)
    spread = _with_zeros(image, rows.stride, columns.stride)
    padding = (rows.span - 1 - rows.pad_left, columns.span - 1 - columns.pad_left)
    padded = _padded(spread, padding, extra)
    flipped = _with_zeros([row[::-1] for row in kernel[::-1]], rows.dilation, columns.dilation)
    return Explained(image, kernel, spread, padded, flipped, _convolved(padded, flipped), padding)


def _counting(height: int, width: int) -> Grid:
    return [[row * width + column + 1 for column in range(width)] for row in range(height)]


def _with_zeros(grid: Grid, row_step: int, column_step: int) -> Grid:
    """The grid with step - 1 zeros between neighbours."""
    height, width = (len(grid) - 1) * row_step + 1, (len(grid[0]) - 1) * column_step + 1
    spread = [[0] * width for _ in range(height)]
    for row, numbers in enumerate(grid):
        spread[row * row_step][::column_step] = numbers
    return spread


def _padded(grid: Grid, padding: tuple[int, int], extra: tuple[int, int]) -> Grid:
    (top, left), (height, width) = padding, (len(grid), len(grid[0]))
    rows, columns = range(-top, height + top + extra[0]), range(-left, width + left + extra[1])
    return [[grid[y][x] if 0 <= y < height and 0 <= x < width else 0 for x in columns] for y in rows]


def _convolved(grid: Grid, kernel: Grid) -> Grid:
    height, width = len(grid) - len(kernel) + 1, len(grid[0]) - len(kernel[0]) + 1
    return [[_at(grid, kernel, y, x) for x in range(width)] for y in range(height)]


def _at(grid: Grid, kernel: Grid, y: int, x: int) -> int:
    return sum(grid[y + row][x + column] * tap for row, taps in enumerate(kernel) for column, tap in enumerate(taps))


def grid_lines(grid: Grid, *, width: int = 74) -> list[str]:
    """A grid as text, with zeros as dots; columns beyond `width` are left out."""
    cell = max(len(str(number)) for row in grid for number in row)
    fitting = len(grid[0]) if len(grid[0]) * (cell + 1) <= width else (width - 3) // (cell + 1)
    cut = "" if fitting == len(grid[0]) else " .."
    return [" ".join(("." if n == 0 else str(n)).rjust(cell) for n in row[:fitting]) + cut for row in grid]


def explanation_lines(explained: Explained, rows: Window, columns: Window, *, extra: tuple[int, int]) -> list[str]:
    """The steps as text that fits 80 columns; for one dimension only its columns are described."""
    axes = [(columns, explained.padding[1], extra[1])]
    if not explained.is_row:
        axes.insert(0, (rows, explained.padding[0], extra[0]))
    zeros = _each([window.stride - 1 for window, _, _ in axes])
    sums = _each([f"{w.dilation}*({w.kernel}-1) - {w.pad_left} = {padding}" for w, padding, _ in axes])
    equals = ":\n  " if " across" in sums else " ="
    does = "pad" if min(explained.padding) >= 0 else "crop (negative) or pad"
    more = f";\n   {_each([op for _, _, op in axes])} more at the end (output_padding)" if any(extra) else ""
    spreads = " and spread it by the dilation" if max(window.dilation for window, _, _ in axes) > 1 else ""
    parts: list[tuple[str, Grid]] = [
        (f"1. image {_size(explained.image)}, and kernel below", explained.image),
        ("   kernel", explained.kernel),
        (f"2. put stride-1 = {zeros} zeros between neighbours: {_size(explained.spread)}", explained.spread),
        (f"3. {does} each side by dilation*(k-1) - padding{equals} {sums}{more}", explained.padded),
        (f"4. flip the kernel{spreads}", explained.flipped),
        (f"5. slide it with stride 1: {_size(explained.output)}", explained.output),
    ]
    lines = []
    for title, grid in parts:
        lines += [*title.split("\n"), *("   " + line for line in grid_lines(grid))]
    return lines


def _each(values: list[Any]) -> str:
    """One value where the axes agree, else both."""
    return str(values[0]) if len(set(values)) == 1 else f"{values[0]} down, {values[1]} across"


def _size(grid: Grid) -> str:
    return f"{len(grid)}x{len(grid[0])}"
