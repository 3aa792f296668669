"""Training checkpoints: one file that holds everything a run needs to go on, written in one step."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from dlkit.core.distributed import local_part
from dlkit.core.file_forms import CheckpointForm, check_form
from dlkit.core.modelfile import read_spec
from dlkit.core.torchfile import plain_mapping, read_torch_file, save_torch_file
from dlkit.core.training.learner import Learner
from dlkit.errors import Diverged, FileRefused
from dlkit.files import link_file

FORMAT = "dlkit.train"
VERSION = 1


def save_checkpoint(folder: Path, names: Iterable[str], learner: Learner, extra: Mapping[str, Any]) -> list[Path]:
    """Write the learner's state as `<name>.pt` for each name and return the paths. Rank 0 writes, for all processes of a run.

    Raises Diverged instead of keeping weights that are not finite.
    """
    paths = [folder / f"{name}.pt" for name in names]
    if not paths:
        return []
    _check_finite(learner)
    state = learner.state_dict()
    if not learner.world.is_main:
        return []
    save_torch_file(paths[0], {"format": FORMAT, "version": VERSION, **state, **extra})
    for path in paths[1:]:
        link_file(paths[0], path)
    return paths


def _check_finite(learner: Learner) -> None:
    norms = torch._foreach_norm([local_part(parameter.detach()) for parameter in learner.parameters])
    are_finite = torch.isfinite(torch.stack(norms)).all()
    if learner.world.sum((~are_finite).double()):
        raise Diverged(
            f"weights are not finite after step {learner.position.step}; not saved. The checkpoint before this one is intact"
        )


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read and check a checkpoint. Raises FileRefused when it is none."""
    value = plain_mapping(path, read_torch_file(path), wanted="a training checkpoint")
    if value.get("format") != FORMAT:
        raise FileRefused(path, "not a training checkpoint; --resume takes a run folder or its checkpoints/last.pt")
    if value.get("version") != VERSION:
        raise FileRefused(path, f"checkpoint version {value.get('version')!r}; this dlkit reads version {VERSION}")
    check_form(path, value, CheckpointForm)
    read_spec(path, value["spec"])
    return value


def find_checkpoint(path: Path) -> Path:
    """Returns the checkpoint that `--resume PATH` means: a file, or last.pt of a folder. Raises FileRefused when there is none."""
    if path.is_file():
        return path
    for candidate in (path / "checkpoints" / "last.pt", path / "last.pt"):
        if candidate.is_file():
            return candidate
    raise FileRefused(path, "no checkpoint here; --resume takes a run folder or its checkpoints/last.pt")
