"""Networks that make maps, judged side by side: each batch goes through all of them, so that no map is kept."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dlkit.core.data import Split
from dlkit.core.distributed import ALONE
from dlkit.core.evaluation.evaluate import CountSum, announced, without_gradients
from dlkit.core.models import eval_mode
from dlkit.core.scoring import Scoring
from dlkit.events import Emit, ignore


@dataclass(frozen=True)
class MapComparison:
    """The loss and metrics of each network, how many pixels of each picture it gets right, int64 (networks, pictures), and the share of
    pixels to which each two give the same class, float64 (networks, networks).
    """

    metrics: Sequence[dict[str, float]]
    right: Tensor
    same: Tensor


def compare_maps(
    networks: Sequence[nn.Module], split: Split, scoring: Scoring, *, emit: Emit = ignore
) -> MapComparison:
    """Judge networks on the same split, one pass each; they are left as they were."""
    sums = [(scoring.new_meter(), CountSum(scoring)) for _ in networks]
    right: list[Tensor] = []
    same, num_pixels = torch.zeros(len(networks), len(networks), dtype=torch.float64), 0
    with ExitStack() as modes, without_gradients(ALONE):
        for network in networks:
            modes.enter_context(eval_mode(network))
        for batch in announced(split, None, ALONE, emit):
            maps = []
            for network, (meter, counts) in zip(networks, sums, strict=True):
                with scoring.precision.autocast():
                    outputs = network(scoring.arrange(batch.inputs))
                    loss, weight = scoring.loss(outputs, batch.targets)
                meter.add(outputs, batch.targets, loss, weight)
                counts.add(outputs, batch.targets)
                maps.append(outputs.argmax(1))
            classes = torch.stack(maps)
            right.append((classes == batch.targets).flatten(2).sum(2).cpu())
            same += torch.stack([(classes == one).flatten(1).sum(1) for one in classes]).cpu()
            num_pixels += classes[0].numel()
    metrics = [{"loss": meter.read()["loss"], **scoring.scores.judge(counts.read(ALONE))} for meter, counts in sums]
    return MapComparison(metrics, torch.cat(right, 1), same / num_pixels)
