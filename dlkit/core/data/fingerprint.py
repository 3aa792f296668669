"""A short description of the samples of a run, by which other data are noticed when it goes on."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch

from dlkit.core.data.samples import TensorSamples
from dlkit.core.data.subsets import Subset, Subsets

Fingerprint = Mapping[str, Mapping[str, str | int]]
_HASHES = ("targets", "files", "contents", "weights")
MOST_LOOKED_AT = 64  # samples whose contents are compared, where that reads no files


def fingerprint(subsets: Subsets, weights: torch.Tensor | None = None) -> Fingerprint:
    """Of each split: how many samples, and hashes of their targets, of the names of their files, and of the contents of some; of the
    training split also of the weights by which it is drawn, float64 (N,), if there are such.
    """
    drawn_by = {} if weights is None else {"train": {"weights": _digest(weights[subsets.train.rows])}}
    return {
        subset.name: {
            "samples": len(subset.rows),
            "targets": _digest(subset.targets),
            "files": _names_digest(subset),
            "contents": _contents_digest(subset),
            **drawn_by.get(subset.name, {}),
        }
        for subset in subsets.listed()
    }


def fingerprint_differences(saved: Fingerprint, current: Fingerprint) -> list[str]:
    """What differs, a line for each split."""
    lines = []
    for name in sorted(saved.keys() | current.keys()):
        before, now = saved.get(name, {"samples": 0}), current.get(name, {"samples": 0})
        if before.get("samples") != now["samples"]:
            lines.append(f"data: {before.get('samples')} {name} samples in the checkpoint, {now['samples']} now")
        elif other := [what for what in _HASHES if what in before and before[what] != now.get(what)]:
            lines.append(f"data: the {name} samples have other {', '.join(other)} than in the checkpoint")
    return lines


def _digest(tensor: torch.Tensor) -> str:
    data = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data
    return hashlib.sha256(data).hexdigest()[:16]


def _names_digest(subset: Subset) -> str:
    """Of folder and file, so that a data set may move."""
    names = ["/".join(Path(path).parts[-2:]) for path in subset.file_paths()]
    return hashlib.sha256(ascii(names).encode()).hexdigest()[:16] if names else ""


def _contents_digest(subset: Subset) -> str:
    """Of the first sample, which was read already, and of more where all are in memory."""
    samples = subset.samples
    if not isinstance(samples, TensorSamples):
        return "" if samples.is_random else _digest(subset.raw(0))
    positions = torch.linspace(0, len(subset.rows) - 1, min(MOST_LOOKED_AT, len(subset.rows))).long()
    return _digest(samples.inputs[subset.rows[positions]])
