"""Leaving layers alone that the patterns of --skip match."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from dlkit.errors import UsageError
from dlkit.suggestions import closest


def is_skipped(skip: Sequence[str], *names: str) -> bool:
    """Whether a glob matches one of these names, or a module that they are inside of."""
    return any(fnmatchcase(name, glob) or fnmatchcase(name, f"{glob}.*") for glob in skip for name in names)


def check_globs(skip: Sequence[str], names: Sequence[str]) -> None:
    """Raise UsageError for a glob that matches none of the names."""
    for glob in skip:
        if not any(is_skipped([glob], name) for name in names):
            near = closest(glob, names) or names[:3]
            raise UsageError(f"--skip {glob!r} matches no layer; there are, for example, {', '.join(near)}")
