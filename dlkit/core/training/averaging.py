"""The mean of the last checkpoints of a run, which is exported where it is better than the best of its epochs.

Source: Izmailov et al.: Averaging weights leads to wider optima and better generalization, 2018 (arXiv 1803.05407).
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from dlkit.core.distributed import load_whole
from dlkit.core.evaluation import evaluate
from dlkit.core.training.folder import newest_checkpoints, read_exported
from dlkit.core.training.improvement import is_better
from dlkit.core.training.setup import Job
from dlkit.errors import FileRefused
from dlkit.event_lines import metric_value
from dlkit.events import Emit, Note

Weights = Mapping[str, Tensor]


def average_weights(states: Iterable[Weights]) -> dict[str, Tensor]:
    """Returns the mean of weights and floating-point buffers, among them batch norm's statistics; counters are those of the first.

    Sums are kept in float64. Of no weights the mean is empty.
    """
    remaining = iter(states)
    first = next(remaining, {})
    sums = {name: tensor.double() for name, tensor in first.items() if tensor.is_floating_point()}
    count = 1
    for state in remaining:
        count += 1
        for name, total in sums.items():
            sums[name] = total + state[name].double()
    return {name: (sums[name] / count).to(tensor.dtype) if name in sums else tensor for name, tensor in first.items()}


@contextmanager
def wearing(model: nn.Module, state_dict: Weights) -> Iterator[nn.Module]:
    """A model with other weights, whole ones also where it is cut over processes; its own come back."""
    kept = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    load_whole(model, state_dict)
    try:
        yield model
    finally:
        model.load_state_dict(kept, strict=True)


def pick_average(
    job: Job, checkpoints: Path | None, state_dict: Weights, best: dict[str, Any], emit: Emit
) -> tuple[Weights, dict[str, Any]]:
    """Returns the weights to export and what made them the best: those of the best epoch, or the mean of the last checkpoints.

    Both are judged on the validation split; of equal ones the mean is taken. Only rank 0 has `checkpoints`; all must ask together.
    """
    wanted, world = job.config.checkpoint.average, job.world
    if wanted is None or job.data.val is None:
        return state_dict, best

    def read() -> tuple[dict[str, Tensor], int]:
        assert checkpoints is not None
        paths, refused = newest_checkpoints(checkpoints, wanted), list[FileRefused]()
        averaged = average_weights(read_exported(paths, refused))
        for error in refused:
            emit(Note(f"{error}; it is left out of the mean of checkpoints"))
        return averaged, len(paths) - len(refused)

    averaged, count = world.from_main(read)
    if not averaged:
        return state_dict, best
    metric = str(best["metric"])
    name = metric.removeprefix("val_").removeprefix("ema_")
    with wearing(job.learner.evaluated_model, averaged) as model:
        means = evaluate(model, job.data.val, job.learner.scoring, world=world, emit=emit)
    assert means is not None
    value = means[name]
    is_taken = value == best["value"] or is_better(value, best["value"], mode=job.learner.best.mode)
    shown = f"{metric} {metric_value(metric, value)} with the mean of {count} checkpoints"
    than = "" if best["value"] is None else f", {metric_value(metric, best['value'])} in epoch {best['epoch']}"
    emit(Note(f"{shown}{than}: {'the mean' if is_taken else 'the epoch'} is exported"))
    return (averaged, best | {"value": value, "averaged": count}) if is_taken else (state_dict, best)
