"""A whole training run: the table of contents.

build (setup.py) -> one batch through everything (preflight.py) -> run folder (run_folder.py) -> fit (fit.py) -> test the best
weights once -> model.pt and summary.json.
"""

import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from dlkit.config import dump_config, load_config, load_mapping
from dlkit.config.loaded import LoadedConfig
from dlkit.config.quantities import parse_duration_s
from dlkit.core.devices import describe_device, torch_settings
from dlkit.core.evaluation.scores import score_split
from dlkit.core.files import write_json
from dlkit.core.modelfile import ModelSpec, save_model_file
from dlkit.core.models.summary import parameter_count
from dlkit.core.training.checkpoints import find_checkpoint, read_checkpoint
from dlkit.core.training.fit import fit
from dlkit.core.training.memory import explain_out_of_memory
from dlkit.core.training.preflight import check_first_batch
from dlkit.core.training.records import RunRecords
from dlkit.core.training.resolving import run_name
from dlkit.core.training.resuming import check_same_run, find_run_to_resume
from dlkit.core.training.run_folder import (
    RunFolder,
    check_writable,
    create_run_folder,
    describe_environment,
    now,
    reopen_run_folder,
    summary_of,
)
from dlkit.core.training.setup import Job, build_job
from dlkit.core.training.stopping import StopRequest, watch_signals
from dlkit.core.training.tensorboard import Board, flat_hparams
from dlkit.core.training.text_log import log_to
from dlkit.errors import Diverged, DlkitError, Interrupted, OutputError
from dlkit.events import Note, Report, RunStarted, Saved, Tested, ignore


@dataclass(frozen=True)
class TrainResult:
    """What a run came to. `metrics` are those of the test split, fractions of 1; `best` the value that decided best.pt;
    `input_kind` is `image`, `sequence` or `features`.
    """

    run_dir: Path
    model_path: Path
    status: str
    metrics: Mapping[str, float]
    best: Mapping[str, Any]
    history: Sequence[Mapping[str, float | int | None]] = field(default_factory=list)
    input_kind: str = "image"


def train(
    config: str | Path | Mapping[str, Any],
    *,
    overrides: Sequence[str] = (),
    out: str | Path | None = None,
    resume: str | Path | None = None,
    report: Report = ignore,
) -> TrainResult:
    """Train from a YAML file or a mapping, as `dlkit train` does, and return where the results lie.

    Raises the errors of dlkit.errors; nothing is printed.
    """
    loaded = load_mapping(config) if isinstance(config, Mapping) else load_config(Path(config), overrides=overrides)
    return run_training(loaded, out=Path(out) if out else None, resume=Path(resume) if resume else None, report=report)


def run_training(
    loaded: LoadedConfig, *, out: Path | None = None, resume: Path | None = None, report: Report = ignore
) -> TrainResult:
    """Train as the config says, into `out` or the next free run folder; `resume` is a run folder or a checkpoint.

    `Path("auto")` resumes the newest run of the config's name.
    """
    runtime = loaded.config.runtime
    checkpoint_path = _pick_checkpoint(loaded, out, resume)
    if checkpoint_path is None:
        check_writable(out or Path(runtime.out))
    threads = None if runtime.threads == "auto" else runtime.threads
    with torch_settings(threads=threads, deterministic=runtime.deterministic), explain_out_of_memory(loaded.config):
        job = build_job(loaded, report=report)
        check_first_batch(job.learner.model, job.data.train, job.learner.scoring, job.data.info, loaded)
        checkpoint = read_checkpoint(checkpoint_path) if checkpoint_path else None
        if checkpoint_path and checkpoint:
            check_same_run(checkpoint, checkpoint_path, job, report)
        folder = _open_folder(job, out, checkpoint_path)
        try:
            return _run_in_folder(job, folder, checkpoint, report)
        finally:
            folder.release()


