"""Where a run is kept: a new folder, the one that is resumed, or the one that an earlier attempt of a torchrun made."""

from dataclasses import dataclass
from pathlib import Path

from dlkit.config import LoadedConfig
from dlkit.core.distributed import World
from dlkit.core.training.folder.checkpoints import kept_before
from dlkit.core.training.folder.resuming import (
    Resumed,
    find_run_to_resume,
    read_resumed,
    remember_elsewhere,
)
from dlkit.core.training.folder.run_folder import (
    RunFolder,
    check_writable,
    create_run_folder,
    holds_results,
    reopen_run_folder,
)
from dlkit.core.training.folder.same_run import Resume
from dlkit.core.training.resolving import run_name
from dlkit.errors import OutputError
from dlkit.events import Emit
from dlkit.files import write_bytes
from dlkit.run_folders import BEST, LAST, RUN_FILE, has_begun, read_mapping


@dataclass(frozen=True)
class RunLocation:
    """`resumed` is what training goes on from, `folder` the run folder that is there already; `out` is one to make, else the next
    free one below `parent`.
    """

    parent: Path
    resumed: Resumed | None = None
    folder: Path | None = None
    out: Path | None = None

    @property
    def place(self) -> Path:
        """Where the run folder is or will be."""
        return self.folder or self.out or self.parent

    def open(self, name: str, emit: Emit) -> RunFolder:
        """Make or reopen the run folder and lock it. Raises OutputError when that cannot be."""
        if self.folder is not None:
            return reopen_run_folder(self.folder, emit)
        folder = create_run_folder(out=self.out, parent=self.parent, name=name, emit=emit)
        if self.out is not None:
            remember_elsewhere(self.parent, name, folder.path)
        if self.resumed is not None:
            _adopt(self.resumed, folder.checkpoints)
        return folder


def _adopt(resumed: Resumed, folder: Path) -> None:
    """Begin a new run folder with the checkpoint, those before it and the best weights of another; last.pt, which names the best,
    comes last.
    """
    for path in kept_before(resumed.path, resumed.state):
        write_bytes(folder / path.name, path.read_bytes())
    if resumed.best is not None:
        write_bytes(folder / BEST, resumed.best.read_bytes())
    write_bytes(folder / LAST, resumed.path.read_bytes())


def pick_location(
    loaded: LoadedConfig, world: World, *, out: Path | None, resume: Resume | None, emit: Emit
) -> RunLocation:
    """Returns the folder of the run and the checkpoint that it goes on from; nothing is made yet.

    Raises FileRefused or UsageError when there is nothing to resume, OutputError for a folder that cannot be written to.
    """
    parent = Path(loaded.config.runtime.out)
    name = run_name(loaded)
    begun = find_begun(out, parent, name, world) if resume is None else None
    if begun is not None:
        return RunLocation(parent, read_resumed(begun, emit=emit), folder=begun)
    if resume is None:
        check_writable(out or parent)
        is_empty = out is not None and has_begun(out) and not holds_results(out)
        return RunLocation(parent, folder=out) if is_empty else RunLocation(parent, out=out)
    path = resume.path if resume.path != Path("auto") else out or find_run_to_resume(parent, name)
    resumed = read_resumed(path, is_relaxed=resume.is_relaxed, is_extended=resume.extend is not None, emit=emit)
    folder = _run_folder_of(path, resumed)
    if folder is None:
        return RunLocation(parent, resumed, out=out)
    if out is not None and out.resolve() != folder.resolve():
        raise OutputError(
            f"--out {out} is not the folder of the run that --resume goes on with, {folder}; leave --out away, "
            "or copy the run folder to the new place and resume it there"
        )
    return RunLocation(parent, resumed, folder=folder)


def _run_folder_of(path: Path, resumed: Resumed | None) -> Path | None:
    """The run folder that a checkpoint lies in; None for a copy elsewhere."""
    if resumed is None:
        return path
    return resumed.path.parent.parent if resumed.path.parent.name == "checkpoints" else None


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
    return str(read_mapping(run_dir / RUN_FILE).get("launch", ""))
