"""The best int8 network that calibration data alone can find: try each remedy, measure, keep what helps.

In order: the network as it is; equalized; smoothed; then the biases of the best corrected. Each is judged by how close its
outputs are to those in float, on calibration inputs, and dropped where it is no closer. None changes the network's structure, so
that the recipe alone rebuilds it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor, nn
from torch.fx import GraphModule

from dlkit.choices import Observer
from dlkit.core.models import with_plain_weights
from dlkit.events import Emit, Working, ignore
from dlkit.quantize.graph import convert
from dlkit.quantize.ptq.bias_correction import correct_bias
from dlkit.quantize.ptq.calibration import first_samples, observe_network
from dlkit.quantize.ptq.equalization import equalize
from dlkit.quantize.ptq.fidelity import Fidelity, fidelity_of, outputs_of
from dlkit.quantize.ptq.smoothing import ALPHAS, Smoothable, find_smoothable, smooth, smoothable_links
from dlkit.quantize.ptq.stability import Stability, observe_in_halves
from dlkit.quantize.recipe import Recipe
from dlkit.tasks import TaskName

Choice = Literal["auto", "on", "off"]
MOST_CHECKED = 256
MOST_OUTPUTS = 2**25


@dataclass(frozen=True)
class Remedies:
    """What may be tried. `auto` keeps a remedy where it measures better, `on` keeps it in any case.

    With `observers` all of these are tried besides the recipe's own.
    """

    bias_correction: bool = True
    equalization: Choice = "auto"
    smoothing: Choice = "auto"
    observers: tuple[Observer, ...] = ()


@dataclass(frozen=True)
class Trial:
    """One thing that was tried, how close the int8 outputs were with it, and whether it was kept."""

    what: str
    fidelity: Fidelity
    is_kept: bool


@dataclass(frozen=True)
class Int8:
    """An int8 network, the float network that it was made from, prepared and calibrated, and the recipe that rebuilds it.

    `outputs` are those of samples to check on, before biases were corrected.
    `stability` says whether two halves of the calibration data agree; None where there is only one batch.
    """

    network: GraphModule
    prepared: GraphModule
    origin: nn.Module
    recipe: Recipe
    trials: tuple[Trial, ...]
    outputs: Tensor
    stability: Stability | None = None

    @property
    def fidelity(self) -> Fidelity:
        """How close it is in the end."""
        return [trial for trial in self.trials if trial.is_kept][-1].fidelity


def quantize_accurately(
    network: nn.Module,
    recipe: Recipe,
    batches: Sequence[Tensor],
    *,
    remedies: Remedies,
    task: TaskName = "classification",
    emit: Emit = ignore,
) -> Int8:
    """The int8 network that is closest to `network` on the calibration inputs, of all that the remedies make.

    `network` stays as it is. Raises what `observe_network` raises.
    """
    network = with_plain_weights(network)  # once for all trials; a layer that computes its weight cannot be scaled
    search = _AccuracySearch(network, batches, task=task, emit=emit)
    best = search.start(recipe)
    for observer in remedies.observers:
        if observer != recipe.observer:
            best = search.consider(f"observer {observer}", best.origin, replace(recipe, observer=observer), "auto")
    if remedies.equalization != "off":
        best = search.consider_equalization(remedies.equalization)
    if remedies.smoothing != "off" and smoothable_links(network, batches[0], recipe.keep_float):
        best = search.consider_smoothing(remedies.smoothing)
    return search.corrected() if remedies.bias_correction else best


class _AccuracySearch:
    """The best so far, and all trials."""

    def __init__(self, network: nn.Module, batches: Sequence[Tensor], *, task: TaskName, emit: Emit) -> None:
        self._network, self._batches, self._emit = network, batches, emit
        self._task = task

    def start(self, recipe: Recipe) -> Int8:
        """The network as it is."""
        stability = None
        if len(self._batches) > 1:
            prepared, stability = observe_in_halves(self._network, recipe, self._batches, self._emit)
        else:
            prepared = observe_network(self._network, recipe, self._batches, self._emit)
        # only now is it known that the network gives the same outputs on every call
        self._emit(Working("running the float network", 0, 1))
        self._checked = first_samples(self._batches, self._num_checked())
        self._reference = outputs_of(self._network, self._checked)
        converted, fidelity = self._convert(self._network, prepared, recipe)
        self._best = replace(converted, stability=stability)
        return self._note(f"observer {recipe.observer}", fidelity, is_kept=True)

    def _num_checked(self) -> int:
        """So many that outputs fit into memory several times: maps have as many numbers as pixels, and each decides."""
        batch = self._batches[0]  # whole, as some norms take no sample alone
        num_outputs = outputs_of(self._network, [batch]).numel() // len(batch)
        return max(1, min(MOST_CHECKED, MOST_OUTPUTS // num_outputs))

    def consider(self, what: str, network: nn.Module, recipe: Recipe, choice: Choice) -> Int8:
        """Quantize this network instead, and keep it if it is closer or must be. Returns the best."""
        candidate, fidelity = self._quantize(what, network, recipe)
        is_kept = choice == "on" or fidelity.error < self._best.fidelity.error
        if is_kept:
            self._best = replace(candidate, trials=self._best.trials, stability=self._best.stability)
        return self._note(what, fidelity, is_kept=is_kept)

    def consider_equalization(self, choice: Choice) -> Int8:
        """Where there are layers that it can even out."""
        self._emit(Working("equalization", 0, 1))
        equalized = equalize(self._network, self._batches, self._best.recipe.keep_float)
        if not equalized.links:
            return self._best
        return self.consider("equalization", equalized.network, self._best.recipe, choice)

    def consider_smoothing(self, choice: Choice) -> Int8:
        """Several strengths; if smoothing must be kept, then the best of them."""
        before = self._best
        least = math.inf if choice == "on" else before.fidelity.error
        found: dict[float, Fidelity] = {}
        kept: float | None = None
        self._emit(Working("smoothing", 0, 1))
        links = find_smoothable(before.origin, self._batches, before.recipe.keep_float)
        for alpha in ALPHAS:
            found[alpha] = self._smooth(before, links, alpha, least=least)
            if found[alpha].error < least:
                least, kept = found[alpha].error, alpha
        for alpha, fidelity in found.items():
            self._note(f"smoothing {alpha}", fidelity, is_kept=alpha == kept)
        return self._best

    def _smooth(self, before: Int8, links: Smoothable, alpha: float, *, least: float) -> Fidelity:
        """One strength; of all candidates only the best so far stays in memory."""
        smoothed = smooth(before.origin, links, alpha=alpha).network
        candidate, fidelity = self._quantize(f"smoothing {alpha}", smoothed, before.recipe)
        if fidelity.error < least:
            self._best = replace(candidate, trials=before.trials, stability=before.stability)
        return fidelity

    def corrected(self) -> Int8:
        """The best, with biases corrected where that helps."""
        self._emit(Working("correcting biases", 0, 1))
        best = self._best
        found = correct_bias(
            best.prepared,
            best.network,
            self._checked,
            outputs=best.outputs,
            task=self._task,
        )
        self._emit(Working("correcting biases", 1, 1))
        return self._note("bias correction", found.after, is_kept=found.is_kept)

    def _quantize(self, what: str, network: nn.Module, recipe: Recipe) -> tuple[Int8, Fidelity]:
        prepared = observe_network(network, recipe, self._batches, self._emit, what=f"calibrating, {what}")
        return self._convert(network, prepared, recipe)

    def _convert(self, network: nn.Module, prepared: GraphModule, recipe: Recipe) -> tuple[Int8, Fidelity]:
        self._emit(Working("converting to int8", 0, 1))
        converted = convert(prepared, recipe)
        outputs = outputs_of(converted, self._checked)
        fidelity = fidelity_of(self._reference, outputs, task=self._task)
        return Int8(converted, prepared, network, recipe, (), outputs), fidelity

    def _note(self, what: str, fidelity: Fidelity, *, is_kept: bool) -> Int8:
        self._best = replace(self._best, trials=(*self._best.trials, Trial(what, fidelity, is_kept)))
        return self._best
