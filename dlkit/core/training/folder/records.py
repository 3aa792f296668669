"""What a run leaves behind while it trains: metrics.jsonl, metrics.csv, TensorBoard files, checkpoints and train.log."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from dlkit import disk
from dlkit.config import Config
from dlkit.core.environment import now
from dlkit.core.training.folder.checkpoints import save_checkpoint
from dlkit.core.training.folder.map_pictures import MapPictures
from dlkit.core.training.folder.metrics_file import MetricsFile
from dlkit.core.training.folder.run_folder import RunFolder
from dlkit.core.training.folder.tensorboard import Board
from dlkit.core.training.learner import Learner, Row
from dlkit.core.training.step import StepResult
from dlkit.event_lines import event_line
from dlkit.events import Emit, Event, Progress, Saved, StepsDone, Throttle
from dlkit.files import disk_error, to_json
from dlkit.run_folders import METRICS_FILE

FLUSH_S = 2.0
PROGRESS_EVERY_S = 30.0


class RunRecords:
    """Writes a run's records. Lines of steps wait in memory, on the device, and are written every few seconds.

    On resume the metrics files go on from where the checkpoint left them, so that no step or epoch stands twice. `best_before` is
    the file that holds the best weights so far, where that is not best.pt; `keep` says how many checkpoints stay; `maps` go to the board.
    """

    def __init__(
        self,
        folder: RunFolder,
        *,
        columns: Sequence[str],
        board: Board | None,
        maps: MapPictures | None,
        config: Config,
        extra: Mapping[str, Any],
        emit: Emit,
    ) -> None:
        self.folder = folder
        self.columns = columns
        self.board = board
        self.maps = maps
        self.log_every = int(config.log.every)
        self.keep = max(config.checkpoint.keep, config.checkpoint.average or 1)
        self.extra = extra
        self.emit = emit
        self.best_before: Path | None = None
        self._jsonl = MetricsFile(folder.path / METRICS_FILE)
        self._csv = MetricsFile(folder.path / "metrics.csv")
        self._waiting: list[tuple[dict[str, Any], StepResult]] = []
        self._throttle = Throttle(FLUSH_S)

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
        self._jsonl.append(to_json({"event": "epoch", **row}) + "\n")
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self.columns, lineterminator="\n")
        if self._csv.is_empty:
            writer.writeheader()
        writer.writerow(row)
        self._csv.append(text.getvalue())
        if self.board:
            self.board.add_epoch(row)
            if self.maps:
                self.board.add_strips("val/masks", self.maps.take_strips(), int(row["step"] or 0))

    def _flush(self) -> None:
        self._throttle.restart()
        if not self._waiting:
            return
        losses = torch.stack([result.loss for _, result in self._waiting]).tolist()
        rows = []
        for (line, result), loss in zip(self._waiting, losses, strict=True):
            if len(result.lrs) > 1:
                line["lrs"] = result.lrs
            if result.grad_norm is not None:
                line["grad_norm"] = float(result.grad_norm)
            rows.append(line | {"loss": loss})
            if self.board:
                self.board.add_step(line["step"], result.lrs, loss)
        self._waiting.clear()
        self._jsonl.append("".join(f"{to_json(row)}\n" for row in rows))
        self.emit(StepsDone(rows))

    def save(self, learner: Learner, *, is_best: bool = False) -> None:
        """Write a checkpoint. The metrics that it knows are on the disk before, those that it replaces go after."""
        self.folder.check_held()
        self._flush()
        files = (self._jsonl, self._csv)
        extra = {**self.extra, "metrics_files": {file.path.name: file.mark() for file in files}}
        written = save_checkpoint(
            self.folder.checkpoints, learner, extra, is_best=is_best, best_before=self.best_before, keep=self.keep
        )
        for path in written:
            self.emit(Saved(path, "checkpoint"))
        self.best_before = None
        for file in files:
            file.settle()

    def go_back(self, checkpoint: Mapping[str, Any]) -> None:
        """Go on from what a checkpoint notes of the metrics files; an empty one begins anew."""
        marks = checkpoint.get("metrics_files", {})
        for file in (self._jsonl, self._csv):
            file.go_back(marks.get(file.path.name, {}))

    def close(self) -> None:
        """Write what waits and close the files."""
        try:
            self._flush()
        finally:
            self._jsonl.close()
            self._csv.close()
            if self.board:
                self.board.close()


class Follower:
    """The records of a process that is not rank 0: nothing, but it takes part when a checkpoint is made of all processes."""

    def add_step(self, learner: Learner, result: StepResult) -> None:
        """Do nothing."""

    def add_epoch(self, learner: Learner, row: Row) -> None:
        """Do nothing."""

    def save(self, learner: Learner, *, is_best: bool = False) -> None:
        """Take part in making a checkpoint."""
        save_checkpoint(Path(), learner, {})


def log_to(path: Path, emit: Emit) -> Emit:
    """Returns an `emit` that also appends lines of text to train.log; progress at most every half minute."""
    throttle = Throttle(PROGRESS_EVERY_S)

    def emit_and_log(event: Event) -> None:
        emit(event)
        if isinstance(event, Progress) and not throttle.is_due():
            return
        if (line := event_line(event)) is not None:
            try:
                with disk.append(path) as file:
                    disk.write(file, f"{now()} {line}\n".encode())
            except OSError as error:
                raise disk_error(path, error) from error

    return emit_and_log
