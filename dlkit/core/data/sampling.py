"""How often each training sample is drawn in an epoch, where that is not once: by class, or by weights of its own."""

from dataclasses import dataclass

import torch
from torch import Tensor

from dlkit.config import LoadedConfig, Sampling
from dlkit.core.data.checks import ignored_label
from dlkit.core.data.counter_rng import Draws, Stream, hash_key, permutation
from dlkit.core.data.samples import Source
from dlkit.core.data.subsets import Subset
from dlkit.errors import DataError
from dlkit.tasks import TaskName

MOST_SHARES = 10


@dataclass(frozen=True)
class DrawnSamples:
    """How much of an epoch each sample is to make up, `weights` float64 (N,), and the stratum of each, int64 (N,).

    Sampling is systematic: a sample that is due 2.3 times an epoch comes 2 or 3 times, and each stratum as often as it is due, to
    one sample. Which ones it hits depends on (seed, epoch) alone.
    """

    weights: Tensor
    strata: Tensor

    def keys(self, seed: int, epoch: int) -> Tensor:
        """Returns an epoch of as many draws as samples, in no order: int64 (N,), the position of each drawn sample, plus N for
        each time that it was drawn before.
        """
        size, key = len(self.weights), hash_key(seed, Stream.SAMPLING, epoch)
        mixed = permutation(key, size)
        order = mixed[self.strata[mixed].argsort(stable=True)]
        due = self.weights[order].cumsum(0)
        start = Draws(seed, epoch, torch.zeros(1, dtype=torch.int64), (Stream.SAMPLING,)).uniforms(1)[0, 0]
        ends = (due / due[-1] * size + start).floor().long().clamp(max=size)
        counts = ends.diff(prepend=ends.new_zeros(1))
        earlier = torch.arange(size) - (ends - counts).repeat_interleave(counts)
        return order.repeat_interleave(counts) + size * earlier

    def shares(self, num_strata: int) -> list[float]:
        """Returns what each stratum makes up of an epoch."""
        sums = torch.zeros(num_strata, dtype=torch.float64).index_add_(0, self.strata, self.weights)
        shares: list[float] = (sums / sums.sum()).tolist()
        return shares


def repeat_samples(order: Tensor, repeats: int, turn: int) -> Tensor:
    """Returns one of `repeats` epochs, number `turn`, that together hold each sample of an order (N,) so often: int64 (N,), its keys.

    Copies stand side by side, and number c has N * c added. What an epoch still has of the last sample of the epoch before comes last.
    """
    size = len(order)
    begun = -(turn * size) % repeats
    places = (torch.arange(size) + turn * size).roll(-begun)
    return order[places // repeats] + size * (places % repeats)


def build_sampling(loaded: LoadedConfig, source: Source, train: Subset, task: TaskName) -> DrawnSamples | None:
    """Returns how `data.sampling` asks for training samples; None where each is drawn once.

    Raises ConfigError where the data have no classes, or no such column, DataError for weights that are none.
    """
    asked, where = loaded.config.data.sampling, ("data", "sampling")
    if asked == "none":
        return None
    if isinstance(asked, Sampling) and asked.weights is not None:
        if source.weights is None:
            raise loaded.error((*where, "weights"), f"{loaded.config.data.name} has no columns to take weights from")
        return DrawnSamples(_checked(source.weights[train.rows], train), _strata_of(train.targets, task))
    if task != "classification":
        raise loaded.error(
            where, f"balances classes, but the task is {task}; {{weights: column}} takes weights of your own"
        )
    power = asked.power or 0.0 if isinstance(asked, Sampling) else 0.0
    return DrawnSamples(_class_weights(train.targets, power, ignored_label(loaded)), _strata_of(train.targets, task))


def _strata_of(targets: Tensor, task: TaskName) -> Tensor:
    return targets if task == "classification" else torch.zeros(len(targets), dtype=torch.int64)


def _class_weights(targets: Tensor, power: float, ignored: int | None) -> Tensor:
    """Returns weights that let a class of n samples make up a share that goes as n**power: 0 balances, 1 leaves all as they are."""
    labels, places, counts = torch.unique(targets, return_inverse=True, return_counts=True)
    weights: Tensor = counts.double() ** (power - 1)
    if ignored is not None:
        weights = weights * (labels != ignored)
    return weights[places]


def _checked(weights: Tensor, train: Subset) -> Tensor:
    is_wrong = ~(weights.isfinite() & (weights >= 0))
    if is_wrong.any():
        position = int(is_wrong.nonzero()[0, 0])
        raise DataError(f"weights must be 0 or more; {train.name_of(position)} has {weights[position].item():g}")
    if not weights.sum() > 0:
        raise DataError("the weights of all training samples are 0; nothing would be drawn")
    return weights


def sampling_notes(sampling: DrawnSamples | None, source: Source, train: Subset, task: TaskName) -> list[str]:
    """Returns a sentence on the share of each class in an epoch, and what it is in the data."""
    if sampling is None or task != "classification":
        return []
    names = source.classes or tuple(map(str, range(source.num_outputs)))
    is_class = (train.targets >= 0) & (train.targets < len(names))
    kept = DrawnSamples(sampling.weights[is_class], train.targets[is_class])
    natural = DrawnSamples(torch.ones_like(kept.weights), kept.strata)
    rows = list(zip(names, kept.shares(len(names)), natural.shares(len(names)), strict=True))
    listed = [f"{name} {drawn:.1%} ({given:.1%} of the data)" for name, drawn, given in rows[:MOST_SHARES]]
    more = f" and {len(rows) - MOST_SHARES} more" if len(rows) > MOST_SHARES else ""
    return [f"classes in an epoch (data.sampling): {', '.join(listed)}{more}"]