def _pick_checkpoint(loaded: LoadedConfig, out: Path | None, resume: Path | None) -> Path | None:
    if resume is None:
        return None
    if resume == Path("auto"):
        resume = out or find_run_to_resume(Path(loaded.config.runtime.out), run_name(loaded))
    path = find_checkpoint(resume)
    if out is not None and path.parent.name == "checkpoints" and out.resolve() != path.parent.parent.resolve():
        raise OutputError(
            f"--out {out} is not the folder of the run that --resume goes on with, {path.parent.parent}; leave --out away, "
            "or copy the run folder to the new place and resume it there"
        )
    return path


def _open_folder(job: Job, out: Path | None, checkpoint_path: Path | None) -> RunFolder:
    if checkpoint_path is not None and checkpoint_path.parent.name == "checkpoints":
        return reopen_run_folder(checkpoint_path.parent.parent)
    return create_run_folder(out=out, parent=Path(job.config.runtime.out), name=run_name(job.loaded))


def _run_in_folder(job: Job, folder: RunFolder, checkpoint: dict[str, Any] | None, report: Report) -> TrainResult:
    report = log_to(folder.path / "train.log", report)
    records = _open_records(job, folder, checkpoint, report)
    folder.write_configs(given=job.loaded.text, resolved=dump_config(job.config))
    folder.write_facts(**_facts(job), status="running", resumed_at_step=job.learner.position.step or None)
    report(_run_started(job, folder))
    try:
        status = _fit(job, records, report)
        result = _finish(job, folder, records, status, report)
    except DlkitError as error:
        status = {Diverged: "diverged", Interrupted: "interrupted"}.get(type(error), "failed")
        folder.write_facts(status=status, ended=now(), error=str(error))
        raise
    except BaseException as error:
        folder.write_facts(status="failed", ended=now(), error=f"{type(error).__name__}: {error}")
        raise
    finally:
        records.close()
    return result


def _open_records(job: Job, folder: RunFolder, checkpoint: dict[str, Any] | None, report: Report) -> RunRecords:
    """The run's files, with the learner put where the checkpoint left it."""
    config = job.config
    step = checkpoint["position"]["step"] if checkpoint else None
    board = Board(folder.path / "tb", purge_step=step) if config.log.tensorboard else None
    extra = {"spec": _spec(job, {}).to_dict(), "config": config.model_dump(mode="json")}
    records = RunRecords(
        folder, columns=job.columns, board=board, log_every=int(config.log.every), extra=extra, report=report
    )
    if board and not checkpoint:
        batch = next(iter(job.data.train.batches()))
        if config.log.graph:
            board.add_graph(job.learner.model, batch.inputs, report)
        if config.log.images and job.data.info.kind == "image":
            board.add_images(batch.inputs[: config.log.images])
    if checkpoint:
        records.cut_back(checkpoint["file_sizes"])
        job.learner.load_state_dict(checkpoint)
    return records


def _facts(job: Job) -> dict[str, Any]:
    """What run.json tells beside the status."""
    total, trainable = parameter_count(job.learner.model)
    return {
        "name": run_name(job.loaded),
        "started": now(),
        "environment": describe_environment(),
        "seed": job.config.seed,
        "device": describe_device(job.device),
        "precision": job.learner.scoring.precision.name,
        "parameters": total,
        "trainable_parameters": trainable,
        "samples": job.split_sizes,
        "classes": list(job.data.info.classes or ()),
        "steps_per_epoch": job.plan.steps_per_epoch,
        "total_steps": job.plan.total_steps,
    }


def _run_started(job: Job, folder: RunFolder) -> RunStarted:
    total, trainable = parameter_count(job.learner.model)
    return RunStarted(
        run_dir=folder.path,
        model=job.arch.name,
        num_parameters=total,
        num_trainable=trainable,
        device=describe_device(job.device),
        precision=job.learner.scoring.precision.name,
        split_sizes=job.split_sizes,
        batch_size=job.config.data.batch_size,
        accumulate=job.learner.accumulate,
        epochs=job.plan.epochs,
        steps_per_epoch=job.plan.steps_per_epoch,
        total_steps=job.plan.total_steps,
        start_step=job.learner.position.step,
    )


