"""Did you mean."""

from collections.abc import Iterable
from difflib import SequenceMatcher, get_close_matches


def closest(name: str, known: Iterable[str], *, most: int = 3) -> list[str]:
    """Known names that look like `name`, best first; case, `-` and `_` do not count.

    >>> closest("weight_deacy", ["lr", "weight_decay", "momentum"])
    ['weight_decay']
    """
    by_key = {_key(candidate): candidate for candidate in known}
    matches = get_close_matches(_key(name), by_key, n=most, cutoff=0.6)
    best = matches[:1] and SequenceMatcher(None, _key(name), matches[0]).ratio()
    return [by_key[match] for match in matches if best and SequenceMatcher(None, _key(name), match).ratio() >= best - 0.15]


def _key(name: str) -> str:
    return name.casefold().replace("-", "").replace("_", "")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """` Did you mean 'x'?`, or an empty text when nothing is close.

    >>> did_you_mean("cosin", ["cosine", "step"])
    " Did you mean 'cosine'?"
    """
    close = closest(name, known)
    if not close:
        return ""
    return " Did you mean " + " or ".join(map(repr, close)) + "?"
