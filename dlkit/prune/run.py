"""A whole pruning run: the table of contents.

check (request.py) -> open (opened.py, task_data.py) -> masks (mask_rounds.py) or smaller layers (shrink_rounds.py), with
recovery in every round (recovery.py) -> compare before and after (comparing.py) -> write, read back and compare
(artifact.py) -> the report's file (report.py) -> both files into place at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dlkit.core.devices import torch_settings
from dlkit.core.evaluation import Comparison
from dlkit.core.staging import staged
from dlkit.errors import UsageError
from dlkit.events import Emit, Note, Saved, ignore
from dlkit.files import write_json
from dlkit.prune.channels import GroupRow, TargetSolution, Verified, describe_sizes, list_groups
from dlkit.prune.comparison import compare, describe_original, with_sizes
from dlkit.prune.mask_rounds import plan_masks, run_mask_rounds
from dlkit.prune.masks import LayerSparsity, measure_sparsity
from dlkit.prune.opened_model import OpenedModel
from dlkit.prune.recovery import Recalibration, find_norms
from dlkit.prune.report import PruneReport, plain_request
from dlkit.prune.request import PruneRequest, describe_request
from dlkit.prune.rewinding import read_rewind_weights
from dlkit.prune.saving import PruneOutputs, describe_pruned, save_pruned
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
    solution: TargetSolution | None = None
    change: Mapping[str, Any] | None = None


def prune_model(opened: OpenedModel, request: PruneRequest, paths: PruneOutputs, *, emit: Emit = ignore) -> PruneReport:
    """Prune a model as asked, measure it beside the original, and write it with a report beside it.

    Nothing is written before all else is done. Raises UsageError when the request does not fit the network, Diverged and
    Interrupted from training.
    """
    with torch_settings():
        _check_norms(opened.network, request)
        if request.iterations > 1 and request.epochs is None:
            emit(Note("nothing is trained between the iterations; --finetune EPOCHS does that"))
        pruned = (_shrink if request.is_shrunk else _mask)(opened, request, emit)
        network = pruned.network.to(memory_format=torch.contiguous_format).eval()
        comparison = compare(opened.original(), network, opened, seconds=request.seconds, emit=emit)
        facts = {
            "what": describe_request(request),
            "request": plain_request(request),
            "original": describe_original(opened, comparison.before).to_dict(),
        }
        spec = describe_pruned(opened.file.spec, pruned.change, facts, comparison.after.scores.metrics)
        with staged(paths.model) as staging:
            save_pruned(staging.path(paths.model), spec, network.cpu(), opened.example.cpu(), model=opened.model)
            sized = with_sizes(comparison, opened.file.path, staging.path(paths.model))
            made = _report_of(opened, request, paths, pruned, sized)
            write_json(staging.path(paths.report), made.to_dict())
    emit(Saved(paths.model, "model"))
    return made


def _report_of(
    opened: OpenedModel, request: PruneRequest, paths: PruneOutputs, pruned: Pruned, comparison: Comparison
) -> PruneReport:
    return PruneReport(
        model=opened.file.path,
        output=paths.model,
        request=request,
        comparison=comparison,
        layers=pruned.layers,
        groups=pruned.groups,
        max_delta=pruned.verified.max_delta if pruned.verified else None,
        solution=pruned.solution,
        recalibration=pruned.recalibration,
    )


def _check_norms(network: nn.Module, request: PruneRequest) -> None:
    if request.num_recal and not find_norms(network):
        raise UsageError("--bn-recal: the network has no batch norm with running statistics; leave it out")


def _rewound(opened: OpenedModel, request: PruneRequest) -> Mapping[str, Tensor] | None:
    if request.rewind is None:
        return None
    return read_rewind_weights(request.rewind, opened.file, opened.network, model=opened.model)


def _mask(opened: OpenedModel, request: PruneRequest, emit: Emit) -> Pruned:
    rewound = _rewound(opened, request)
    plan = plan_masks(opened.network, request, opened.example)
    if plan.outputs:
        emit(Note(f"left alone, as its channels are the network's outputs: {', '.join(plan.outputs)}"))
    _, recalibration = run_mask_rounds(opened.network, plan, request, opened.task_data, rewound=rewound, emit=emit)
    return Pruned(opened.network, recalibration, tuple(measure_sparsity(plan.weights)))


def _shrink(opened: OpenedModel, request: PruneRequest, emit: Emit) -> Pruned:
    rewound = _rewound(opened, request)
    plan = plan_shrinking(opened.network, request, opened.example)
    shrunk = run_shrink_rounds(opened, plan, request, rewound=rewound, emit=emit)
    verified = shrunk.verified
    rows = list_groups(plan.groups, plan.limits, verified.keep, kinds=verified.kinds, rolled_back=verified.rolled_back)
    return Pruned(
        verified.network,
        shrunk.recalibration,
        groups=tuple(rows),
        verified=verified,
        solution=shrunk.solution,
        change=describe_sizes(opened.original(), verified.network),
    )


def scan_model(opened: OpenedModel, request: PruneRequest, *, emit: Emit = ignore) -> Scan:
    """The sensitivity of every part that the request could prune; the network comes back as it was."""
    assert opened.task_data is not None  # checked when the model was opened
    with torch_settings():
        if request.is_shrunk:
            return scan_groups(opened, plan_shrinking(opened.network, request, opened.example), request, emit=emit)
        plan = plan_masks(opened.network, request, opened.example)
        return scan_masks(opened.network, plan, request.seed, opened.task_data, emit=emit)
