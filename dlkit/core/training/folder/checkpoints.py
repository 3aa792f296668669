"""Training checkpoints: one file that holds everything a run needs to go on, written in one step."""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dlkit import disk
from dlkit.core.distributed import local_part
from dlkit.core.file_forms import CheckpointForm, check_form
from dlkit.core.modelfile import read_spec
from dlkit.core.torchfile import plain_mapping, read_torch_file, save_torch_file
from dlkit.core.training.folder.best_weights import exported_weights, weights_digest
from dlkit.core.training.learner import Learner
from dlkit.errors import Diverged, FileRefused
from dlkit.files import copy_file, link_file, worded
from dlkit.run_folders import BEST, LAST

FORMAT = "dlkit.train"
VERSION = 3  # 1 did not name the best weights, 2 wrote its history down row by row


def save_checkpoint(
    folder: Path,
    learner: Learner,
    extra: Mapping[str, Any],
    *,
    is_best: bool = False,
    best_before: Path | None = None,
    keep: int = 1,
) -> list[Path]:
    """Write the learner's state as last.pt and return the paths. Rank 0 writes, for all processes of a run.

    last.pt is the one commit point. It names the best weights by their hash; with `is_best` it holds them, and best.pt is a copy, so
    a crash in between is mended from last.pt and damage to one leaves the other. Else best.pt becomes a copy of `best_before`, if
    that is the file that holds them. The newest `keep` checkpoints stay, those before last.pt as step-N.pt. Raises Diverged instead
    of keeping weights that are not finite.
    """
    _check_finite(learner)
    state = learner.state_dict()
    if not learner.world.is_main:
        return []
    if is_best:
        learner.best.bind(learner.position.step, weights_digest(exported_weights(state)))
        state["best"] = learner.best.state_dict()
    last = folder / LAST
    save_torch_file(last, {"format": FORMAT, "version": VERSION, **state, **extra})
    if holder := last if is_best else best_before:
        copy_file(holder, folder / BEST)
    _keep_newest(folder, learner.position.step, keep)
    return [last, folder / BEST] if is_best else [last]


def _check_finite(learner: Learner) -> None:
    norms = torch._foreach_norm([local_part(parameter.detach()) for parameter in learner.parameters])
    are_finite = torch.isfinite(torch.stack(norms)).all()
    if learner.world.sum((~are_finite).double()):
        raise Diverged(
            f"weights are not finite after step {learner.position.step}; not saved. The checkpoint before this one is intact"
        )


def _keep_newest(folder: Path, step: int, count: int) -> None:
    """Keep last.pt and those before it, by their steps; those of later steps are of a past that was gone back from."""
    if count > 1:
        link_file(folder / LAST, folder / f"step-{step:09d}.pt")
    numbered = _numbered(folder)
    kept = [path for path in numbered if _step_of(path) <= step][-count:] if count > 1 else []
    for path in numbered:
        if path not in kept:
            with worded(path):
                disk.remove(path)


def _numbered(folder: Path) -> list[Path]:
    return sorted((path for path in folder.glob("step-*.pt") if re.fullmatch(r"step-\d+", path.stem)), key=_step_of)


def _step_of(path: Path) -> int:
    return int(path.stem.removeprefix("step-"))


def newest_checkpoints(folder: Path, count: int) -> list[Path]:
    """At most so many checkpoints of a folder, from the newest on; last.pt where no others are kept."""
    return list(reversed(_numbered(folder)))[:count] or [folder / LAST]


def read_exported(paths: Iterable[Path], refused: list[FileRefused]) -> Iterator[Mapping[str, Tensor]]:
    """Yield the weights of checkpoints that would be exported, one at a time; what is wrong with others is added to `refused`."""
    for path in paths:
        found, problems = read_valid([path])
        refused += problems
        yield from (exported_weights(state) for _, state in found)


def kept_before(path: Path, checkpoint: Mapping[str, Any]) -> list[Path]:
    """The files beside a checkpoint that `keep` left of the same run, up to its step."""
    near = [other for other in _numbered(path.parent) if _step_of(other) <= checkpoint["position"]["step"]]
    return [other for other, state in read_valid(near)[0] if state["config"] == checkpoint["config"]]


def checkpoints_in(folder: Path) -> list[Path]:
    """The checkpoints of a folder: last.pt, those before it from the newest on, best.pt."""
    paths = [folder / LAST, *reversed(_numbered(folder)), folder / BEST]
    return [path for path in paths if path.is_file()]


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read and check a checkpoint. Raises FileRefused when it is none."""
    value = plain_mapping(path, read_torch_file(path), wanted="a training checkpoint")
    if value.get("format") != FORMAT:
        raise FileRefused(path, "not a training checkpoint; --resume takes a run folder or its checkpoints/last.pt")
    if value.get("version") != VERSION:
        raise FileRefused(
            path,
            f"checkpoint version {value.get('version')!r}; this dlkit goes on from version {VERSION}. Its weights can "
            "begin a new run: model.weights",
        )
    check_form(path, value, CheckpointForm)
    read_spec(path, value["spec"], value["state_dict"])
    return value


def read_valid(paths: Iterable[Path]) -> tuple[list[tuple[Path, dict[str, Any]]], list[FileRefused]]:
    """The checkpoints among these files that can be read, and what is wrong with the others."""
    found, refused = [], []
    for path in paths:
        try:
            found.append((path, read_checkpoint(path)))
        except FileRefused as error:
            refused.append(error)
    return found, refused
