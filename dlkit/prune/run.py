"""A whole pruning run: the table of contents.

check (request.py) -> open (subject.py, evidence.py) -> masks (mask_rounds.py) with training in between (recovery.py) ->
measure before and after (measuring.py) -> write, read back and compare (artifact.py) -> report.json (report.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from dlkit.core.devices import torch_settings
from dlkit.core.evaluation.file_size import file_sizes
from dlkit.core.files import write_json
from dlkit.errors import UsageError
from dlkit.events import Note, Report, Saved, ignore
from dlkit.prune.artifact import OutputPaths, describe_pruned, save_pruned
from dlkit.prune.mask_rounds import plan_masks, run_mask_rounds
from dlkit.prune.measuring import measure_cost, measure_scores, measure_speeds
from dlkit.prune.recovery import Recalibration, find_norms, recalibrate_norms
from dlkit.prune.report import PruneReport, Side, plain_request
from dlkit.prune.request import Request
from dlkit.prune.rewinding import read_rewind_weights
from dlkit.prune.sparsity import LayerSparsity, measure_sparsity
from dlkit.prune.subject import Subject


@dataclass(frozen=True)
class Pruned:
    """A network after pruning: masked layers, and what a file needs to build other layer sizes again."""

    network: nn.Module
    layers: tuple[LayerSparsity, ...] = ()
    change: Mapping[str, Any] | None = None


def prune_model(subject: Subject, request: Request, paths: OutputPaths, *, report: Report = ignore) -> PruneReport:
    """Prune a model as asked, measure it beside the original, and write it with a report beside it.

    Nothing is written before all else is done. Raises UsageError when the request does not fit the network, Diverged and
    Interrupted from training.
    """
    info = subject.file.spec.info
    with torch_settings():
        original = subject.original()
        scores_before = measure_scores(original, subject.evidence, report)
        pruned = _prune(subject, request, report)
        network = pruned.network.to(memory_format=torch.contiguous_format).eval()
        recalibration = _recalibrate(network, subject, request, report)
        scores_after = measure_scores(network, subject.evidence, report)
        costs = measure_cost(original, info), measure_cost(network, info)
        speeds = measure_speeds(original, network, subject.example, seconds=request.seconds, report=report)
        facts = {"request": plain_request(request), "sparsity": 1 - costs[1].num_nonzero / costs[1].num_parameters}
        spec = describe_pruned(subject.file.spec, pruned.change, facts, scores_after)
        save_pruned(paths.model, spec, network.cpu(), subject.example.cpu(), model=subject.model)
    report(Saved(paths.model, "model"))
    made = PruneReport(
        model=subject.file.path,
        output=paths.model,
        request=request,
        before=Side(costs[0], scores_before, file_sizes(subject.file.path)),
        after=Side(costs[1], scores_after, file_sizes(paths.model)),
        split=subject.evidence.split_words if subject.evidence else None,
        layers=pruned.layers,
        speeds=tuple(speeds),
        recalibration=recalibration,
    )
    write_json(paths.report, made.to_dict())
    return made


def _prune(subject: Subject, request: Request, report: Report) -> Pruned:
    rewound = None
    if request.rewind is not None:
        rewound = read_rewind_weights(request.rewind, subject.file, subject.network, model=subject.model)
    plan = plan_masks(subject.network, request, subject.example)
    if plan.outputs:
        report(Note(f"left alone, as its channels are the network's outputs: {', '.join(plan.outputs)}"))
    run_mask_rounds(subject.network, plan, request, subject.evidence, rewound=rewound, report=report)
    return Pruned(subject.network, tuple(measure_sparsity(plan.weights)))


def _recalibrate(network: nn.Module, subject: Subject, request: Request, report: Report) -> Recalibration | None:
    if not request.picked_recal:
        return None
    if not find_norms(network):
        if request.num_recal:
            raise UsageError("--bn-recal: the network has no batch norm with running statistics; leave it out")
        return None
    if subject.evidence is None:
        return None
    return recalibrate_norms(network, subject.evidence, num_batches=request.picked_recal, report=report)
