"""Going on with a run: which one, from which checkpoint, and where its best weights are."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from dlkit.core.training.folder.best_weights import exported_weights, find_best
from dlkit.core.training.folder.checkpoints import checkpoints_in, read_checkpoint, read_valid
from dlkit.core.training.folder.ended import EndedRun, read_ended
from dlkit.errors import FileRefused, UsageError
from dlkit.events import Emit, Note, ignore
from dlkit.files import copy_file, to_json
from dlkit.run_folders import BEST, LAST, MODEL_FILE, RUN_FILE, has_begun

_ENDED = (
    "this run has come to its end already, and model.pt and summary.json hold what it came to. Nothing was written; --extend "
    "trains longer, from an older checkpoint"
)
ELSEWHERE = ".elsewhere.jsonl"  # below `runtime.out`: runs that were made with --out


@dataclass(frozen=True)
class Resumed:
    """The checkpoint that a run goes on from, and the file that holds the best weights so far; None where none are known.

    `ended` is what a run came to that was at its end, and whose last checkpoint cannot be read: it does not go on.
    """

    path: Path
    state: dict[str, Any]
    best: Path | None
    ended: EndedRun | None = None


def read_resumed(
    path: Path, *, is_relaxed: bool = False, is_extended: bool = False, emit: Emit = ignore
) -> Resumed | None:
    """Returns what `--resume PATH` goes on from: this file, or of a folder the newest checkpoint that can be read; None for a run
    that ended before its first. A run that was at its end goes on from an older checkpoint only if it `is_extended`.

    Raises FileRefused where there is none, and where the best weights that it names are gone unless `is_relaxed`.
    """
    newest = (
        Resumed(path, read_checkpoint(path), None)
        if path.is_file()
        else _read_newest(path, emit, is_extended=is_extended)
    )
    if newest is None or newest.ended or newest.state["best"]["value"] is None:
        return newest
    file, state, named = newest.path, newest.state, newest.state["best"]
    beside = [other for other in checkpoints_in(file.parent) if other != file]
    held = find_best(named, _each_valid(_best_first([file, *beside]), known={file: state}))
    if held is None and not is_relaxed:
        raise FileRefused(
            file,
            f"the best weights so far, of epoch {named['epoch']}, are in no checkpoint beside it; give the run folder that holds "
            "them, or --resume-relaxed to choose the best anew from here on",
        )
    if held is None:
        emit(Note(f"the best weights so far, of epoch {named['epoch']}, are gone; the best is chosen anew"))
    return replace(newest, best=held[0] if held else None)


def mend_best(resumed: Resumed, folder: Path, emit: Emit) -> Path | None:
    """Make best.pt of the run folder hold the best weights so far. Going on from an older checkpoint that waits until the next is
    saved, as last.pt still names others; the file that holds them is returned then.
    """
    path = folder / BEST
    if resumed.best is None or resumed.path.parent != folder or resumed.best == path:
        return None
    if resumed.path.name != LAST:
        return resumed.best
    copy_file(resumed.best, path)
    emit(
        Note(
            f"{BEST} did not hold the best weights so far, of epoch {resumed.state['best']['epoch']}; {resumed.best.name} had them"
        )
    )
    return None


def read_best(folder: Path, best: Mapping[str, Any]) -> Mapping[str, Tensor]:
    """The weights of a run folder that a learner names as the best, those of last.pt where it names none.

    Raises FileRefused where no checkpoint holds them.
    """
    if best["value"] is None:
        return exported_weights(read_checkpoint(folder / LAST))
    found = find_best(best, _each_valid(_best_first(checkpoints_in(folder))))
    if found is None:
        raise FileRefused(
            folder / BEST, f"it does not hold the best weights, of epoch {best['epoch']}, nor does another checkpoint"
        )
    return found[1]


def _best_first(paths: Iterable[Path]) -> list[Path]:
    return sorted(paths, key=lambda path: path.name != BEST)


def _each_valid(
    paths: Iterable[Path], known: Mapping[Path, dict[str, Any]] | None = None
) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The checkpoints among these files that can be read, each read when it is its turn, but for those that are known."""
    for path in paths:
        if known and path in known:
            yield path, known[path]
        else:
            yield from read_valid([path])[0]


def _read_newest(path: Path, emit: Emit, *, is_extended: bool) -> Resumed | None:
    folder = path / "checkpoints" if (path / "checkpoints").is_dir() else path
    paths = checkpoints_in(folder)
    if not paths:
        if not has_begun(path):
            raise FileRefused(path, "no checkpoint here; --resume takes a run folder or its checkpoints/last.pt")
        if read_ended(path):
            raise FileRefused(
                path,
                "this run has come to its end, and its checkpoints were deleted. Its weights can begin a new run: "
                f"model.weights={path / MODEL_FILE}",
            )
        emit(Note(f"{path} ended before its first checkpoint; it begins anew"))
        return None
    found, refused = read_valid(paths[:1])
    if not found:
        found, more = read_valid(paths[1:])
        refused += more
    if not found:
        raise refused[0]
    file, state = max(found, key=lambda pair: int(pair[1]["position"]["step"]))
    if file.name == LAST:
        return Resumed(file, state, None)
    ended = None if is_extended else read_ended(folder.parent)
    why = str(refused[0]) if refused else f"{folder / LAST} is gone"
    way = f"going on from {file.name} of step {state['position']['step']}"
    emit(Note(f"{why}; {'but ' + _ENDED if ended else way}"))
    return Resumed(file, state, None, ended)


def find_run_to_resume(parent: Path, name: str) -> Path:
    """Returns the newest run folder of this name: the last number below `parent`, or one made with --out that was written to
    later. Raises UsageError when there is none.
    """
    runs = [
        path for path in parent.glob(f"{name}-*") if path.name.removeprefix(name + "-").isdigit() and has_begun(path)
    ]
    runs = sorted(runs, key=lambda path: int(path.name.removeprefix(name + "-")))[-1:]
    runs += [path for path in _runs_elsewhere(parent, name) if has_begun(path)]
    if not runs:
        raise UsageError(
            f"nothing to resume: no run {parent}/{name}-NNN, and none named {name} that was made with --out from here; "
            "name its folder: --resume FOLDER"
        )
    return max(runs, key=_last_write)


def _last_write(path: Path) -> float:
    files = [*checkpoints_in(path / "checkpoints"), path / RUN_FILE, path / ".lock"]
    return max(file.stat().st_mtime for file in files if file.exists())


def remember_elsewhere(parent: Path, name: str, folder: Path) -> None:
    """Note below `parent` that a run of this name lies in `folder`, for a bare --resume; not where that cannot be written."""
    line = to_json({"name": name, "folder": str(folder.resolve())}) + "\n"
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with (parent / ELSEWHERE).open("a", encoding="utf-8") as file:  # one write, so that runs do not mix
            file.write(line)
    except OSError:  # the run itself is elsewhere, and goes on
        return


def _runs_elsewhere(parent: Path, name: str) -> list[Path]:
    try:
        lines = (parent / ELSEWHERE).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return []
    return [Path(found["folder"]) for line in lines if (found := _note_of(line)) and found["name"] == name]


def _note_of(line: str) -> dict[str, str] | None:
    try:
        value = json.loads(line)
    except ValueError:  # cut off by a full disk
        return None
    is_note = isinstance(value, dict) and all(isinstance(value.get(key), str) for key in ("name", "folder"))
    return value if is_note else None
