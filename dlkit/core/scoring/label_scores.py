"""Multi-label scores: average precision, counts and F1 of each label, and the thresholds from which on labels count as found.

Outputs are logits (N, L), targets (N, L) of 0 and 1; results are float64, of each label (L,).
"""

from functools import lru_cache

import torch
from torch import Tensor

MIDDLE = 0.5  # the threshold of a label of which nothing is known


def decide_labels(outputs: Tensor, thresholds: tuple[float, ...] | None) -> Tensor:
    """Returns which labels are found, bool (N, L): their probability is at least the threshold, 0.5 where there are none."""
    if thresholds is None:
        return outputs >= 0
    wide = outputs.double() if outputs.device.type != "mps" else outputs
    return wide.sigmoid() >= _row(thresholds, wide.dtype, wide.device)


@lru_cache(maxsize=16)
def _row(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    # remembered, since copying numbers to a GPU for every batch would make it wait
    return torch.tensor(values, dtype=dtype, device=device)


def label_counts(found: Tensor, targets: Tensor) -> Tensor:
    """Returns true positives, false positives and false negatives of each label, int64 (3, L)."""
    true = targets > 0
    return torch.stack([(found & true).sum(0), (found & ~true).sum(0), (~found & true).sum(0)])


def f1_of(counts: Tensor) -> Tensor:
    """Returns F1 of counts (3, ...) as `label_counts` makes them; 0 where nothing was found and nothing was there."""
    hits, wrong, missed = counts.double()
    f1: Tensor = 2 * hits / (2 * hits + wrong + missed).clamp(min=1)
    return f1


def average_precisions(outputs: Tensor, targets: Tensor) -> Tensor:
    """Returns average precision, the sum of precision over steps in recall, as scikit-learn defines it; equal outputs are one step.

    NaN for a label that never occurs, and for one of whose outputs any is NaN.
    """
    values, hits, is_end = _ranked(outputs, targets)
    ends = torch.where(is_end, hits, 0)
    steps = torch.where(is_end, hits - torch.cat([torch.zeros_like(ends[:1]), ends.cummax(0).values[:-1]]), 0)
    places = torch.arange(1, len(values) + 1, dtype=torch.float64, device=values.device)[:, None]
    found = (steps * hits / places).sum(0) / hits[-1]
    return torch.where(outputs.isnan().any(0), torch.nan, found)


def areas_under_roc(outputs: Tensor, targets: Tensor) -> Tensor:
    """Returns the area under the ROC curve, the chance that a true sample is ranked before another; equal outputs count half.

    NaN for a label that all samples have or none, and for one of whose outputs any is NaN.
    """
    values, hits, is_end = _ranked(outputs, targets)
    misses = torch.arange(1, len(values) + 1, dtype=torch.float64, device=values.device)[:, None] - hits
    true, false = (torch.where(is_end, counts, 0).cummax(0).values for counts in (hits, misses))
    before, earlier = (torch.cat([torch.zeros_like(ends[:1]), ends[:-1]]) for ends in (true, false))
    found = ((false - earlier) * (true + before) / 2).sum(0) / (hits[-1] * misses[-1])
    return torch.where(outputs.isnan().any(0), torch.nan, found)


def pick_thresholds(outputs: Tensor, targets: Tensor) -> tuple[float, ...]:
    """Returns for each label the probability from which on F1 is best, midway between the two samples that it parts.

    Of several that are equally good it is the one nearest to 0.5. A label that never occurs has none, and gets 0.5.
    """
    values, hits, is_end = _ranked(outputs.double().sigmoid(), targets)
    below = torch.cat([values[1:], torch.zeros_like(values[:1])])
    middles = (values + below) / 2
    cuts = torch.where(middles > below, middles, values)  # two neighbours among floats have nothing between them
    places = torch.arange(1, len(values) + 1, dtype=torch.float64, device=values.device)[:, None]
    f1 = torch.where(is_end, 2 * hits / (places + hits[-1]), -1)
    distance = torch.where(f1 == f1.amax(0), (cuts - MIDDLE).abs(), torch.inf)
    chosen = cuts.gather(0, distance.argmin(0)[None])[0]
    return tuple(torch.where(hits[-1] > 0, chosen, MIDDLE).tolist())


def _ranked(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns each label's outputs in falling order, how many true ones are among those so far, float64, and where equal ones end."""
    values, order = outputs.sort(dim=0, descending=True)
    hits = (targets > 0).gather(0, order).double().cumsum(0)
    is_end = torch.cat([values[1:] != values[:-1], torch.ones_like(values[:1], dtype=torch.bool)])
    return values, hits, is_end
