"""A whole pruning run: the table of contents.

1. Check what is asked (request.py) and open the model and its data (opened_model.py).
2. Masks, round by round (mask_rounds.py): plan the weights, grow the masks (masks/masks.py), apply them, recover.
   Or shrinking, round by round (shrink_rounds.py): plan the groups (channels/grouping.py, on the trace of dependency/), choose
   the units that stay (channels/importance.py and choice.py, or targets.py), cut the others out (channels/cutting.py), verify
   (channels/verification.py), recover.
3. Recover in every round (recovery.py): measure batch norm again, train on, perhaps from earlier weights.
4. Compare before and after (comparison.py).
5. Write the model file, read it back (saving.py), write the report (report.py); both files appear at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from dlkit.core.data import DataInfo
from dlkit.core.devices import torch_settings
from dlkit.core.evaluation import Comparison, with_thresholds, without_temperature
from dlkit.core.sparse_storage import measure_stored
from dlkit.core.staging import staged
from dlkit.errors import UsageError
from dlkit.events import Emit, Note, Saved, ignore
from dlkit.files import write_json
from dlkit.prune.channels import GroupRow, TargetSolution, describe_sizes, list_groups
from dlkit.prune.comparison import compare, describe_original, with_sizes
from dlkit.prune.mask_rounds import plan_masks, run_mask_rounds
from dlkit.prune.masks import LayerSparsity, measure_sparsity
from dlkit.prune.opened_model import OpenedModel
from dlkit.prune.recovery import Recalibration, find_norms, read_rewind_weights
from dlkit.prune.report import PruneReport, plain_request
from dlkit.prune.request import PruneRequest, describe_request
from dlkit.prune.saving import PruneOutputs, describe_pruned, save_pruned
from dlkit.prune.shrink_rounds import layer_shares, plan_shrinking, run_shrink_rounds


@dataclass(frozen=True)
class Pruned:
    """A network after pruning, and what the report says of how it was made.

    `layers` are those that were masked, `left_alone` those that could not be, with the reason. Of a shrunk network `groups` are
    its groups, `max_delta` the largest difference of its outputs when it was verified, `solution` how its target was met, and
    `rewrite` what a file needs to build the smaller layers again.
    """

    network: nn.Module
    recalibration: Recalibration | None
    layers: tuple[LayerSparsity, ...] = ()
    left_alone: Mapping[str, str] = field(default_factory=dict)
    groups: tuple[GroupRow, ...] = ()
    max_delta: float | None = None
    solution: TargetSolution | None = None
    rewrite: Mapping[str, Any] | None = None


def prune_model(opened: OpenedModel, request: PruneRequest, paths: PruneOutputs, *, emit: Emit = ignore) -> PruneReport:
    """Prune a model as asked, measure it beside the original, and write it with a report beside it.

    Nothing is written before all else is done. Raises UsageError when the request does not fit the network, Diverged and
    Interrupted from training.
    """
    with torch_settings():
        if request.num_recal and not find_norms(opened.network):
            raise UsageError("--bn-recal: the network has no batch norm with running statistics; leave it out")
        if request.iterations > 1 and request.epochs is None:
            emit(Note("nothing is trained between the iterations; --finetune EPOCHS does that"))
        pruned = (_shrink if request.is_shrunk else _mask)(opened, request, _rewound(opened, request), emit)
        network = pruned.network.to(memory_format=torch.contiguous_format).eval()
        info = _own_answers(opened, network, emit)
        comparison = compare(opened.original(), network, opened, info=info, seconds=request.seconds, emit=emit)
        facts = {
            "what": describe_request(request),
            "request": plain_request(request),
            "original": describe_original(opened, comparison.before).to_dict(),
        }
        spec = describe_pruned(
            replace(opened.file.spec, info=info), pruned.rewrite, facts, comparison.after.scores.metrics
        )
        with staged(paths.model) as staging:
            save_pruned(staging.path(paths.model), spec, network.cpu(), opened.example.cpu(), model=opened.model)
            sized = with_sizes(comparison, opened.file.path, staging.path(paths.model))
            report = _report_of(opened, request, paths, pruned, sized)
            write_json(staging.path(paths.report), report.to_dict())
    emit(Saved(paths.model, "model"))
    return report


def _own_answers(opened: OpenedModel, network: nn.Module, emit: Emit) -> DataInfo:
    """Returns the description of the data, with thresholds of labels that suit the pruned network where there are data, and without
    the temperature of the one before.
    """
    info, data = without_temperature(opened.file.spec.info, emit), opened.task_data
    return info if data is None else with_thresholds(network, data.data.val, data.scoring, info, emit=emit)


def _rewound(opened: OpenedModel, request: PruneRequest) -> Mapping[str, Tensor] | None:
    if request.rewind is None:
        return None
    return read_rewind_weights(request.rewind, opened.file, opened.network, model=opened.model)


def _mask(opened: OpenedModel, request: PruneRequest, rewound: Mapping[str, Tensor] | None, emit: Emit) -> Pruned:
    plan = plan_masks(opened.network, request, opened.example)
    if plan.outputs:
        emit(Note(f"left alone, as its channels are the network's outputs: {', '.join(plan.outputs)}"))
    _, recalibration = run_mask_rounds(opened.network, plan, request, opened.task_data, rewound=rewound, emit=emit)
    return Pruned(opened.network, recalibration, tuple(measure_sparsity(plan.weights)), left_alone=plan.computed)


def _shrink(opened: OpenedModel, request: PruneRequest, rewound: Mapping[str, Tensor] | None, emit: Emit) -> Pruned:
    plan = plan_shrinking(opened.network, request, opened.example)
    shrunk = run_shrink_rounds(opened, plan, request, rewound=rewound, emit=emit)
    verified = shrunk.verified
    rows = list_groups(
        plan.groups,
        plan.limits,
        verified.keep,
        kinds=verified.kinds,
        rolled_back=verified.rolled_back,
        shares=layer_shares(plan, request),
    )
    return Pruned(
        verified.network,
        shrunk.recalibration,
        groups=tuple(rows),
        max_delta=verified.max_delta,
        solution=shrunk.solution,
        rewrite=describe_sizes(opened.original(), verified.network),
    )


def _report_of(
    opened: OpenedModel, request: PruneRequest, paths: PruneOutputs, pruned: Pruned, comparison: Comparison
) -> PruneReport:
    return PruneReport(
        model=opened.file.path,
        output=paths.model,
        request=request,
        comparison=comparison,
        layers=pruned.layers,
        left_alone=pruned.left_alone,
        stored=measure_stored(pruned.network.state_dict()),
        groups=pruned.groups,
        max_delta=pruned.max_delta,
        solution=pruned.solution,
        recalibration=pruned.recalibration,
    )
