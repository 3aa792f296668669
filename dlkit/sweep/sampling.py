"""Which values a trial gets and when it is given up: Optuna's samplers and pruners, made so that a sweep can be repeated.

A sampler of Optuna draws from one stream of random numbers, so a sweep that is killed and goes on would draw the same values anew.
Here each trial has a stream of its own, from the seed and its number: which worker runs it, and when, changes nothing.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.pruners import BasePruner, HyperbandPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from dlkit.choices import PrunerName, SamplerName
from dlkit.config import KeySpace, SearchSpace

REDUCTION = 3  # of three trials that get so far, one goes on; the choice of the ASHA paper is 4, that of Hyperband 3
_FIRST_LOOK = 4  # comes after this part of the epochs, when a warm-up is over


class NumberedSampler(BaseSampler):
    """Draws the values of a trial by a sampler of its own; trial 0 has those of the config itself, where the spaces hold them."""

    def __init__(self, name: SamplerName, space: SearchSpace) -> None:
        self._name, self._seed = name, space.base.config.seed
        self._first = {one.key: _stored(one, space.own[one.key]) for one in space.spaces if one.key in space.own}
        self._inner: BaseSampler = RandomSampler(self._seed)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Begin the stream of this trial."""
        digest = hashlib.blake2b(f"{self._seed} {trial.number}".encode(), digest_size=4).digest()
        seed = int.from_bytes(digest, "big")
        self._inner = TPESampler(seed=seed) if self._name == "tpe" else RandomSampler(seed=seed)
        self._inner.before_trial(study, trial)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Returns the values that are drawn together."""
        return {} if trial.number == 0 else self._inner.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Returns values that are drawn together."""
        return self._inner.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Returns one value."""
        if trial.number == 0 and param_name in self._first:
            return self._first[param_name]
        return self._inner.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """Take in how a trial ended."""
        self._inner.after_trial(study, trial, state, values)


class GridOrder(BaseSampler):
    """The points of a grid in their order: trial 0 has the first, the last space moves fastest. So no point comes twice, however
    many workers there are.
    """

    def __init__(self, spaces: Sequence[KeySpace]) -> None:
        self._sizes = {space.key: len(space.points or ()) for space in spaces}
        self._points = {space.key: [_stored(space, value) for value in space.points or ()] for space in spaces}

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Returns nothing: each value follows from the number."""
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Returns nothing."""
        return {}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Returns the value of the point of this number."""
        number = trial.number
        for key, size in reversed(self._sizes.items()):
            number, index = divmod(number, size)
            if key == param_name:
                return self._points[key][index]
        raise KeyError(param_name)


def build_sampler(name: SamplerName, space: SearchSpace) -> BaseSampler:
    """Returns the sampler of this name."""
    return GridOrder(space.spaces) if name == "grid" else NumberedSampler(name, space)


def build_pruner(name: PrunerName, *, epochs: int) -> BasePruner:
    """Returns the pruner of this name, for trials of at most so many epochs."""
    first = max(1, epochs // _FIRST_LOOK)
    if name == "asha":
        return SuccessiveHalvingPruner(min_resource=first, reduction_factor=REDUCTION)
    if name == "hyperband":
        return HyperbandPruner(min_resource=first, max_resource=max(epochs, first), reduction_factor=REDUCTION)
    return NopPruner()


def draw_values(trial: Trial, spaces: Sequence[KeySpace]) -> dict[str, Any]:
    """Returns the values of a trial by key; those that it has already stay."""
    return {space.key: _read(space, _suggest(trial, space)) for space in spaces}


def stored_values(trial: FrozenTrial, spaces: Sequence[KeySpace]) -> dict[str, Any]:
    """Returns the values that a trial was given so far."""
    return {space.key: _read(space, trial.params[space.key]) for space in spaces if space.key in trial.params}


def _suggest(trial: Trial, space: KeySpace) -> Any:
    distribution = _distribution(space)
    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(space.key, distribution.choices)
    if isinstance(distribution, IntDistribution):
        return trial.suggest_int(
            space.key, distribution.low, distribution.high, step=distribution.step, log=distribution.log
        )
    return trial.suggest_float(
        space.key, distribution.low, distribution.high, step=distribution.step, log=distribution.log
    )


def _distribution(space: KeySpace) -> CategoricalDistribution | IntDistribution | FloatDistribution:
    if not space.is_range:
        return CategoricalDistribution([_stored(space, value) for value in space.values])
    low, high = space.values
    if space.is_whole:
        step = int(space.step or 1)
        return IntDistribution(low, low + (high - low) // step * step, log=space.is_log, step=step)
    points = space.points
    return FloatDistribution(low, points[-1] if points else high, log=space.is_log, step=space.step)


def _stored(space: KeySpace, value: Any) -> Any:
    """A value as Optuna keeps it: a number of a range, and what stands in a list as JSON, which tells 1 from true."""
    return value if space.is_range else json.dumps(value, ensure_ascii=False)


def _read(space: KeySpace, stored: Any) -> Any:
    return stored if space.is_range else json.loads(stored)


def shown_values(values: Mapping[str, Any]) -> dict[str, str]:
    """Returns values as people read them: numbers with four digits, words without quotes."""
    return {key: _shown(value) for key, value in values.items()}


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return value
    return f"{value:.4g}" if isinstance(value, float) else json.dumps(value, ensure_ascii=False)
