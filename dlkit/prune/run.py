"""A whole pruning run: the table of contents.

check (request.py) -> open (subject.py, evidence.py) -> masks (mask_rounds.py) with training in between (recovery.py) ->
compare before and after (comparing.py) -> write, read back and compare (artifact.py) -> the report's file (report.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from dlkit.core.devices import torch_settings
from dlkit.core.files import write_json
from dlkit.errors import UsageError
from dlkit.events import Note, Report, Saved, ignore
from dlkit.prune.artifact import OutputPaths, describe_pruned, save_pruned
from dlkit.prune.comparing import compare, with_sizes
from dlkit.prune.mask_rounds import plan_masks, run_mask_rounds
from dlkit.prune.recovery import Recalibration, find_norms
from dlkit.prune.report import PruneReport, plain_request
from dlkit.prune.request import Request
from dlkit.prune.rewinding import read_rewind_weights
from dlkit.prune.scan import Scan, scan_masks
from dlkit.prune.sparsity import LayerSparsity, measure_sparsity
from dlkit.prune.subject import Subject


@dataclass(frozen=True)
class Pruned:
    """A network after pruning: masked layers, and what a file needs to build other layer sizes again."""

    network: nn.Module
    recalibration: Recalibration | None
    layers: tuple[LayerSparsity, ...] = ()
    change: Mapping[str, Any] | None = None


def prune_model(subject: Subject, request: Request, paths: OutputPaths, *, report: Report = ignore) -> PruneReport:
    """Prune a model as asked, measure it beside the original, and write it with a report beside it.

    Nothing is written before all else is done. Raises UsageError when the request does not fit the network, Diverged and
    Interrupted from training.
    """
    with torch_settings():
        _check_norms(subject.network, request)
        pruned = _prune(subject, request, report)
        network = pruned.network.to(memory_format=torch.contiguous_format).eval()
        comparison = compare(subject.original(), network, subject, seconds=request.seconds, report=report)
        facts = {"request": plain_request(request)}
        spec = describe_pruned(subject.file.spec, pruned.change, facts, comparison.after.scores.metrics)
        save_pruned(paths.model, spec, network.cpu(), subject.example.cpu(), model=subject.model)
    report(Saved(paths.model, "model"))
    comparison = with_sizes(comparison, subject.file.path, paths.model)
    made = PruneReport(subject.file.path, paths.model, request, comparison, pruned.layers, pruned.recalibration)
    write_json(paths.report, made.to_dict())
    return made


def _prune(subject: Subject, request: Request, report: Report) -> Pruned:
    rewound = None
    if request.rewind is not None:
        rewound = read_rewind_weights(request.rewind, subject.file, subject.network, model=subject.model)
    plan = plan_masks(subject.network, request, subject.example)
    if plan.outputs:
        report(Note(f"left alone, as its channels are the network's outputs: {', '.join(plan.outputs)}"))
    _, recalibration = run_mask_rounds(subject.network, plan, request, subject.evidence, rewound=rewound, report=report)
    return Pruned(subject.network, recalibration, tuple(measure_sparsity(plan.weights)))


def _check_norms(network: nn.Module, request: Request) -> None:
    if request.num_recal and not find_norms(network):
        raise UsageError("--bn-recal: the network has no batch norm with running statistics; leave it out")


def scan_model(subject: Subject, request: Request, *, report: Report = ignore) -> Scan:
    """The sensitivity of every part that the request could prune; the network comes back as it was."""
    assert subject.evidence is not None
    with torch_settings():
        plan = plan_masks(subject.network, request, subject.example)
        return scan_masks(subject.network, plan, request.seed, subject.evidence, report=report)
