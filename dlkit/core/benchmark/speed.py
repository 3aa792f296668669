"""Several networks by several engines on the same inputs, interleaved, with ratios to a baseline."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dlkit.core.benchmark.engines import ENGINES, FILE_ENGINES, Difference, start_engine
from dlkit.core.benchmark.sparse_engine import has_sparse_layers
from dlkit.core.benchmark.timing import Latency, Ratio, measure_interleaved, speedup
from dlkit.core.benchmark.unavailable import EngineUnavailable
from dlkit.core.models import random_inputs
from dlkit.errors import UsageError, first_line
from dlkit.events import Emit, Working, ignore
from dlkit.shapes import size_text
from dlkit.tasks import TaskName


@dataclass(frozen=True)
class TimedModel:
    """What is measured: a network in evaluation mode, or an `.onnx` file."""

    name: str
    source: nn.Module | Path
    is_int8: bool
    task: TaskName = "classification"


@dataclass(frozen=True)
class SpeedRow:
    """One network by one engine at one batch size. `difference` is from eager's outputs, None for an `.onnx` file.

    `to_baseline` says how many times as fast it is as the baseline, `to_fastest_float` as the baseline network's fastest
    engine, which is None when the baseline is no float network.
    """

    model: str
    engine: str
    is_int8: bool
    latency: Latency
    to_baseline: Ratio
    to_fastest_float: Ratio | None
    difference: Difference | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        latency = self.latency.to_dict()
        facts = {"model": self.model, "engine": self.engine, "is_int8": self.is_int8}
        return {
            **facts,
            **latency,
            "to_baseline": asdict(self.to_baseline),
            "to_fastest_float": asdict(self.to_fastest_float) if self.to_fastest_float else None,
            "difference_to_eager": asdict(self.difference) if self.difference else None,
        }


@dataclass(frozen=True)
class Skipped:
    """An engine that did not run a network, and why."""

    model: str
    engine: str
    reason: str


@dataclass(frozen=True)
class Speeds:
    """All that was measured. `baseline` is (model, engine); `fastest_float` names an engine by batch size."""

    rows: tuple[SpeedRow, ...]
    skipped: tuple[Skipped, ...]
    baseline: tuple[str, str]
    fastest_float: Mapping[int, str]

    @property
    def batches(self) -> list[int]:
        """The batch sizes, rising."""
        return sorted({row.latency.batch for row in self.rows})

    def row(self, model: str, engine: str, batch: int) -> SpeedRow | None:
        """The row of a network, an engine and a batch size, or None when it was not measured."""
        keys = ((row.model, row.engine, row.latency.batch) for row in self.rows)
        return next((row for row, key in zip(self.rows, keys, strict=True) if key == (model, engine, batch)), None)

    def ranking(self, batch: int) -> list[SpeedRow]:
        """The rows of all networks and engines at a batch size, the quickest first."""
        found = [row for row in self.rows if row.latency.batch == batch]
        return sorted(found, key=lambda row: row.latency.median_ms)

    def fastest(self, model: str, batch: int) -> SpeedRow | None:
        """The row of a network's quickest engine at a batch size."""
        return next((row for row in self.ranking(batch) if row.model == model), None)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "baseline": {"model": self.baseline[0], "engine": self.baseline[1]},
            "fastest_float": {str(batch): engine for batch, engine in self.fastest_float.items()},
            "rows": [row.to_dict() for row in self.rows],
            "skipped": [asdict(skipped) for skipped in self.skipped],
        }


@dataclass(frozen=True)
class SpeedPlan:
    """What to measure: one sample's size, the device, batch sizes, engines by name, seconds for each batch size.

    `baseline` is (model, engine); without it the first network, by eager where that runs.
    """

    input_size: tuple[int, ...]
    device: torch.device
    batches: tuple[int, ...] = (1, 16)
    engines: tuple[str, ...] = ENGINES
    seconds: float = 10.0
    baseline: tuple[str, str] | None = None


@dataclass(frozen=True)
class _Started:
    model: TimedModel
    engine: str
    run: Callable[[Tensor], Tensor]
    difference: Difference | None

    @property
    def label(self) -> str:
        return f"{self.model.name} by {self.engine}"


