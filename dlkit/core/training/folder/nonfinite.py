"""nonfinite.json: what is known of the step at which a loss, or weights, stopped being finite numbers."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dlkit.core.data import Batch, DataSplits
from dlkit.core.distributed import local_part
from dlkit.core.training.learner import Learner
from dlkit.errors import Diverged, DlkitError
from dlkit.files import write_json

NONFINITE_FILE = "nonfinite.json"


@contextmanager
def told_in_full(learner: Learner, data: DataSplits, run_dir: Path) -> Iterator[None]:
    """When training diverges, write what is known of it into the run folder, and say where."""
    try:
        yield
    except Diverged as error:
        report = _report(error, learner, data)
        with suppress(DlkitError):  # the disk may be full, too
            write_json(run_dir / NONFINITE_FILE, report)
        bad = report["samples_not_finite"]
        culprit = f"; not finite as they are read: {', '.join(bad[:3])}{', ...' if len(bad) > 3 else ''}" if bad else ""
        raise Diverged(f"{error}{culprit}. {run_dir / NONFINITE_FILE} tells more") from error


def _report(error: Diverged, learner: Learner, data: DataSplits) -> dict[str, Any]:
    facts = error.facts
    position = learner.position
    parts = {name: local_part(parameter.detach()) for name, parameter in learner.model.named_parameters()}
    return {
        "schema": "dlkit.nonfinite/1",
        "message": str(error),
        "epoch": facts.get("epoch", position.epoch + 1),
        "step": facts.get("step", position.step),
        "lr": facts.get("lr", [group["lr"] for group in learner.optimizer.param_groups]),
        "loss": _number(facts.get("loss")),
        "grad_norm": _number(facts.get("grad_norm")),
        "samples": [data.name_of(place) for place in facts.get("positions", ())],
        "samples_not_finite": [data.name_of(place) for place in _not_finite(facts, learner, data)],
        "weights_not_finite": [name for name, part in parts.items() if not torch.isfinite(part).all()],
    }


def _number(value: float | None) -> float | str | None:
    """JSON has no NaN and no infinity, which are the point here."""
    return value if value is None or value - value == 0 else str(value)


def _not_finite(facts: dict[str, Any], learner: Learner, data: DataSplits) -> list[int]:
    """Positions of samples that are not finite before the network sees them, by reading the batches of the step again."""
    num_batches = facts.get("num_batches", 0)
    start = learner.position.batch - num_batches
    found: list[int] = []
    with suppress(DlkitError):
        for batch in islice(data.train.without_workers().batches(learner.position.epoch, start), num_batches):
            found += batch.indices[_is_bad(batch)].tolist()
    return found


def _is_bad(batch: Batch) -> Tensor:
    parts = [part.flatten(1) if part.ndim > 1 else part[:, None] for part in (batch.inputs, batch.targets)]
    return ~torch.stack([torch.isfinite(part).all(1) for part in parts]).all(0).cpu()
