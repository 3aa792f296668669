"""A network before and after pruning in numbers, measured side by side on the same machine at the same time."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from dlkit.core.data.contract import DataInfo
from dlkit.core.evaluation.latency import Latency, Ratio, measure_interleaved, speedup
from dlkit.core.evaluation.profile import InputSpec, ProfileError, profile_model
from dlkit.core.evaluation.scores import score_split
from dlkit.core.models.meta import meta_copy
from dlkit.core.models.summary import parameter_count
from dlkit.events import Report
from dlkit.prune.evidence import Evidence
from dlkit.prune.sparsity import count_zeros

BATCHES = (1, 16)


@dataclass(frozen=True)
class Cost:
    """What a network takes: parameters, those that are not zero, and multiply-accumulates of one sample (None: unknown)."""

    num_parameters: int
    num_nonzero: int
    macs: int | None


@dataclass(frozen=True)
class Speed:
    """Latency of both networks at one batch size, taken in turns, and how many times as fast the pruned one is."""

    before: Latency
    after: Latency
    speedup: Ratio


def measure_cost(network: nn.Module, info: DataInfo) -> Cost:
    """Count a network's parameters and its work for one sample of its input."""
    total = parameter_count(network)[0]
    return Cost(total, total - count_zeros(network), count_macs(network, info))


def count_macs(network: nn.Module, info: DataInfo) -> int | None:
    """Multiply-accumulates of one sample; None for a network that cannot be followed without real numbers."""
    try:
        return profile_model(meta_copy(network), [InputSpec(info.input_size)], with_memory=False).macs
    except ProfileError:
        return None


def measure_speeds(
    original: nn.Module, pruned: nn.Module, example: Tensor, *, seconds: float | None, report: Report
) -> list[Speed]:
    """The latency of both networks in evaluation mode at batch 1 and 16, each for so many seconds; none without `seconds`."""
    speeds: list[Speed] = []
    for batch in BATCHES if seconds else ():
        inputs = example[torch.arange(batch) % len(example)]
        calls = {"before": partial(original, inputs), "after": partial(pruned, inputs)}
        found = measure_interleaved(calls, batch=batch, seconds=seconds or 0, device=example.device, report=report)
        speeds.append(Speed(found["before"], found["after"], speedup(found["before"], found["after"])))
    return speeds


def measure_scores(network: nn.Module, evidence: Evidence | None, report: Report) -> Mapping[str, float]:
    """Loss and metrics on the reporting split; empty without data."""
    if evidence is None:
        return {}
    return score_split(network, evidence.reporting, evidence.scoring, report=report)
