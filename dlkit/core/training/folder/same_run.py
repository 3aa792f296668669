"""Whether a config and its data still describe the run that is resumed, and how a longer run goes on."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from dlkit.choices import Extension
from dlkit.config import LoadedConfig
from dlkit.core.data import DataInfo, fingerprint_differences
from dlkit.core.training.folder.resuming import Resumed
from dlkit.core.training.setup import Job
from dlkit.errors import UsageError
from dlkit.events import Emit, Note
from dlkit.run_folders import FREE_SETTINGS, default_settings, flat_settings, is_among

_TEACHER = {"train.distill.teacher", "train.distill.model"}  # its file is compared by its hash
# what a machine may force, or what only the last report depends on: told
_TOLD = {"runtime", "train.channels_last", "eval.tta", "eval.test", "data.eval_batch_size"}
_LENGTHS = {"train.epochs", "train.max_steps"}
_CURVE = "schedule.length"


@dataclass(frozen=True)
class Resume:
    """What `--resume` asks for: a run folder, a checkpoint, or `auto` for the newest run. `is_relaxed` goes on in spite of changed
    settings and data and without the best weights of before; `extend` says how the learning rate of a run of another length goes on.
    """

    path: Path
    is_relaxed: bool = False
    extend: Extension | None = None


def extend_schedule(loaded: LoadedConfig, resumed: Resumed, how: Extension | None) -> LoadedConfig:
    """The config of a run whose length changes: `stretch` lays the curve over the new length, `tail` lets it end where it ended and
    holds its last rate. Unchanged where the length is that of the checkpoint.
    """
    if how is None:
        return loaded
    saved = resumed.state["config"]
    train, before = loaded.config.train, saved["train"]
    is_same = (train.epochs, train.max_steps) == (before["epochs"], before["max_steps"])
    length = saved["schedule"]["length"]
    if how == "tail" and length == "auto" and not is_same:
        length = f"{resumed.state['total_steps']}st"
    if how == "stretch" and not is_same:
        length = "auto"
    schedule = loaded.config.schedule.model_copy(update={"length": length})
    return replace(loaded, config=loaded.config.model_copy(update={"schedule": schedule}))


def check_same_run(resumed: Resumed, job: Job, resume: Resume | None, emit: Emit) -> None:
    """Compare config and data with the checkpoint's. Raises UsageError, with a list, when the run would become another one, unless
    `resume` is relaxed about it.
    """
    path, checkpoint = resumed.path, resumed.state
    saved, current = _settings(checkpoint, job)
    changed = sorted(key for key in saved.keys() | current.keys() if saved.get(key) != current.get(key))
    allowed = FREE_SETTINGS | _TEACHER | _compare_processes(checkpoint, saved, current, path, job, emit)
    if resume is not None and resume.extend:
        allowed |= _LENGTHS | {_CURVE}
        _note_extension(changed, saved, current, emit)
    changed = [key for key in changed if not is_among(key, allowed)]
    lines = {
        key: f"{key}: {_shown(saved.get(key))} in the checkpoint, {_shown(current.get(key))} now" for key in changed
    }
    for key in changed:
        if is_among(key, _TOLD):
            emit(Note(lines.pop(key)))
    problems = [*lines.values(), *_data_differences(checkpoint, job), *_teacher_differences(checkpoint, job)]
    if resume is not None and resume.is_relaxed:
        for problem in problems:
            emit(Note(f"{problem}; going on all the same"))
    elif problems:
        raise UsageError(_refusal(path, problems, is_longer=not _LENGTHS.isdisjoint(lines)))
    _note_differences(checkpoint["spec"]["provenance"], emit)


def _settings(checkpoint: Mapping[str, Any], job: Job) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings of the checkpoint and those of now, by dotted key."""
    current = flat_settings(job.config.model_dump(mode="json"))
    default = default_settings()  # a checkpoint of an older dlkit has no value for a key that is new
    saved = flat_settings(checkpoint["config"])
    return {key: default[key] for key in default.keys() & current.keys()} | saved, current


def _note_extension(changed: list[str], saved: Mapping[str, Any], current: Mapping[str, Any], emit: Emit) -> None:
    for key in sorted(_LENGTHS & set(changed)):
        how = (
            "the schedule is stretched over the new length from here on"
            if current[_CURVE] == "auto"
            else f"the schedule ends at {current[_CURVE]} and its last rate is held"
        )
        emit(Note(f"{key} was {_shown(saved.get(key))} and is {_shown(current.get(key))}: {how}"))


def _data_differences(checkpoint: Mapping[str, Any], job: Job) -> list[str]:
    found = fingerprint_differences(checkpoint["data"], job.fingerprint)
    if DataInfo.from_dict(checkpoint["spec"]["input"]) != job.data.info:
        found.append("data: classes, sizes or statistics differ from those in the checkpoint")
    return found


def _teacher_differences(checkpoint: Mapping[str, Any], job: Job) -> list[str]:
    section = job.config.train.distill
    if section is None or checkpoint.get("teacher") in (None, job.teacher_digest):
        return []
    return [
        f"train.distill.teacher: {section.teacher} holds another teacher than the one that taught until the checkpoint"
    ]


def _refusal(path: Path, problems: list[str], *, is_longer: bool) -> str:
    listed = "\n".join(f"  {problem}" for problem in problems)
    advice = "Give the run's own config and data, or --resume-relaxed to go on all the same, or start a new run with model.weights="
    longer = (
        "To train longer say how the learning rate goes on: --extend stretch lays the schedule over the new length from here on, "
        "--extend tail lets it end as planned and holds its last rate.\n"
    )
    return f"{path} belongs to another run:\n{listed}\n{longer if is_longer else ''}{advice}{path}"


def _compare_processes(
    checkpoint: Mapping[str, Any],
    saved: Mapping[str, Any],
    current: Mapping[str, Any],
    path: Path,
    job: Job,
    emit: Emit,
) -> set[str]:
    """Returns the keys that may differ for it. The same samples must make up an update: processes x batch_size stays.

    Raises UsageError when another number of processes makes it another run.
    """
    then, now = len(checkpoint.get("processes") or [0]), job.world.size
    if then == now:
        return set()
    size = int(saved["data.batch_size"])
    is_same = size * then == int(current["data.batch_size"]) * now and job.config.optimizer.lr_scale == "none"
    if not is_same:
        fitting = size * then // now
        way_out = f", or data.batch_size={fitting}" if size * then % now == 0 else ""
        raise UsageError(
            f"{path} was trained by {then} process{'es' if then > 1 else ''} with batches of {size}, now {now} would take "
            f"{current['data.batch_size']} each, which makes another run of it. Give --nproc {then}{way_out} (with "
            "optimizer.lr_scale: none)"
        )
    emit(Note(f"trained by {then} before and by {now} now, with the same samples per update; dropout draws anew"))
    return {"data.batch_size", "data.eval_batch_size"}


def _shown(value: Any) -> str:
    return "not set" if value is None else repr(value)


def _note_differences(provenance: Mapping[str, Any], emit: Emit) -> None:
    if provenance.get("torch") != torch.__version__.split("+")[0]:
        emit(
            Note(
                f"saved with torch {provenance.get('torch')}, this is {torch.__version__}: the last bits of results may differ"
            )
        )
    if provenance.get("threads") not in (None, torch.get_num_threads()):
        emit(
            Note(
                f"saved with {provenance['threads']} CPU threads, now {torch.get_num_threads()} of {os.cpu_count()}: last bits may differ"
            )
        )
