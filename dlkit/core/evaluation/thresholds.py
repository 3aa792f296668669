"""The probability from which on each label counts as found, chosen on validation samples."""

from dataclasses import replace

from torch import nn

from dlkit.core.data import DataInfo, Split
from dlkit.core.distributed import ALONE, World
from dlkit.core.evaluation.predictions import predict_split
from dlkit.core.scoring import MIDDLE, Scoring, pick_thresholds
from dlkit.events import Emit, Note, ignore

MOST_NAMED = 5


def with_thresholds(
    model: nn.Module,
    split: Split | None,
    scoring: Scoring,
    info: DataInfo,
    *,
    world: World = ALONE,
    emit: Emit = ignore,
) -> DataInfo:
    """Returns the description with the threshold of each label by which its F1 on the split is best; of several processes, each
    gets the same. Other tasks have none.

    Without a split every label keeps 0.5, and so does one that never occurs there; both are reported.
    """
    if info.task != "multilabel":
        return info
    if split is None:
        emit(
            Note(f"every label counts as found from {MIDDLE} on: there is no validation split to choose thresholds by")
        )
        return replace(info, thresholds=None)
    found = predict_split(model, split, scoring, world=world, emit=emit)
    names = info.class_names
    absent = [name for name, count in zip(names, found.targets.sum(0).tolist(), strict=True) if not count]
    if absent:
        listed = ", ".join(absent[:MOST_NAMED]) + (" ..." if len(absent) > MOST_NAMED else "")
        emit(Note(f"no {split.name} sample has the label {listed}: its threshold stays at {MIDDLE}"))
    return replace(info, thresholds=pick_thresholds(found.outputs, found.targets))
