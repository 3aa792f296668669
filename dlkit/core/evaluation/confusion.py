"""The confusion matrix, and its picture."""

from pathlib import Path

import torch
from torch import Tensor

from dlkit.core.evaluation.predictions import Predictions
from dlkit.files import save_figure

MOST_LABELS = 40


def confusion_matrix(predictions: Predictions) -> Tensor:
    """Returns counts with true classes as rows and predicted classes as columns."""
    count = predictions.outputs.shape[1]
    places = predictions.targets * count + predictions.outputs.argmax(1)
    return torch.bincount(places, minlength=count * count).reshape(count, count)


def save_confusion_picture(path: Path, confusion: list[list[int]], classes: tuple[str, ...]) -> None:
    """Write the matrix (true classes as rows) as an image; colours show the share of each row, cells the counts.

    The ending of `path` picks the format: png, svg, pdf.
    """
    from matplotlib.figure import Figure  # takes half a second to import

    size = len(classes)
    shares = [[count / max(sum(row), 1) for count in row] for row in confusion]
    side = min(3 + 0.45 * size, 20)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    if size <= MOST_LABELS:
        axes.set_xticks(range(size), classes, rotation=45, ha="right")
        axes.set_yticks(range(size), classes)
        for row, counts in enumerate(confusion):
            for column, count in enumerate(counts):
                if count:
                    colour = "white" if shares[row][column] > 0.5 else "black"
                    axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=8)
    figure.colorbar(image, ax=axes, label="share of the true class")
    save_figure(path, figure)