def measure_speeds(models: Sequence[TimedModel], plan: SpeedPlan, *, emit: Emit = ignore) -> Speeds:
    """Start every engine for every network, check it against eager, and time all that run, batch size by batch size.

    Inputs are standard normal numbers, always the same. Raises UsageError when a network does not take them, when nothing
    could run, and when the baseline did not.
    """
    inputs = {batch: random_inputs(plan.input_size, batch, plan.device) for batch in plan.batches}
    started, skipped = _start_all(models, plan, list(inputs.values()), emit)
    baseline = _pick_baseline(started, skipped, plan.baseline)
    rows: list[SpeedRow] = []
    fastest_float: dict[int, str] = {}
    for batch, tensor in inputs.items():
        calls = {one.label: partial(one.run, tensor) for one in started}
        found = measure_interleaved(calls, batch=batch, seconds=plan.seconds, device=plan.device, emit=emit)
        floats = [one for one in started if one.model is baseline.model and not one.model.is_int8]
        quickest = min(floats, key=lambda one: found[one.label].median_ms, default=None)
        if quickest:
            fastest_float[batch] = quickest.engine
        rows += [_row(one, found, baseline, quickest) for one in started]
    return Speeds(tuple(rows), tuple(skipped), (baseline.model.name, baseline.engine), fastest_float)


def _start_all(
    models: Sequence[TimedModel], plan: SpeedPlan, inputs: Sequence[Tensor], emit: Emit
) -> tuple[list[_Started], list[Skipped]]:
    started: list[_Started] = []
    skipped: list[Skipped] = []
    pairs = [(model, engine) for model in models for engine in _engines_for(model, plan.engines)]
    for number, (model, engine) in enumerate(pairs):
        emit(Working(f"starting {engine}", number, len(pairs)))
        try:
            started.append(_start(model, engine, inputs))
        except EngineUnavailable as error:
            skipped.append(Skipped(model.name, engine, error.reason))
    return started, skipped


def _engines_for(model: TimedModel, engines: Sequence[str]) -> Sequence[str]:
    """An ONNX file runs in what takes such files, or in ONNX Runtime if only others were asked for.

    Sparse kernels are for masked networks, unless they were asked for by name.
    """
    if not isinstance(model.source, Path):
        is_dense = tuple(engines) == ENGINES and not has_sparse_layers(model.source)
        return [engine for engine in engines if not (is_dense and engine == "sparse")]
    return [engine for engine in engines if engine in FILE_ENGINES] or ["onnx"]


def _start(model: TimedModel, engine: str, inputs: Sequence[Tensor]) -> _Started:
    if isinstance(model.source, nn.Module):
        ready = start_engine(engine, model.source, inputs[0], more_examples=inputs[1:], task=model.task)
        return _Started(model, engine, ready.run, ready.difference)
    run = FILE_ENGINES[engine](model.source)
    for tensor in inputs:
        try:
            run(tensor)
        except Exception as error:  # their errors share no base but Exception
            shape = size_text(tensor.shape)
            raise EngineUnavailable(
                engine, f"it does not run on inputs of {shape}: {first_line(error, 200)}"
            ) from error
    return _Started(model, engine, run, None)


def _pick_baseline(started: Sequence[_Started], skipped: Sequence[Skipped], wanted: tuple[str, str] | None) -> _Started:
    if not started:
        reasons = "\n".join(f"  {one.model} by {one.engine}: {one.reason}" for one in skipped)
        raise UsageError(f"nothing could be run:\n{reasons}")
    if wanted is None:
        return started[0]
    found = next((one for one in started if (one.model.name, one.engine) == wanted), None)
    if found is None:
        known = ", ".join(f"{one.model.name}:{one.engine}" for one in started)
        raise UsageError(f"the baseline {wanted[0]}:{wanted[1]} did not run; what ran: {known}")
    return found


def _row(one: _Started, found: Mapping[str, Latency], baseline: _Started, quickest: _Started | None) -> SpeedRow:
    latency = found[one.label]
    return SpeedRow(
        model=one.model.name,
        engine=one.engine,
        is_int8=one.model.is_int8,
        latency=latency,
        to_baseline=speedup(found[baseline.label], latency),
        to_fastest_float=speedup(found[quickest.label], latency) if quickest else None,
        difference=one.difference,
    )
