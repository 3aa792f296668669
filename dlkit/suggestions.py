"""Suggestions for misspelled names: did you mean ...?"""

from collections.abc import Iterable

_LONGEST = 64


def closest(name: str, known: Iterable[str], *, most: int = 3) -> list[str]:
    """Known names that look like `name`, best first; case, `-` and `_` are ignored.

    A name is alike if at most about a third of the letters must be edited. If none is alike, those that contain the name,
    or are contained in it, are returned.

    >>> closest("weight_deacy", ["lr", "weight_decay", "momentum"])
    ['weight_decay']
    >>> closest("crop", ["RandomCrop", "CenterCrop", "Resize"])
    ['CenterCrop', 'RandomCrop']
    """
    if len(name) > _LONGEST:
        return []
    wanted = _key(name)
    by_key = {_key(candidate): candidate for candidate in known}
    from difflib import SequenceMatcher  # only on the way to an error

    limit = max(1, (len(wanted) + 1) // 3)
    distances = {key: edit_distance(wanted, key, limit) for key in by_key if abs(len(key) - len(wanted)) <= limit}
    if found := [key for key, distance in distances.items() if distance <= limit]:
        nearest = min(distances[key] for key in found)
        ties = [key for key in found if distances[key] == nearest]
        ties.sort(key=lambda key: (-SequenceMatcher(None, wanted, key).ratio(), key[:1] != wanted[:1], key))
        return [by_key[key] for key in ties[:most]]
    if len(wanted) < 3:
        return []
    holding = [key for key in by_key if wanted in key or (len(key) >= 3 and key in wanted)]
    return [by_key[key] for key in sorted(holding, key=lambda key: (abs(len(key) - len(wanted)), key))[:most]]


def edit_distance(left: str, right: str, limit: int) -> int:
    """Insertions, deletions, substitutions and swaps of neighbours between two texts; stops at `limit + 1`.

    This is the optimal string alignment distance: no part is edited twice.

    >>> edit_distance("shcedule", "schedule", 3)
    1
    """
    before: list[int] = []
    row = list(range(len(right) + 1))
    for i, letter in enumerate(left, 1):
        before, last, row = row, before, [i]
        for j, other in enumerate(right, 1):
            best = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != other))
            if i > 1 and j > 1 and letter == right[j - 2] and left[i - 2] == other:
                best = min(best, last[j - 2] + 1)
            row.append(best)
        if min(row) > limit:
            return limit + 1
    return row[-1]


def _key(name: str) -> str:
    return name.casefold().replace("-", "").replace("_", "")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """` Did you mean 'x'?`, or an empty text if no known name is close.

    >>> did_you_mean("cosin", ["cosine", "step"])
    " Did you mean 'cosine'?"
    """
    close = closest(name, known)
    if not close:
        return ""
    return " Did you mean " + " or ".join(map(repr, close)) + "?"