def _fit(job: Job, records: RunRecords, report: Report) -> str:
    limit = job.config.train.max_time
    deadline = time.monotonic() + parse_duration_s(limit) if limit is not None else None
    stop = StopRequest(deadline)
    with watch_signals(stop):
        status = fit(job.learner, job.data, job.plan, records, stop=stop, report=report)
    if status == "interrupted" and stop.signal_number is not None:
        path = records.folder.path
        command = shlex.join(["dlkit", "train", str(path / "config.resolved.yaml"), "--resume", str(path)])
        raise Interrupted(
            stop.signal_number, f"stopped at step {job.learner.position.step}, saved. Go on with: {command}"
        )
    return status


def _finish(job: Job, folder: RunFolder, records: RunRecords, status: str, report: Report) -> TrainResult:
    """Test the best weights once, export them, and write the summary."""
    state_dict, best = _best_weights(job, folder)
    metrics = _test(job, state_dict, report)
    save_model_file(folder.model_path, _spec(job, best | {"test": metrics}), state_dict)
    report(Saved(folder.model_path, "model"))
    if records.board:
        final = {f"test_{name}": value for name, value in metrics.items()} or {best["metric"]: best["value"]}
        records.board.add_hparams(flat_hparams(job.config.model_dump(mode="json")), final)
    learner = job.learner
    results = {
        "test": metrics,
        "best": best,
        "epochs": learner.position.epoch,
        "steps": learner.position.step,
        "train_s": round(learner.train_s, 3),
        "images_per_s": round(learner.position.samples / learner.train_s, 1) if learner.train_s else None,
        "parameters": parameter_count(learner.model)[0],
        "model": str(folder.model_path),
    }
    folder.write_facts(status=status, ended=now())
    write_json(folder.path / "summary.json", summary_of(folder.facts, results))
    kind = job.data.info.kind
    return TrainResult(folder.path, folder.model_path, status, metrics, best, learner.history, kind)


def _best_weights(job: Job, folder: RunFolder) -> tuple[Mapping[str, Tensor], dict[str, Any]]:
    """The weights of best.pt (the moving average where there is one), and what made them the best."""
    best = job.learner.best
    facts = {"metric": best.metric, "value": best.value, "epoch": best.epoch}
    path = folder.checkpoints / "best.pt"
    if best.value is None or not path.exists():
        return job.learner.judged_model.state_dict(), facts
    checkpoint = read_checkpoint(path)
    ema = checkpoint["state_dict_ema"]
    return (ema["state_dict"] if ema else checkpoint["state_dict"]), facts


def _test(job: Job, state_dict: Mapping[str, Tensor], report: Report) -> dict[str, float]:
    if job.data.test is None or not job.config.eval.test:
        return {}
    model = job.learner.judged_model
    kept = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.load_state_dict(dict(state_dict), strict=True)
    try:
        metrics = score_split(model, job.data.test, job.learner.scoring, use_tta=job.config.eval.tta, report=report)
    finally:
        model.load_state_dict(kept, strict=True)
    report(Tested("test", metrics))
    if job.config.data.val == "test":
        report(Note("the test split also chose the best epoch, so these numbers are optimistic"))
    return metrics


def _spec(job: Job, results: Mapping[str, Any]) -> ModelSpec:
    config = job.config.model_dump(mode="json")
    environment = describe_environment()
    provenance = {
        "created": now(),
        "seed": job.config.seed,
        **{name: environment[name] for name in ("dlkit", "torch", "torchvision")},
        **results,
    }
    return ModelSpec(job.arch, job.data.info, data=config["data"], config=config, provenance=provenance)
