"""Checkpoints that nothing needs any more: which they are, and their deletion."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dlkit import disk
from dlkit.core.training.folder.checkpoints import checkpoints_in
from dlkit.core.training.folder.ended import read_ended
from dlkit.core.training.folder.resuming import read_resumed
from dlkit.errors import FileRefused, OutputError, first_line
from dlkit.events import Emit, ignore
from dlkit.files import worded
from dlkit.run_folders import BEST, LAST, RUN_FILE, RunLock, is_in_use

Stamp = tuple[tuple[str, int, int, int], ...]


@dataclass(frozen=True)
class Reclaimable:
    """The files of a run that can go, in the order in which they do, and what that frees; `kept` says why others stay. `stamp` is
    what the files were like when that was found.
    """

    run_dir: Path
    files: tuple[Path, ...]
    num_bytes: int
    kept: str
    stamp: Stamp


def find_reclaimable(run_dir: Path) -> Reclaimable:
    """Returns what can be deleted of a run. Of one that came to its end, or that a sweep ended, that is every checkpoint, as model.pt
    has its best weights; of another those that `--resume` does not go on from, and of one that is in use nothing.
    """
    stamp = _stamp_of(run_dir)
    if is_in_use(run_dir):
        return Reclaimable(run_dir, (), 0, "in use", stamp)
    found = checkpoints_in(run_dir / "checkpoints")
    leftovers = [*run_dir.glob(".tmp-*"), *(run_dir / "checkpoints").glob(".tmp-*")]
    needed, kept = (set(), "") if read_ended(run_dir) else _needed(run_dir, found)
    # last.pt goes last: it names what the others hold, so that a run whose deletion was cut off can be understood
    files = [*leftovers, *sorted((path for path in found if path not in needed), key=lambda path: path.name == LAST)]
    return Reclaimable(run_dir, tuple(files), _freed(files), kept, stamp)


def _needed(run_dir: Path, found: list[Path]) -> tuple[set[Path], str]:
    """The checkpoints that a run needs to go on, and why they stay."""
    if not found:
        return set(), "nothing was saved"
    try:
        resumed = read_resumed(run_dir)
    except FileRefused as refused:
        return set(found), first_line(refused, 120)
    if resumed is None or resumed.state["config"]["checkpoint"].get("average"):
        return set(found), "to go on, and for the mean of checkpoints"
    twofold = {path for path in found if path.name in (LAST, BEST)}  # damage to one leaves the other
    return twofold | {resumed.path} | ({resumed.best} if resumed.best else set()), "to go on"


def _freed(files: Iterable[Path]) -> int:
    """The bytes that are free when files are gone; one under several names counts when its last name goes."""
    stats = [path.stat() for path in files]
    gone = Counter((stat.st_dev, stat.st_ino) for stat in stats)
    sizes = {(stat.st_dev, stat.st_ino): (stat.st_nlink, stat.st_size) for stat in stats}
    return sum(size for key, (names, size) in sizes.items() if gone[key] == names)


def _stamp_of(run_dir: Path) -> Stamp:
    paths = [run_dir / RUN_FILE, *sorted((run_dir / "checkpoints").glob("*"))]
    stats = [(path.name, path.stat()) for path in paths if path.exists()]
    return tuple((name, stat.st_ino, stat.st_size, stat.st_mtime_ns) for name, stat in stats)


def delete_reclaimable(found: Reclaimable, emit: Emit = ignore) -> None:
    """Delete the files, one by one, while the run folder is locked; a crash in between leaves those that are not deleted yet whole.

    Raises OutputError, before anything is deleted, where the run is in use or is no longer what it was.
    """
    with worded(found.run_dir):
        lock = RunLock(found.run_dir, emit)
    try:
        if _stamp_of(found.run_dir) != found.stamp:
            raise OutputError(f"{found.run_dir} has changed meanwhile; nothing of it was deleted")
        for path in found.files:
            with worded(path):
                disk.remove(path)
        with worded(found.run_dir):
            disk.sync_folder(found.run_dir / "checkpoints")
    finally:
        lock.release()
