"""Broken files, found before training rather than hours into it."""

from collections.abc import Callable, Iterable, Sequence
from typing import Literal, TypeVar

from dlkit.core.data.decode_threads import map_in_threads
from dlkit.core.data.images import check_image_header, load_image, printable
from dlkit.errors import DataError

Item = TypeVar("Item")
Result = TypeVar("Result")

FULL_SCAN_LIMIT = 20_000
_LISTED = 5


def run_on_all(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    name_of: Callable[[Item], str] = str,
    limit_s: float | None = None,
) -> list[Result]:
    """As `map_in_threads`, but raises one DataError for all that items raised."""
    failures: list[str] = []

    def attempt(item: Item) -> Result | None:
        try:
            return function(item)
        except DataError as error:
            failures.append(str(error))
            return None

    results = map_in_threads(attempt, items, name_of=name_of, limit_s=limit_s)
    if failures:
        raise DataError(summarize(sorted(failures)))
    return results  # type: ignore[return-value] # None stands only where something failed


def summarize(failures: Sequence[str], *, what: str = "samples", most: int = _LISTED) -> str:
    """Returns some of many failures, and how many there are."""
    if len(failures) == 1:
        return failures[0]
    rest = f"\n... and {len(failures) - most:,} more" if len(failures) > most else ""
    return f"{len(failures):,} {what} cannot be used:\n" + "\n".join(failures[:most]) + rest


def scan_images(
    paths: Iterable[str], how: Literal["auto", "full", "quick", "off"], *, limit_s: float | None = None
) -> None:
    """Decode all files ("full"), read their headers ("quick"), or decode only if there are few ("auto"). Raises
    DataError naming broken ones, or one that takes longer than `limit_s`.
    """
    listed = list(paths)
    if how == "off":
        return
    is_full = how == "full" or (how == "auto" and len(listed) <= FULL_SCAN_LIMIT)
    run_on_all(_decode if is_full else check_image_header, listed, name_of=printable, limit_s=limit_s)


def _decode(path: str) -> None:
    load_image(path)
