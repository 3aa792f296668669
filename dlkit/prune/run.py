"""A whole pruning run: the table of contents.

check (request.py) -> open (subject.py, evidence.py) -> masks (mask_rounds.py) or smaller layers (shrink_rounds.py), with
recovery in every round (recovery.py) -> compare before and after (comparing.py) -> write, read back and compare
(artifact.py) -> the report's file (report.py) -> both files into place at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dlkit.core.devices import torch_settings
from dlkit.core.evaluation.comparison import Comparison
from dlkit.core.files import write_json
from dlkit.core.staging import staged
from dlkit.errors import UsageError
from dlkit.events import Emit, Note, Saved, ignore
from dlkit.prune.channels.layer_sizes import describe_sizes
from dlkit.prune.channels.table import GroupRow, list_groups
from dlkit.prune.channels.targets import Solution
from dlkit.prune.channels.verification import Verified
from dlkit.prune.comparison import compare, describe_original, with_sizes
from dlkit.prune.mask_rounds import plan_masks, run_mask_rounds
from dlkit.prune.masks.sparsity import LayerSparsity, measure_sparsity
from dlkit.prune.opened_model import Subject
from dlkit.prune.recovery import Recalibration, find_norms
from dlkit.prune.report import PruneReport, plain_request
from dlkit.prune.request import Request, describe_request
from dlkit.prune.rewinding import read_rewind_weights
from dlkit.prune.saving import OutputPaths, describe_pruned, save_pruned
from dlkit.prune.scan import Scan, scan_groups, scan_masks
from dlkit.prune.shrink_rounds import plan_shrinking, run_shrink_rounds


@dataclass(frozen=True)
class Pruned:
    """A network after pruning, and what the report tells of how it was made.

    `layers` are those that were masked; `groups` those of a shrunk network, with `verified`, how that was checked,
    `solution`, how its target was met, and `change`, what a file needs to build the smaller layers again.
    """

    network: nn.Module
    recalibration: Recalibration | None
    layers: tuple[LayerSparsity, ...] = ()
    groups: tuple[GroupRow, ...] = ()
    verified: Verified | None = None
    solution: Solution | None = None
    change: Mapping[str, Any] | None = None


def prune_model(subject: Subject, request: Request, paths: OutputPaths, *, emit: Emit = ignore) -> PruneReport:
    """Prune a model as asked, measure it beside the original, and write it with a report beside it.

    Nothing is written before all else is done. Raises UsageError when the request does not fit the network, Diverged and
    Interrupted from training.
    """
    with torch_settings():
        _check_norms(subject.network, request)
        if request.iterations > 1 and request.epochs is None:
            emit(Note("nothing is trained between the iterations; --finetune EPOCHS does that"))
        pruned = (_shrink if request.is_shrunk else _mask)(subject, request, emit)
        network = pruned.network.to(memory_format=torch.contiguous_format).eval()
        comparison = compare(subject.original(), network, subject, seconds=request.seconds, emit=emit)
        facts = {
            "what": describe_request(request),
            "request": plain_request(request),
            "original": describe_original(subject, comparison.before).to_dict(),
        }
        spec = describe_pruned(subject.file.spec, pruned.change, facts, comparison.after.scores.metrics)
        with staged(paths.model) as staging:
            save_pruned(staging.path(paths.model), spec, network.cpu(), subject.example.cpu(), model=subject.model)
            sized = with_sizes(comparison, subject.file.path, staging.path(paths.model))
            made = _report_of(subject, request, paths, pruned, sized)
            write_json(staging.path(paths.report), made.to_dict())
    emit(Saved(paths.model, "model"))
    return made


def _report_of(
    subject: Subject, request: Request, paths: OutputPaths, pruned: Pruned, comparison: Comparison
) -> PruneReport:
    return PruneReport(
        model=subject.file.path,
        output=paths.model,
        request=request,
        comparison=comparison,
        layers=pruned.layers,
        groups=pruned.groups,
        max_delta=pruned.verified.max_delta if pruned.verified else None,
        solution=pruned.solution,
        recalibration=pruned.recalibration,
    )


def _check_norms(network: nn.Module, request: Request) -> None:
    if request.num_recal and not find_norms(network):
        raise UsageError("--bn-recal: the network has no batch norm with running statistics; leave it out")


def _rewound(subject: Subject, request: Request) -> Mapping[str, Tensor] | None:
    if request.rewind is None:
        return None
    return read_rewind_weights(request.rewind, subject.file, subject.network, model=subject.model)


def _mask(subject: Subject, request: Request, emit: Emit) -> Pruned:
    rewound = _rewound(subject, request)
    plan = plan_masks(subject.network, request, subject.example)
    if plan.outputs:
        emit(Note(f"left alone, as its channels are the network's outputs: {', '.join(plan.outputs)}"))
    _, recalibration = run_mask_rounds(subject.network, plan, request, subject.evidence, rewound=rewound, emit=emit)
    return Pruned(subject.network, recalibration, tuple(measure_sparsity(plan.weights)))


def _shrink(subject: Subject, request: Request, emit: Emit) -> Pruned:
    rewound = _rewound(subject, request)
    plan = plan_shrinking(subject.network, request, subject.example)
    shrunk = run_shrink_rounds(subject, plan, request, rewound=rewound, emit=emit)
    verified = shrunk.verified
    rows = list_groups(plan.groups, plan.limits, verified.keep, kinds=verified.kinds, rolled_back=verified.rolled_back)
    return Pruned(
        verified.network,
        shrunk.recalibration,
        groups=tuple(rows),
        verified=verified,
        solution=shrunk.solution,
        change=describe_sizes(subject.original(), verified.network),
    )


def scan_model(subject: Subject, request: Request, *, emit: Emit = ignore) -> Scan:
    """The sensitivity of every part that the request could prune; the network comes back as it was."""
    assert subject.evidence is not None  # checked when the subject was opened
    with torch_settings():
        if request.is_shrunk:
            return scan_groups(subject, plan_shrinking(subject.network, request, subject.example), request, emit=emit)
        plan = plan_masks(subject.network, request, subject.example)
        return scan_masks(subject.network, plan, request.seed, subject.evidence, emit=emit)
