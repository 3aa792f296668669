"""TensorBoard files: scalars, the model graph, hyperparameters with final metrics, sample images."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from dlkit.core.data import Color
from dlkit.core.models import copy_network, disable_checkpointing
from dlkit.core.training.learner import Row
from dlkit.errors import first_line
from dlkit.events import Emit, Note


class Board:
    """A TensorBoard writer with dlkit's tags: `train/loss`, `val/accuracy`, `lr`; the x axis counts optimizer steps."""

    def __init__(self, folder: Path, *, purge_step: int | None = None) -> None:
        from torch.utils.tensorboard import SummaryWriter  # takes a second to import

        self._writer: Any = SummaryWriter(str(folder), purge_step=purge_step)

    def add_step(self, step: int, lrs: list[float], loss: float) -> None:
        """Loss and learning rates of one optimizer step."""
        self._writer.add_scalar("train/loss_step", loss, step)
        for index, lr in enumerate(lrs):
            self._writer.add_scalar("lr" if index == 0 else f"lr/group{index}", lr, step)

    def add_epoch(self, row: Row) -> None:
        """One epoch's row of metrics at its last step."""
        for name, value in row.items():
            prefix, _, metric = name.rpartition("_")
            if prefix in {"train", "val", "val_ema"} and metric != "s" and value is not None:
                self._writer.add_scalar(f"{prefix}/{metric}", value, row["step"])
        self._writer.flush()

    def add_graph(self, model: nn.Module, inputs: Tensor, emit: Emit) -> None:
        """The graph of the model, traced on a copy so that the run's state stays as it is."""
        try:
            with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
                warnings.simplefilter("ignore")  # the tracer warns about itself and about python control flow
                traced = copy_network(model).cpu().eval()
                disable_checkpointing(traced)
                sample = inputs[:1].cpu()
                # checking that a trace computes what the model does takes longer than all else before the first step
                trace = torch.jit.trace(traced, sample, check_trace=False)  # type: ignore[no-untyped-call]
                self._writer.add_graph(trace, sample)
        except Exception as error:  # tracing fails in many ways, and no run should end for its picture
            emit(Note(f"no model graph for TensorBoard: {first_line(error, 150)}"))

    def add_images(self, inputs: Tensor) -> None:
        """Training images as the model sees them, each stretched to 0..1."""
        low, high = inputs.amin((1, 2, 3), keepdim=True), inputs.amax((1, 2, 3), keepdim=True)
        self._writer.add_images("train/images", ((inputs - low) / (high - low).clamp(min=1e-9)).cpu()[:, :3], 0)

    def add_strips(self, tag: str, strips: Sequence[Tensor], step: int) -> None:
        """Pictures with their masks beside them, uint8 (H, W, 3), one below the other."""
        if strips:
            gap = max(1, len(strips[0]) // 32)
            rows = [pad(strip, (0, 0, 0, 0, 0, gap), value=255) for strip in strips]
            self._writer.add_image(tag, torch.cat(rows)[:-gap], step, dataformats="HWC")

    def add_classes(self, classes: Sequence[tuple[str, Color]]) -> None:
        """The colours of classes in masks, as a table."""
        rows = (f"| {name} | #{red:02x}{green:02x}{blue:02x} |" for name, (red, green, blue) in classes)
        self._writer.add_text("classes", "\n".join(["| class | colour |", "|---|---|", *rows]), 0)

    def add_hparams(self, hparams: Mapping[str, str | int | float | bool], metrics: Mapping[str, float]) -> None:
        """Hyperparameters and final metrics, in the run's own folder."""
        self._writer.add_hparams(
            dict(hparams), {f"final/{name}": value for name, value in metrics.items()}, run_name="."
        )

    def close(self) -> None:
        """Write everything out."""
        self._writer.close()


def flat_hparams(config: Mapping[str, Any]) -> dict[str, str | int | float | bool]:
    """Returns the scalars of the sections that make a run what it is, by dotted name."""
    flat: dict[str, str | int | float | bool] = {"seed": config["seed"]}
    for section in ("data", "model", "loss", "optimizer", "schedule", "train"):
        for key, value in config[section].items():
            if isinstance(value, str | int | float | bool):
                flat[f"{section}.{key}"] = value
    return flat
