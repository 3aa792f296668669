"""A sheet of the worst pictures of a model of maps: each with its true and its predicted classes, and where these differ."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from dlkit.core.data import IGNORED, Color
from dlkit.core.evaluation.maps.palette import NOT_COUNTED, RIGHT, WRONG
from dlkit.core.evaluation.maps.strip import seen_strip
from dlkit.core.evaluation.maps.worst import SeenMap
from dlkit.core.evaluation.worst import WorstSample
from dlkit.files import save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAP_HEADS = ("image", "truth", "prediction", "error")
MOST_ROWS = 25  # of one column
MOST_NAMES = 40  # in the legend
WIDTH, TITLE = 6.0, 0.35  # inches of a row, and of its title
LONGEST_TITLE = 50


def save_map_sheet(
    path: Path,
    samples: Sequence[WorstSample],
    seen: Mapping[int, SeenMap],
    *,
    colors: Sequence[Color],
    names: Sequence[str],
) -> None:
    """Write a row for each sample, in columns of 25, and a legend of the classes that are seen; the ending of `path` picks the format."""
    from matplotlib.figure import Figure  # takes half a second to import

    num_columns = max(1, math.ceil(len(samples) / MOST_ROWS))
    num_rows = max(1, math.ceil(len(samples) / num_columns))
    shape = max((picture.target.shape[0] / picture.target.shape[1] for picture in seen.values()), default=1)
    height = min(shape * WIDTH / len(MAP_HEADS), WIDTH) + TITLE
    figure = Figure(figsize=(WIDTH * num_columns, height * num_rows + 1), layout="constrained")
    grid = figure.subplots(num_rows, num_columns, squeeze=False)
    for axes in grid.flatten():
        axes.axis("off")
    for axes, sample in zip(grid.T.flatten(), samples, strict=False):  # the last column may have room
        _draw_row(axes, sample, seen[sample.position], colors)
    _draw_legend(figure, list(seen.values()), colors, names)
    save_figure(path, figure, dpi=100)


def _draw_row(axes: "Axes", sample: WorstSample, seen: SeenMap, colors: Sequence[Color]) -> None:
    strip = seen_strip(seen, colors)
    axes.imshow(strip.numpy(), interpolation="nearest" if len(strip) < 200 else "auto")
    for place, head in enumerate(MAP_HEADS):
        axes.text(
            (place + 0.5) / len(MAP_HEADS), -0.01, head, ha="center", va="top", fontsize=6, transform=axes.transAxes
        )
    name = PurePath(sample.name).name[-LONGEST_TITLE:]
    axes.set_title(f"{name}   loss {sample.loss:.3g}   IoU {sample.iou:.1%}", fontsize=8, parse_math=False)


def _draw_legend(figure: "Figure", seen: Sequence[SeenMap], colors: Sequence[Color], names: Sequence[str]) -> None:
    from matplotlib.patches import Patch

    there = classes_seen(seen)[:MOST_NAMES]
    entries = [(names[number], colors[number]) for number in there]
    entries += [("right", RIGHT), ("wrong", WRONG), ("not counted", NOT_COUNTED)]
    patches = [
        Patch(color=[part / 255 for part in color], label=f" {name}") for name, color in entries
    ]  # "_name" would be left out
    legend = figure.legend(handles=patches, loc="outside lower center", ncols=6, fontsize=8)
    for text in legend.get_texts():
        text.set_parse_math(False)


def classes_seen(seen: Sequence[SeenMap]) -> list[int]:
    """Returns the classes that some pixel is or is predicted to be."""
    found = {
        number for each in seen for part in (each.target, each.predicted) for number in set(part.flatten().tolist())
    }
    return sorted(found - {IGNORED})
