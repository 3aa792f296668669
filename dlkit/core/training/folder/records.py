"""What a run leaves behind while it trains: metrics.jsonl, metrics.csv, TensorBoard files, checkpoints and train.log."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from dlkit.core.environment import now
from dlkit.core.training.folder.checkpoints import save_checkpoint
from dlkit.core.training.folder.run_folder import RunFolder
from dlkit.core.training.folder.tensorboard import Board
from dlkit.core.training.learner import Learner, Row
from dlkit.core.training.step import StepResult
from dlkit.event_lines import event_line
from dlkit.events import Emit, Event, Progress, Saved, Throttle
from dlkit.files import to_json

FLUSH_S = 2.0
PROGRESS_EVERY_S = 30.0


class RunRecords:
    """Writes a run's records. Lines of steps wait in memory, on the device, and are written every few seconds.

    On resume the metrics files are cut back to where the checkpoint left them, so that no step or epoch stands twice.
    """

    def __init__(
        self,
        folder: RunFolder,
        *,
        columns: Sequence[str],
        board: Board | None,
        log_every: int,
        extra: Mapping[str, Any],
        emit: Emit,
    ) -> None:
        self.folder = folder
        self.columns = columns
        self.board = board
        self.log_every = log_every
        self.extra = extra
        self.emit = emit
        self._waiting: list[tuple[dict[str, Any], StepResult]] = []
        self._throttle = Throttle(FLUSH_S)

    @property
    def _jsonl(self) -> Path:
        return self.folder.path / "metrics.jsonl"

    @property
    def _csv(self) -> Path:
        return self.folder.path / "metrics.csv"

    def add_step(self, learner: Learner, result: StepResult) -> None:
        """Record one optimizer step; `step` is the number of updates before it, so it is k in lr[k]."""
        step = learner.position.step - result.is_applied
        if step % self.log_every == 0:
            line = {"event": "step", "step": step, "epoch": learner.position.epoch + 1, "lr": result.lrs[0]}
            self._waiting.append((line, result))
        if self._throttle.is_due():
            self._flush()

    def add_epoch(self, learner: Learner, row: Row) -> None:
        """Record one epoch's metrics."""
        self._flush()
        with self._jsonl.open("a", encoding="utf-8") as file:
            file.write(to_json({"event": "epoch", **row}) + "\n")
        is_new = not self._csv.exists() or self._csv.stat().st_size == 0
        with self._csv.open("a", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, self.columns, lineterminator="\n")
            if is_new:
                writer.writeheader()
            writer.writerow(row)
        if self.board:
            self.board.add_epoch(row)

    def _flush(self) -> None:
        self._throttle.restart()
        if not self._waiting:
            return
        losses = torch.stack([result.loss for _, result in self._waiting]).tolist()
        with self._jsonl.open("a", encoding="utf-8") as file:
            for (line, result), loss in zip(self._waiting, losses, strict=True):
                if len(result.lrs) > 1:
                    line["lrs"] = result.lrs
                if result.grad_norm is not None:
                    line["grad_norm"] = float(result.grad_norm)
                file.write(to_json(line | {"loss": loss}) + "\n")
                if self.board:
                    self.board.add_step(line["step"], result.lrs, loss)
        self._waiting.clear()

    def save(self, learner: Learner, *names: str) -> None:
        """Write a checkpoint under these names."""
        self.folder.check_held()
        self._flush()
        sizes = {path.name: path.stat().st_size if path.exists() else 0 for path in (self._jsonl, self._csv)}
        for path in save_checkpoint(self.folder.checkpoints, names, learner, {**self.extra, "file_sizes": sizes}):
            self.emit(Saved(path, "checkpoint"))

    def cut_back(self, sizes: Mapping[str, int]) -> None:
        """Drop what was written after the checkpoint that is resumed from."""
        for path in (self._jsonl, self._csv):
            if path.exists():
                with path.open("r+b") as file:
                    file.truncate(min(sizes.get(path.name, 0), path.stat().st_size))

    def close(self) -> None:
        """Write what waits and close the files."""
        self._flush()
        if self.board:
            self.board.close()


class Follower:
    """The records of a process that is not rank 0: nothing, but it takes part when a checkpoint is made of all processes."""

    def add_step(self, learner: Learner, result: StepResult) -> None:
        """Do nothing."""

    def add_epoch(self, learner: Learner, row: Row) -> None:
        """Do nothing."""

    def save(self, learner: Learner, *names: str) -> None:
        """Take part in making a checkpoint."""
        save_checkpoint(Path(), names, learner, {})


def log_to(path: Path, emit: Emit) -> Emit:
    """Returns an `emit` that also appends lines of text to train.log; progress at most every half minute."""
    throttle = Throttle(PROGRESS_EVERY_S)

    def emit_and_log(event: Event) -> None:
        emit(event)
        if isinstance(event, Progress) and not throttle.is_due():
            return
        if (line := event_line(event)) is not None:
            with path.open("a", encoding="utf-8") as file:
                file.write(f"{now()} {line}\n")

    return emit_and_log
