"""Several files that appear together or not at all."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dlkit.files import check_replaceable, worded


@dataclass(frozen=True)
class Staging:
    """A folder for files that are still being made, beside the place where they go."""

    folder: Path

    def path(self, target: Path) -> Path:
        """Where to write what will become `target`."""
        return self.folder / target.name


@contextmanager
def staged(targets: Path) -> Iterator[Staging]:
    """A folder beside `targets` whose files are moved there at the end; after an exception nothing is moved.

    Each file replaces one of the same name in one step; the model file itself, the one that `targets` names, comes last.
    Raises OutputError where that folder cannot be made or the files cannot be moved, OutOfResource where the disk is full.
    """
    with worded(targets.parent):
        temporary = tempfile.TemporaryDirectory(dir=targets.parent, prefix=f".tmp-{targets.stem}-")
    with temporary as folder:
        yield Staging(Path(folder))
        made = sorted(Path(folder).iterdir(), key=lambda path: path.name == targets.name)
        for path in made:
            target = targets.with_name(path.name)
            check_replaceable(target)
            with worded(target):
                path.replace(target)
