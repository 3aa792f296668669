"""The scan as a picture: loss against ratio, a line for each layer or group."""

import io
from pathlib import Path

from dlkit.core.files import write_bytes
from dlkit.prune.scan import Scan

ROWS_OF_LEGEND = 24


def save_scan_picture(path: Path, scan: Scan, title: str) -> None:
    """Write the picture; the ending of `path` picks png, svg or pdf. Lines run from the first part (dark) to the last."""
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # takes half a second to import
    from matplotlib.figure import Figure

    columns = -(-len(scan.parts) // ROWS_OF_LEGEND)
    figure = Figure(figsize=(8 + 2.4 * columns, 5.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    colours = colormaps["viridis"]
    ratios = [0.0, *scan.ratios]
    for index, part in enumerate(scan.parts):
        colour = colours(index / max(1, len(scan.parts) - 1))
        axes.plot(ratios, [scan.loss, *part.losses], marker="o", markersize=3, color=colour, label=part.name)
    axes.axhline(scan.loss, color="grey", linewidth=0.8, linestyle=":")
    axes.set_yscale("log")
    axes.set_xlabel("share removed, in this part alone")
    axes.set_ylabel(f"loss on {scan.num_samples:,} samples")
    axes.set_title(title)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize=7, ncols=columns)
    buffer = io.BytesIO()
    figure.savefig(buffer, format=path.suffix.removeprefix("."), dpi=150)
    write_bytes(path, buffer.getvalue())
