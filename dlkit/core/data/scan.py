"""Broken files, found before training rather than hours into it."""

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, TypeVar

from dlkit.core.data.images import check_image_header, load_image
from dlkit.errors import DataError

Item = TypeVar("Item")
Result = TypeVar("Result")

FULL_SCAN_LIMIT = 20_000
_LISTED = 5


def num_threads() -> int:
    """Threads for decoding: Pillow lets go of the interpreter while it decodes."""
    return min(8, os.cpu_count() or 1)


def run_on_all(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Returns a function's results for all items, by threads, in order. Raises one DataError for all that items raised."""
    failures: list[str] = []

    def attempt(item: Item) -> Result | None:
        try:
            return function(item)
        except DataError as error:
            failures.append(str(error))
            return None

    with ThreadPoolExecutor(num_threads()) as pool:
        results = list(pool.map(attempt, items))
    if failures:
        raise DataError(summarize(sorted(failures)))
    return results  # type: ignore[return-value] # None stands only where something failed


def summarize(failures: Sequence[str], *, what: str = "samples", most: int = _LISTED) -> str:
    """Returns some of many failures, and how many there are."""
    if len(failures) == 1:
        return failures[0]
    rest = f"\n... and {len(failures) - most:,} more" if len(failures) > most else ""
    return f"{len(failures):,} {what} cannot be used:\n" + "\n".join(failures[:most]) + rest


def scan_images(paths: Iterable[str], how: Literal["auto", "full", "quick", "off"]) -> None:
    """Decode all files ("full"), read their headers ("quick"), or decode only if there are few ("auto"). Raises
    DataError naming broken ones.
    """
    listed = list(paths)
    if how == "off":
        return
    is_full = how == "full" or (how == "auto" and len(listed) <= FULL_SCAN_LIMIT)
    run_on_all(_decode if is_full else check_image_header, listed)


def _decode(path: str) -> None:
    load_image(path)
