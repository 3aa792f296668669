"""The report of a pruning run: before and after, as numbers and in plain sentences."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dlkit.core.evaluation import Comparison, pruning_sentences
from dlkit.core.sparse_storage import StoredBytes
from dlkit.prune.channels import GroupRow, TargetSolution, show_cost
from dlkit.prune.computed_weights import layers_by_reason
from dlkit.prune.masks import LayerSparsity, total_sparsity
from dlkit.prune.recovery import Recalibration
from dlkit.prune.request import PruneRequest
from dlkit.quantities import bytes_text

SCHEMA = "dlkit.prune/1"
MOST_REASONS = 3
NOTHING = StoredBytes(0, 0)


@dataclass(frozen=True)
class PruneReport:
    """A finished run: `layers` of masks and those `left_alone`, with the reason, or `groups` of a shrunk network.

    `stored` are the bytes of its tensors in the file, and were all of them dense. `recalibration` is None where none was done.
    `max_delta` is the largest difference between a shrunk network and the full one with the same channels at zero, before
    any recovery, in float64.
    """

    model: Path
    output: Path
    request: PruneRequest
    comparison: Comparison
    layers: tuple[LayerSparsity, ...] = ()
    left_alone: Mapping[str, str] = field(default_factory=dict)
    stored: StoredBytes = NOTHING
    groups: tuple[GroupRow, ...] = ()
    max_delta: float | None = None
    solution: TargetSolution | None = None
    recalibration: Recalibration | None = None

    @property
    def sentences(self) -> list[str]:
        """What the numbers mean."""
        if self.request.is_shrunk:
            measured = [*self._whole_sentences(), *pruning_sentences(self.comparison)]
        else:
            measured = self._mask_sentences()
        return [*_target_sentences(self.request, self.solution), *measured, *_norm_sentences(self.recalibration)]

    def _whole_sentences(self) -> list[str]:
        """Why far less became smaller than was asked for, where that is so."""
        old, new = self.comparison.before.costs.macs, self.comparison.after.costs.macs
        share = self.request.amount.share if self.request.amount else None
        if not (old and new and share) or new / old <= 1 - share / 2:
            return []
        whole = Counter(group.note for group in self.groups if group.num_kept == group.num_channels and group.note)
        reasons = "; ".join(f"{count}x {note}" for note, count in whole.most_common(MOST_REASONS))
        return [
            f"{new / old:.0%} of the MACs are left, although {share:.0%} of the channels were to go: {whole.total()} of "
            f"{len(self.groups)} groups of layers stay whole ({reasons})"
        ]

    def _mask_sentences(self) -> list[str]:
        hint = "; --shrink removes whole channels for real" if self.request.is_structured else ""
        return [
            f"{total_sparsity(self.layers):.1%} of the pruned layers' weights are zero; {self._storage_words()}",
            f"latency is the same, as dense kernels multiply by zeros like by any number{hint}",
            *(
                f"left alone: {', '.join(layers)}: {reason}, where a mask would not hold"
                for reason, layers in layers_by_reason(self.left_alone).items()
            ),
        ]

    def _storage_words(self) -> str:
        dense, stored = (bytes_text(size) for size in (self.stored.dense, self.stored.stored))
        if not self.stored.is_packed:
            return f"as many bytes are stored as before ({dense}), as too few are zero for a smaller form"
        share = self.stored.stored / self.stored.dense
        return (
            f"the file stores the others and one bit for each place: {stored} instead of {dense} ({share:.0%}); loaded, tensors are "
            "as large as before"
        )

    def _checks(self) -> dict[str, Any]:
        """What was verified; a run that fails one of these ends with an error."""
        checks: dict[str, Any] = {"reloaded_outputs_are_equal": True}
        if self.max_delta is not None:
            checks |= {
                "max_delta_to_zeroed_channels": self.max_delta,
                "is_exact": all(group.kind != "approximate" for group in self.groups),
                "rolled_back": [group.id for group in self.groups if group.note.startswith("rolled back")],
            }
        return checks

    def to_dict(self) -> dict[str, Any]:
        """The object of `--json` and of the report file."""
        recalibration = self.recalibration
        return {
            "schema": SCHEMA,
            "kind": "result",
            "model": str(self.model),
            "output": str(self.output),
            "request": plain_request(self.request),
            **self.comparison.to_dict(),
            "layers": [_layer_dict(layer) for layer in self.layers],
            "left_alone": dict(self.left_alone),
            "stored_bytes": asdict(self.stored),
            "groups": [asdict(group) for group in self.groups],
            "target": _target_dict(self.solution),
            "checks": self._checks(),
            "recalibration": asdict(recalibration) | {"is_kept": recalibration.is_kept} if recalibration else None,
            "sentences": self.sentences,
        }


def plain_request(request: PruneRequest) -> dict[str, Any]:
    """What was asked for, without what was left to its default; amounts as text."""
    given = {key: value for key, value in asdict(request).items() if value is not None}
    if request.amount is not None:
        given["amount"] = str(request.amount)
    if request.target is not None:
        given["target"] = request.target.text
    return given | {"method": request.picked_method, "skip": list(request.skip)}


def _layer_dict(layer: LayerSparsity) -> dict[str, Any]:
    return asdict(layer) | {"shape": list(layer.shape), "sparsity": layer.share}


def _target_dict(solution: TargetSolution | None) -> dict[str, float] | None:
    if solution is None:
        return None
    return {"before": solution.before, "after": solution.after, "amount": solution.amount}


def _target_sentences(request: PruneRequest, solution: TargetSolution | None) -> list[str]:
    if solution is None or request.target is None:
        return []
    before, after = (show_cost(request.target.cost, cost) for cost in (solution.before, solution.after))
    where = "in all" if request.scope == "global" else "of each group"
    return [
        f"target {request.target}: {before} became {after} with {solution.amount:.1%} of the channels {where} asked for"
    ]


def _norm_sentences(recalibration: Recalibration | None) -> list[str]:
    if recalibration is None:
        return []
    change = f"{recalibration.loss_before:.4f} to {recalibration.loss_after:.4f}"
    if recalibration.is_kept:
        return [f"batch norm was measured again after pruning: validation loss {change}"]
    return [f"the statistics of batch norm were kept: new ones made the validation loss worse ({change})"]
