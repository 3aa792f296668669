"""Samples that cannot be read: left out before anything is trained on, where `data.on_bad` is `skip`."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch

from dlkit.config import Data as DataSection
from dlkit.core.data.decode_threads import map_in_threads
from dlkit.core.data.images import check_image_header, load_image
from dlkit.core.data.samples import TensorSamples
from dlkit.core.data.scan import summarize
from dlkit.core.data.sources import FileSamples
from dlkit.core.data.subsets import Subset, Subsets
from dlkit.errors import DataError

_NAMED = 3


def skip_unreadable(subsets: Subsets, section: DataSection) -> tuple[Subsets, tuple[str, ...]]:
    """Returns the subsets without samples that cannot be read, and what is wrong with each of these.

    All are read once, of image files with `scan: quick` the headers alone. Nothing is read, and nothing left out, with
    `on_bad: stop`. Raises DataError where no sample of a subset can be read.
    """
    if section.on_bad == "stop":
        return subsets, ()
    train, problems = readable_part(subsets.train, section)
    val, test = subsets.val, subsets.test
    if test is not None:
        kept, found = readable_part(test, section)
        problems += found
        # a test split that also validates stays one
        val = replace(kept, name="val") if val is not None and val.rows is test.rows else val
        test = kept
    if val is not None and (test is None or val.rows is not test.rows):
        val, found = readable_part(val, section)
        problems += found
    return replace(subsets, train=train, val=val, test=test), tuple(problems)


def readable_part(subset: Subset, section: DataSection) -> tuple[Subset, list[str]]:
    """Returns a subset without samples that cannot be read, and what is wrong with these. Raises DataError when none can be."""
    if section.on_bad == "stop" or isinstance(subset.samples, TensorSamples):
        return subset, []
    found = _problems(subset, section.scan)
    kept = torch.tensor([not problem for problem in found])
    problems = [problem for problem in found if problem]
    if len(problems) == len(found):
        raise DataError(f"none of the {len(found)} {subset.name} samples can be read. {summarize(problems)}")
    return (replace(subset, rows=subset.rows[kept], targets=subset.targets[kept]) if problems else subset), problems


def skipped_note(problems: Sequence[str]) -> str:
    """Returns a sentence on samples that were left out, the first of them named."""
    listed = "; ".join(problems[:_NAMED]) + ("; ..." if len(problems) > _NAMED else "")
    count = f"{len(problems)} sample{'s' * (len(problems) > 1)}"
    return f"{count} cannot be read and {'are' if len(problems) > 1 else 'is'} skipped (data.on_bad): {listed}"


def _problems(subset: Subset, how: Literal["auto", "full", "quick", "off"]) -> list[str]:
    """Returns what is wrong with each sample, empty where nothing is."""
    samples = subset.samples

    def problem_of(row: int) -> str:
        try:
            if isinstance(samples, FileSamples) and samples.masks is None:
                (check_image_header if how == "quick" else load_image)(samples.paths[row])
            else:
                samples.look(row)
        except DataError as error:
            return str(error)
        return ""

    rows = subset.rows.tolist()
    if not samples.is_slow:
        return list(map(problem_of, rows))
    return map_in_threads(problem_of, rows, name_of=samples.name_of, limit_s=subset.timeout_s)
