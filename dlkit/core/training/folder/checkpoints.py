"""Training checkpoints: one file that holds everything a run needs to go on, written in one step."""

import re
from collections.abc import Iterable, Mapping
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
from dlkit.files import copy_file, disk_error, link_file

FORMAT = "dlkit.train"
VERSION = 3  # 1 did not name the best weights, 2 wrote its history down row by row
LAST, BEST = "last.pt", "best.pt"


def save_checkpoint(
    folder: Path, learner: Learner, extra: Mapping[str, Any], *, best: bool | Path = False, keep: int = 1
) -> list[Path]:
    """Write the learner's state as last.pt and return the paths. Rank 0 writes, for all processes of a run.

    last.pt is the one commit point. It names the best weights by their hash; with `best` it is them, and best.pt a copy, so a
    crash in between is mended from last.pt and damage to one leaves the other. A path as `best` is the file that has the
    best weights of before. The newest `keep` checkpoints stay, those before last.pt as step-N.pt. Raises Diverged instead of
    keeping weights that are not finite.
    """
    _check_finite(learner)
    state = learner.state_dict()
    if not learner.world.is_main:
        return []
    if best is True:
        learner.best.bind(learner.position.step, weights_digest(exported_weights(state)))
        state["best"] = learner.best.state_dict()
    last = folder / LAST
    save_torch_file(last, {"format": FORMAT, "version": VERSION, **state, **extra})
    if best:
        copy_file(last if best is True else best, folder / BEST)
    _rotate(folder, learner.position.step, keep)
    return [last, folder / BEST] if best is True else [last]


def _check_finite(learner: Learner) -> None:
    norms = torch._foreach_norm([local_part(parameter.detach()) for parameter in learner.parameters])
    are_finite = torch.isfinite(torch.stack(norms)).all()
    if learner.world.sum((~are_finite).double()):
        raise Diverged(
            f"weights are not finite after step {learner.position.step}; not saved. The checkpoint before this one is intact"
        )


def _rotate(folder: Path, step: int, keep: int) -> None:
    """Keep the newest checkpoints, last.pt among them; those of later steps are of a past that was gone back from."""
    if keep > 1:
        link_file(folder / LAST, folder / f"step-{step:09d}.pt")
    kept = [path for path in _numbered(folder) if _step_of(path) <= step][-keep:] if keep > 1 else []
    for path in _numbered(folder):
        if path not in kept:
            try:
                disk.remove(path)
            except OSError as error:
                raise disk_error(path, error) from error


def _numbered(folder: Path) -> list[Path]:
    return sorted((path for path in folder.glob("step-*.pt") if re.fullmatch(r"step-\d+", path.stem)), key=_step_of)


def _step_of(path: Path) -> int:
    return int(path.stem.removeprefix("step-"))


def newest_checkpoints(folder: Path, count: int) -> list[Path]:
    """At most so many checkpoints of a folder, from the newest on; last.pt where no others are kept."""
    return list(reversed(_numbered(folder)))[:count] or [folder / LAST]


def read_exported(path: Path) -> Mapping[str, Tensor]:
    """The weights of a checkpoint that would be exported. Raises FileRefused when it is none."""
    return exported_weights(read_checkpoint(path))


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
