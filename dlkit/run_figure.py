"""The curves of a run as a matplotlib figure, which a notebook shows."""

import io
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from dlkit.tasks import metric_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SPLITS = {"train": "training", "val": "validation", "val_ema": "validation, mean weights"}

Row = Mapping[str, float | int | None]


def draw_history(history: Sequence[Row], best: Mapping[str, Any], *, title: str) -> "Figure":
    """Returns the loss, and the metric that chose the best epoch, over the epochs of a run, with that epoch marked.

    It belongs to no window and no pyplot; a notebook shows it as the value of a cell.
    """
    from matplotlib.figure import Figure

    metric = str(best.get("metric", "val_loss")).removeprefix("val_").removeprefix("ema_").removeprefix("train_")
    names = list(dict.fromkeys(("loss", metric)))
    figure = Figure(figsize=(5 * len(names), 3.2), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        _draw(axes, history, name)
        if best.get("epoch"):
            axes.axvline(best["epoch"], color="grey", linewidth=0.8, linestyle=":")
    figure.suptitle(title)
    setattr(figure, "_repr_png_", partial(_as_png, figure))  # noqa: B010 # where matplotlib has not told IPython how
    return figure


def _draw(axes: "Axes", history: Sequence[Row], name: str) -> None:
    from matplotlib.ticker import MaxNLocator

    is_percent = metric_of(name).is_percent
    for split, label in _SPLITS.items():
        found = [(row["epoch"], value) for row in history if (value := row.get(f"{split}_{name}")) is not None]
        if found:
            epochs, values = zip(*found, strict=True)
            factor = 100 if is_percent else 1
            axes.plot(epochs, [factor * value for value in values], marker="." if len(found) < 20 else "", label=label)
    axes.set_xlabel("epoch")
    axes.set_ylabel(f"{metric_of(name).title or name}{' in %' if is_percent else ''}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False)


def _as_png(figure: "Figure") -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()
