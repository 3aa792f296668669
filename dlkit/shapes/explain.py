"""A transposed convolution taken apart: insert zeros, pad, and convolve with the flipped kernel, on a small grid."""

from dataclasses import dataclass

from dlkit.shapes.window import Window

Grid = list[list[int]]


@dataclass(frozen=True)
class Explained:
    """The grids of one small example. `padding` is what each side gets; below 0 it crops."""

    image: Grid
    kernel: Grid
    spread: Grid
    padded: Grid
    flipped: Grid
    output: Grid
    padding: tuple[int, int]


def explain_transposed(rows: Window, columns: Window, *, sizes: tuple[int, int], extra: tuple[int, int]) -> Explained:
    """The steps for an image 1, 2, 3, ... of `sizes` and a kernel 1, 2, 3, ...; `extra` is the output_padding."""
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


def grid_lines(grid: Grid) -> list[str]:
    """A grid as text, zeros as dots."""
    width = max(len(str(number)) for row in grid for number in row)
    return [" ".join(("." if number == 0 else str(number)).rjust(width) for number in row) for row in grid]


def explanation_lines(explained: Explained, rows: Window, columns: Window, *, extra: tuple[int, int]) -> list[str]:
    """The steps as text that fits 80 columns for small kernels."""
    side = explained.padding[0] if explained.padding[0] == explained.padding[1] else explained.padding
    does = "pad" if explained.padding[0] >= 0 else "crop (negative)"
    formula = f"dilation*(k-1) - padding = {rows.dilation}*({rows.kernel}-1) - {rows.pad_left}"
    parts: list[tuple[str, Grid]] = [
        (f"1. image {_size(explained.image)}, and kernel below", explained.image),
        ("   kernel", explained.kernel),
        (f"2. put stride-1 = {rows.stride - 1} zeros between neighbours: {_size(explained.spread)}", explained.spread),
        (
            f"3. {does} each side by {formula} = {side}"
            + (f", right and bottom by output_padding {extra[0]} more" if any(extra) else ""),
            explained.padded,
        ),
        ("4. flip the kernel" + (" and spread it by the dilation" if rows.dilation > 1 else ""), explained.flipped),
        (f"5. slide it with stride 1: {_size(explained.output)}", explained.output),
    ]
    lines = []
    for title, grid in parts:
        lines += [title, *("   " + line for line in grid_lines(grid))]
    return lines


def _size(grid: Grid) -> str:
    return f"{len(grid)}x{len(grid[0])}"
