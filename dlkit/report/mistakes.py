"""The samples that a run is most wrong about, as pictures where there are any, else as tables."""

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from dlkit.report.blocks import Block, Cell, Gallery, Picture, Sheet, Words
from dlkit.report.sample_pictures import Drawings
from dlkit.report.words import is_number, number_cell, share_cell
from dlkit.run_folders import StoredEvaluation

_TITLES = {"worst": "The highest loss", "certain": "Wrong and most certain"}
_SHARES = {"probability": "probability", "iou": "IoU"}


def mistake_blocks(found: StoredEvaluation, drawn: Drawings) -> list[Block]:
    """Returns the worst samples and the most certain mistakes: pictures by position where there are any, else tables."""
    blocks: list[Block] = [Words(drawn.problem)] if drawn.problem else []
    for name, title in _TITLES.items():
        samples: Sequence[Mapping[str, Any]] = getattr(found, name)
        if samples:
            blocks.append(_gallery(title, samples, drawn) if drawn.sources else _sheet(title, samples))
    if found.task == "classification" and found.worst and not found.certain:
        blocks.append(Words(f"None of the {found.num_samples:,} {found.split} samples is predicted wrong."))
    return blocks


def _gallery(title: str, samples: Sequence[Mapping[str, Any]], drawn: Drawings) -> Gallery:
    shown = [
        Picture(drawn.sources.get(sample["position"], ()), PurePath(sample["name"]).name, _lines(sample))
        for sample in samples
    ]
    return Gallery(title, shown, drawn.heads, drawn.legend)


def _lines(sample: Mapping[str, Any]) -> tuple[str, ...]:
    loss = f"loss {number_cell(sample['loss'], '.3g').text or 'is no number'}"
    if is_number(iou := sample.get("iou")):
        return f"there: {sample['true']}", f"predicted: {sample['predicted']}", f"{loss}, IoU {iou:.1%}"
    share = "" if sample["probability"] is None else f" {sample['probability']:.1%}"
    return f"is {sample['true']}", f"said {sample['predicted']}{share}", loss


def _sheet(title: str, samples: Sequence[Mapping[str, Any]]) -> Sheet:
    shares = [name for name in _SHARES if any(sample.get(name) is not None for sample in samples)]
    rows = [
        (
            Cell(sample["name"]),
            Cell(sample["true"]),
            Cell(sample["predicted"]),
            *(share_cell(sample.get(name)) for name in shares),
            number_cell(sample["loss"]),
        )
        for sample in samples
    ]
    return Sheet(("sample", "true", "predicted", *(_SHARES[name] for name in shares), "loss"), rows, title=title)
