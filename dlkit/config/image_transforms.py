"""Transforms of other pipelines that dlkit does by itself: those that are left out, and those that are said in another way."""

DONE_ANYWAY = {"totensor", "toimage", "piltotensor", "topuretensor"}
DONE_OTHERWISE = {
    "normalize": "dlkit normalizes itself, so that the model file knows how: use data.normalize with mean and std",
    "todtype": "dlkit scales to 0..1 and casts itself: remove it",
    "convertimagedtype": "dlkit scales to 0..1 and casts itself: remove it",
}


def is_done_anyway(name: str) -> bool:
    """Whether a transform says what happens to every image: it becomes a tensor, and is scaled to 0..1 at the end."""
    return name.casefold() in DONE_ANYWAY


def said_otherwise(name: str) -> str | None:
    """How to say what a transform does, where that is no transform here; None for all others."""
    return DONE_OTHERWISE.get(name.casefold())
