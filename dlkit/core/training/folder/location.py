"""Where a run is kept: a new folder, the one that is resumed, or the one that an earlier attempt of a torchrun made."""

import json
from dataclasses import dataclass
from pathlib import Path

from dlkit.config import LoadedConfig
from dlkit.core.distributed import World
from dlkit.core.training.folder.checkpoints import find_checkpoint
from dlkit.core.training.folder.resuming import find_run_to_resume, remember_elsewhere
from dlkit.core.training.folder.run_folder import RunFolder, check_writable, create_run_folder, reopen_run_folder
from dlkit.core.training.resolving import run_name
from dlkit.errors import OutputError
from dlkit.events import Emit


@dataclass(frozen=True)
class RunLocation:
    """`checkpoint` is what training goes on from, `folder` the run folder that is there already; `out` is one to make, else
    the next free one below `parent`.
    """

    parent: Path
    checkpoint: Path | None = None
    folder: Path | None = None
    out: Path | None = None

    def open(self, name: str, emit: Emit) -> RunFolder:
        """Make or reopen the run folder and lock it. Raises OutputError when that cannot be."""
        if self.folder is not None:
            return reopen_run_folder(self.folder, emit)
        folder = create_run_folder(out=self.out, parent=self.parent, name=name, emit=emit)
        if self.out is not None:
            remember_elsewhere(self.parent, name, folder.path)
        return folder


def pick_location(loaded: LoadedConfig, world: World, *, out: Path | None, resume: Path | None) -> RunLocation:
    """Returns the folder of the run and the checkpoint that it goes on from; nothing is made yet.

    Raises FileRefused or UsageError when there is nothing to resume, OutputError for a folder that cannot be written to.
    """
    parent = Path(loaded.config.runtime.out)
    name = run_name(loaded)
    begun = find_begun(out, parent, name, world) if resume is None else None
    if begun is not None:
        last = begun / "checkpoints" / "last.pt"
        return RunLocation(parent, checkpoint=last if last.exists() else None, folder=begun)
    if resume is None:
        check_writable(out or parent)
        return RunLocation(parent, out=out)
    if resume == Path("auto"):
        resume = out or find_run_to_resume(parent, name)
    path = find_checkpoint(resume)
    if path.parent.name != "checkpoints":
        return RunLocation(parent, checkpoint=path, out=out)
    folder = path.parent.parent
    if out is not None and out.resolve() != folder.resolve():
        raise OutputError(
            f"--out {out} is not the folder of the run that --resume goes on with, {folder}; leave --out away, "
            "or copy the run folder to the new place and resume it there"
        )
    return RunLocation(parent, checkpoint=path, folder=folder)


def find_begun(out: Path | None, parent: Path, name: str, world: World) -> Path | None:
    """Returns the run folder that an earlier attempt of the same torchrun made, if it came that far.

    An elastic torchrun restarts workers without counting it. So an attempt is known by the agent process of rank 0, or, where
    a failure replaced that, by the id that was given to torchrun.
    """
    if not world.launch:
        return None
    candidates = [out] if out else sorted(parent.glob(f"{name}-*"), reverse=True)
    return next((path for path in candidates if _is_begun_by(world, _launch_of(path))), None)


def _is_begun_by(world: World, launch: str) -> bool:
    run_id = world.launch.partition(" ")[0]
    return launch == world.launch or (world.restarts > 0 and run_id != "" and launch.partition(" ")[0] == run_id)


def _launch_of(run_dir: Path) -> str:
    try:
        facts = json.loads((run_dir / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    return str(facts.get("launch", "")) if isinstance(facts, dict) else ""
