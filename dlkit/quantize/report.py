"""What a quantization came to, as an object and as plain values for JSON (`"schema": "dlkit.quantize/1"`)."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dlkit.core.benchmark import Machine
from dlkit.core.evaluation import Comparison, quantization_sentences
from dlkit.core.export import Parity
from dlkit.quantize.comparison import Total
from dlkit.quantize.coverage import LayerStatus
from dlkit.quantize.ptq import Fallback, LayerSensitivity
from dlkit.quantize.request import QuantizeOutputs
from dlkit.quantize.task import Made, Task
from dlkit.tasks import TRAITS

SCHEMA = "dlkit.quantize/1"


@dataclass(frozen=True)
class Coverage:
    """Which layers are int8, and how often each int8 kernel ran in one run of the network."""

    layers: tuple[LayerStatus, ...]
    kernels: Mapping[str, int]

    @property
    def num_int8(self) -> int:
        """Layers that are int8 now."""
        return sum(layer.is_int8 for layer in self.layers)

    @property
    def in_float(self) -> tuple[LayerStatus, ...]:
        """Layers that are not."""
        return tuple(layer for layer in self.layers if not layer.is_int8)

    def reasons(self) -> list[tuple[str, int]]:
        """Why layers are in float, and how many for each reason, the most frequent first."""
        return Counter(layer.reason for layer in self.in_float).most_common()


@dataclass(frozen=True)
class Outcome:
    """All of it. `comparison` has no scores where there was nothing to judge on; `parity` is the exported file's; `export_failure` says
    why there is none though it was asked for.

    `total` is against the network before it was pruned; None where it was not.
    """

    task: Task
    paths: QuantizeOutputs
    made: Made
    coverage: Coverage
    comparison: Comparison
    parity: Parity | None
    machine: Machine
    notes: tuple[str, ...]
    total: Total | None = None
    export_failure: Exception | None = None

    @property
    def files(self) -> list[Path]:
        """What was written."""
        return [path for path in self.paths.listed() if path != self.paths.exported or self.parity is not None]

    @property
    def drop(self) -> float | None:
        """Points lost of the metric that judges; negative when it grew. None where it is no fraction of 1 or not known."""
        if not self.task.judging.is_percent:
            return None
        name = TRAITS[self.task.name].judging
        before, after = (side.scores.metrics.get(name) for side in (self.comparison.before, self.comparison.after))
        return None if before is None or after is None else 100 * (before - after)

    @property
    def size_ratio(self) -> float | None:
        """The int8 file's size as a fraction of the float file's."""
        before, after = self.comparison.before.costs.sizes, self.comparison.after.costs.sizes
        return after.bytes / before.bytes if before and after else None


def describe_fallback(fallback: Fallback) -> dict[str, Any]:
    """Which layers were kept in float, and what each attempt lost on the validation split, in points."""
    attempts = [{"kept": list(attempt.kept), "drop_points": attempt.drop} for attempt in fallback.attempts]
    return {"kept": list(fallback.chosen.kept), "drop_points": fallback.chosen.drop, "attempts": attempts}


def describe_layers(layers: Sequence[LayerSensitivity]) -> list[dict[str, Any]]:
    """A row per layer: by how much predicted probabilities move (0..1), signal to noise in dB, share of decisions that are the same."""
    return [{"name": layer.name, **asdict(layer.fidelity)} for layer in layers]


def describe_outcome(outcome: Outcome) -> dict[str, Any]:
    """Plain values, as `--json` prints and report.json holds them."""
    made, coverage, task = outcome.made, outcome.coverage, outcome.task
    return {
        "schema": SCHEMA,
        "model": str(task.file.path),
        "output": str(outcome.paths.model),
        "files": [str(path) for path in outcome.files],
        "recipe": made.recipe.to_dict(),
        "calibration": {"samples": made.num_calibration, "seed": task.request.seed},
        "steps": list(made.steps),
        "trials": [{"what": trial.what, "kept": trial.is_kept, **asdict(trial.fidelity)} for trial in made.trials],
        "sensitivity": describe_layers(made.ranking),
        "fallback": describe_fallback(made.fallback) if made.fallback else None,
        "layers": {
            "int8": coverage.num_int8,
            "all": len(coverage.layers),
            "reasons": dict(coverage.reasons()),
            "rows": [asdict(layer) for layer in coverage.layers],
        },
        "kernels": {"runs": sum(coverage.kernels.values()), "by_name": dict(coverage.kernels)},
        "training": asdict(made.training) | {"recipe": made.training.recipe.to_dict()} if made.training else None,
        "export": asdict(outcome.parity) if outcome.parity else None,
        "export_failure": str(outcome.export_failure) if outcome.export_failure else None,
        "reload": "bit-equal in a fresh process",
        "drop_points": outcome.drop,
        "size_ratio": outcome.size_ratio,
        "comparison": outcome.comparison.to_dict(),
        "total": outcome.total.to_dict() if outcome.total else None,
        "summary": quantization_sentences(outcome.comparison),
        "machine": asdict(outcome.machine),
        "notes": list(outcome.notes),
    }
