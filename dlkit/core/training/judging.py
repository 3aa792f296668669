"""The weights that a run exports, and the test split that judges them once."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from dlkit.core.data import DataInfo
from dlkit.core.evaluation import keep_evaluation, score_split, with_thresholds
from dlkit.core.training.averaging import pick_average, wearing
from dlkit.core.training.folder import RunFolder, read_best
from dlkit.core.training.setup import Job
from dlkit.events import Emit, Note, Tested


def best_weights(job: Job, folder: RunFolder | None, emit: Emit) -> tuple[Path, Mapping[str, Tensor], dict[str, Any]]:
    """Returns the run folder, the best weights (of the moving average where there is one, or a mean of checkpoints), and what made
    them the best.

    Only rank 0 has the folder; it tells the others.
    """
    best = job.learner.best
    facts = {"metric": best.metric, "value": best.value, "epoch": best.epoch}

    def read() -> tuple[Path, Mapping[str, Tensor]]:
        assert folder is not None
        return folder.path, read_best(folder.checkpoints, best.state_dict())

    run_dir, state_dict = job.world.from_main(read)
    return run_dir, *pick_average(job, folder.checkpoints if folder else None, state_dict, facts, emit)


def judge_best(
    job: Job, folder: RunFolder | None, state_dict: Mapping[str, Tensor], emit: Emit, *, is_tested: bool
) -> tuple[DataInfo, dict[str, float]]:
    """Returns the description of the data with the thresholds of labels, chosen on validation, and the metrics of the test split.

    Rank 0 has the folder, and keeps there what is said of each sample, of validation where nothing is tested.
    """
    model, scoring, info, data = job.learner.evaluated_model, job.learner.scoring, job.data.info, job.data
    split = data.test if is_tested and data.test is not None and job.config.eval.test else data.val
    if split is None and info.task != "multilabel":
        return info, {}
    with wearing(model, state_dict):
        info = with_thresholds(model, data.val, scoring, info, world=job.world, emit=emit)
        if split is None:
            return info, {}
        scoring, is_tested = replace(scoring, info=info), split is data.test
        use_tta = is_tested and job.config.eval.tta
        metrics, found = score_split(model, split, scoring, use_tta=use_tta, world=job.world, emit=emit)
    if folder is not None:
        samples = job.fingerprint[split.name]
        keep_evaluation(folder.path, metrics, found, split, scoring=scoring, samples=samples, emit=emit)
    return info, _tested(job, metrics, emit) if is_tested else {}


def _tested(job: Job, metrics: dict[str, float], emit: Emit) -> dict[str, float]:
    """Report the metrics of the test split."""
    emit(Tested("test", metrics))
    if job.config.data.val == "test":
        emit(Note("the test split also chose the best epoch, so these numbers are optimistic"))
    return metrics
