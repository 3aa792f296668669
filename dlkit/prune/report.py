"""What pruning came to: before and after, and what the numbers mean in plain sentences."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dlkit.core.evaluation.file_size import FileSizes
from dlkit.prune.measuring import Cost, Speed
from dlkit.prune.recovery import Recalibration
from dlkit.prune.request import Request
from dlkit.prune.sparsity import LayerSparsity

SCHEMA = "dlkit.prune/1"
SAME_SPEED = 1.05  # what is quicker by less is called the same
FAIR_SHARE = 0.6  # of the saving in MACs that should show as speed before it is worth a sentence


@dataclass(frozen=True)
class Side:
    """The network before or after; `metrics` are empty without data, `sizes` None for a file that was not read from disk."""

    cost: Cost
    metrics: Mapping[str, float]
    sizes: FileSizes

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        cost = {"parameters": self.cost.num_parameters, "nonzero": self.cost.num_nonzero, "macs": self.cost.macs}
        return {**cost, "bytes": self.sizes.bytes, "gzip_bytes": self.sizes.gzip_bytes, "metrics": dict(self.metrics)}


@dataclass(frozen=True)
class PruneReport:
    """A finished run. `split` says what `metrics` are about; `layers` are those that were masked."""

    model: Path
    output: Path
    request: Request
    before: Side
    after: Side
    split: tuple[str, int] | None
    layers: tuple[LayerSparsity, ...]
    speeds: tuple[Speed, ...]
    recalibration: Recalibration | None

    @property
    def sentences(self) -> list[str]:
        """What to make of the numbers."""
        return [*_size_sentences(self), *_speed_sentences(self), *_norm_sentences(self.recalibration)]

    def to_dict(self) -> dict[str, Any]:
        """The object of `--json` and of report.json."""
        return {
            "schema": SCHEMA,
            "model": str(self.model),
            "output": str(self.output),
            "request": plain_request(self.request),
            "split": {"name": self.split[0], "num_samples": self.split[1]} if self.split else None,
            "before": self.before.to_dict(),
            "after": self.after.to_dict(),
            "latency": [_speed_dict(speed) for speed in self.speeds],
            "layers": [asdict(layer) | {"sparsity": layer.share} for layer in self.layers],
            "recalibration": asdict(self.recalibration) | {"is_kept": self.recalibration.is_kept}
            if self.recalibration
            else None,
            "sentences": self.sentences,
        }


def plain_request(request: Request) -> dict[str, Any]:
    """What was asked for, without what was left to its default; amounts as text."""
    given = {key: value for key, value in asdict(request).items() if value is not None}
    if request.amount is not None:
        given["amount"] = str(request.amount)
    return given | {"method": request.picked_method, "skip": list(request.skip)}


def _speed_dict(speed: Speed) -> dict[str, Any]:
    return {
        "batch": speed.before.batch,
        "before": speed.before.to_dict(),
        "after": speed.after.to_dict(),
        "speedup": asdict(speed.speedup),
    }


def _size_sentences(report: PruneReport) -> list[str]:
    before, after = report.before.sizes, report.after.sizes
    if report.request.is_shrunk:
        return []
    smaller = 1 - after.gzip_bytes / before.gzip_bytes
    return [
        "Masks are zeros in tensors of the same size: the file stores as many bytes as before; "
        f"compressed with gzip it is {smaller:.0%} smaller"
    ]


def _speed_sentences(report: PruneReport) -> list[str]:
    if not report.speeds:
        return []
    if not report.request.is_shrunk:
        hint = "; --shrink removes whole channels for real" if report.request.is_structured else ""
        return [f"Latency stays the same, as dense kernels multiply by zeros like by any other number{hint}"]
    if not report.before.cost.macs or not report.after.cost.macs:
        return []
    saved = report.before.cost.macs / report.after.cost.macs
    return [text for speed in report.speeds if (text := _explain_speed(saved, speed))]


def _explain_speed(saved: float, speed: Speed) -> str | None:
    """Why a network with fewer multiplications is not quicker in step; None where it is."""
    gained, batch = speed.speedup.median, speed.before.batch
    if saved < SAME_SPEED or gained - 1 >= FAIR_SHARE * (saved - 1):
        return None
    result = f"did not fall ({gained:.2f}x)" if gained < SAME_SPEED else f"fell only {gained:.2f}x"
    return (
        f"MACs fell {saved:.2f}x, but latency at batch {batch} {result}: small layers wait for memory and for the calls "
        "themselves, not for multiplications. Larger batches, fewer threads or channels in eights (--round-to 8) gain more"
    )


def _norm_sentences(recalibration: Recalibration | None) -> list[str]:
    if recalibration is None:
        return []
    before, after = recalibration.loss_before, recalibration.loss_after
    if recalibration.is_kept:
        return [f"New batch-norm statistics brought the validation loss from {before:.4f} to {after:.4f}"]
    return [
        f"Batch-norm statistics stay as they were: new ones made the validation loss worse ({before:.4f} to {after:.4f})"
    ]
