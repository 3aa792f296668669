"""A whole training run: the table of contents.

join the other processes, if any (distributed/joining.py) -> find the run folder or the checkpoint (folder/location.py)
-> open and load the data (data/opening.py, data/build.py), choose what the config leaves open (resolving.py) and build the
learner (setup.py) -> one batch through network and loss (preflight.py) -> run folder (folder/run_folder.py) -> train
(fit.py, step.py), with records (folder/records.py) and checkpoints (folder/checkpoints.py) -> test the best weights once
(judging.py), and keep what they say of each sample (evaluation/keeping.py) -> model.pt (modelfile.py) and summary.json; what
the caller gets is in result.py.
"""

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlkit.config import LoadedConfig, dump_config, load_config, load_mapping
from dlkit.core.devices import pick_threads, torch_settings
from dlkit.core.distributed import check_same_program, joined
from dlkit.core.environment import now
from dlkit.core.evaluation import class_colors
from dlkit.core.modelfile import save_model_file
from dlkit.core.models import parameter_count
from dlkit.core.out_of_memory import explain_out_of_memory
from dlkit.core.stopping import StopRequest, watch_save_signal, watch_signals
from dlkit.core.torchfile import refused
from dlkit.core.training.fit import fit, has_ended
from dlkit.core.training.folder import (
    Board,
    EndedRun,
    Follower,
    MapPictures,
    Resume,
    Resumed,
    RunFolder,
    RunLocation,
    RunRecords,
    check_disk_space,
    check_same_run,
    extend_schedule,
    facts_of,
    flat_hparams,
    log_to,
    mend_best,
    pick_location,
    resume_command,
    run_started,
    spec_of,
    summary_of,
    told_in_full,
)
from dlkit.core.training.judging import best_weights, judge_best
from dlkit.core.training.preflight import check_first_batch
from dlkit.core.training.resolving import run_name
from dlkit.core.training.result import TrainResult, result_of
from dlkit.core.training.setup import Job, build_job
from dlkit.core.training.tracking import PageWriter, check_trackers, tracked
from dlkit.errors import Diverged, DlkitError, Interrupted
from dlkit.events import Emit, Note, Saved, ignore
from dlkit.files import write_json
from dlkit.quantities import parse_duration_s
from dlkit.run_folders import SUMMARY_FILE
from dlkit.signals import Stopped, stopped_by_signals, stops_ignored
from dlkit.tasks import TRAITS

if TYPE_CHECKING:
    pass


def train(
    config: str | Path | Mapping[str, Any],
    *,
    overrides: Sequence[str] = (),
    out: str | Path | None = None,
    resume: str | Path | Resume | None = None,
    write_page: PageWriter | None = None,
    emit: Emit = ignore,
) -> TrainResult:
    """Train from a YAML file or a mapping, as `dlkit train` does, and return where the results lie.

    `resume` is a run folder or a checkpoint, or a `Resume` that says more. Raises the errors of dlkit.errors; nothing is printed.
    """
    resume = Resume(Path(resume)) if isinstance(resume, str | Path) else resume
    loaded = load_mapping(config) if isinstance(config, Mapping) else load_config(Path(config), overrides=overrides)
    result = run_training(loaded, out=Path(out) if out else None, resume=resume, write_page=write_page, emit=emit)
    return replace(result, write_page=write_page)


def run_training(
    loaded: LoadedConfig,
    *,
    out: Path | None = None,
    resume: Resume | None = None,
    stop: StopRequest | None = None,
    write_page: PageWriter | None = None,
    emit: Emit = ignore,
) -> TrainResult:
    """Train as the config says, into `out` or the next free run folder, or go on as `resume` says.

    Whoever gives `stop` may end the run by it, at its deadline or with a status of its own; what is ended so is not tested. Trackers
    that show pages of runs have them written by `write_page`.
    Under torchrun this is one of several processes: rank 0 reports and writes, and all get the result.
    """
    runtime = loaded.config.runtime
    with stopped_by_signals("nothing was written"), joined(runtime) as world:
        emit = emit if world.is_main else ignore
        stop = stop or StopRequest()
        stop.is_shared = not world.is_alone
        check_same_program(loaded, world)
        location = world.from_main(lambda: pick_location(loaded, world, out=out, resume=resume, emit=emit))
        world.from_main(lambda: check_trackers(loaded))
        with (
            watch_save_signal(stop),
            torch_settings(threads=pick_threads(runtime.threads, world), deterministic=runtime.deterministic),
            explain_out_of_memory(loaded.config),
        ):
            if location.resumed:
                loaded = extend_schedule(loaded, location.resumed, resume.extend if resume else None)
            job = build_job(loaded, world=world, emit=emit)
            check_first_batch(job.learner, job.data, loaded)
            if location.resumed:
                check_same_run(location.resumed, job, resume, emit)
                if location.resumed.ended:
                    return _ended_before(location.resumed.ended, job, location.place)
            if not world.is_main:
                return _follow(job, location.resumed, stop)
            check_disk_space(location.place, job.learner)
            return _run_in_folder(job, location, stop, emit, write_page=write_page)


def _run_in_folder(
    job: Job, location: RunLocation, stop: StopRequest, emit: Emit, *, write_page: PageWriter | None
) -> TrainResult:
    folder = location.open(run_name(job.loaded), emit)
    try:
        with tracked(job, folder, log_to(folder.path / "train.log", emit), write_page=write_page) as emit:
            return _run_tracked(job, folder, location.resumed, stop, emit)
    finally:
        folder.release()


def _run_tracked(job: Job, folder: RunFolder, resumed: Resumed | None, stop: StopRequest, emit: Emit) -> TrainResult:
    try:
        with stopped_by_signals(lambda: _way_on(folder, job)):
            return _train_and_finish(job, folder, resumed, stop, emit)
    except BaseException as error:
        kinds = {Diverged: "diverged", Interrupted: "interrupted", Stopped: "interrupted"}
        status = kinds.get(type(error), "failed")
        words = str(error) if isinstance(error, DlkitError) else f"{type(error).__name__}: {error}"
        with stops_ignored(), suppress(DlkitError):  # a disk that is full hides no error behind its own
            folder.write_facts(status=status, ended=now(), error=words)
        raise


def _way_on(folder: RunFolder, job: Job) -> str:
    """What a signal outside of the training loop leaves behind."""
    if (folder.checkpoints / "last.pt").exists():
        return f"what was saved is intact. Go on with: {resume_command(folder.path, job.world)}"
    return "nothing was trained yet"


def _train_and_finish(
    job: Job, folder: RunFolder, resumed: Resumed | None, stop: StopRequest, emit: Emit
) -> TrainResult:
    records = _open_records(job, folder, resumed, emit)
    try:
        folder.write_configs(given=job.loaded.text, resolved=dump_config(job.config))
        folder.write_skipped(job.data.skipped)
        folder.write_facts(
            **facts_of(job), status="running", resumed_at_step=job.learner.position.step or None, ended=None, error=None
        )
        emit(run_started(job, folder))
        if has_ended(job.learner, job.plan):
            emit(Note("this run has come to its end already; nothing is left to train"))
        with told_in_full(job.learner, job.data, folder.path):
            status = _fit(job, records, stop, emit)
        return _finish(job, folder, records, status, emit, is_tested=status != stop.ended_as)
    finally:
        records.close()


def _follow(job: Job, resumed: Resumed | None, stop: StopRequest) -> TrainResult:
    """Train as a process whose rank is not 0: all is computed and nothing is written."""
    if resumed:
        _go_back(job, resumed)
    status = _fit(job, Follower(), stop, ignore)
    run_dir, state_dict, best = best_weights(job, None, ignore)
    _, metrics = judge_best(job, None, state_dict, ignore, is_tested=status != stop.ended_as)
    return result_of(job, run_dir, status, metrics, best)


def _go_back(job: Job, resumed: Resumed) -> None:
    """Put the learner where the checkpoint left it. Raises FileRefused for state of another network or optimizer."""
    with refused(resumed.path, "its state does not fit this run: "):
        job.learner.load_state_dict(resumed.state)
    if resumed.best is None:
        job.learner.best.forget()


def _open_records(job: Job, folder: RunFolder, resumed: Resumed | None, emit: Emit) -> RunRecords:
    """Returns the run's files, with the learner put where the checkpoint left it."""
    config = job.config
    step = resumed.state["position"]["step"] if resumed else None
    board = Board(folder.path / "tb", purge_step=step) if config.log.tensorboard else None
    extra = {
        "spec": spec_of(job, {}).to_dict(),
        "config": config.model_dump(mode="json"),
        "data": job.fingerprint,
        "total_steps": job.plan.total_steps,
        "teacher": job.teacher_digest,
    }
    maps = _watch_maps(job) if board else None
    records = RunRecords(folder, columns=job.columns, board=board, maps=maps, config=config, extra=extra, emit=emit)
    if board and not resumed:
        _show_first_batch(job, board, maps, emit)
    records.go_back(resumed.state if resumed else {})
    if resumed:
        _go_back(job, resumed)
        records.best_before = mend_best(resumed, folder.checkpoints, emit)
    return records


def _watch_maps(job: Job) -> MapPictures | None:
    """Returns what keeps pictures of maps for TensorBoard, if any are asked for; validation shows it its batches."""
    config, info = job.config, job.data.info
    if not (config.log.images and TRAITS[info.task].has_maps):
        return None
    maps = MapPictures(config.log.images, info, class_colors(config.model_dump(), info.num_outputs))
    job.learner.watch = maps.watch
    return maps


def _show_first_batch(job: Job, board: Board, maps: MapPictures | None, emit: Emit) -> None:
    log, batch = job.config.log, job.data.train.first_batch()
    if log.graph and not job.world.lockstep:
        board.add_graph(job.learner.model, batch.inputs, emit)
    if maps:
        board.add_classes(maps.classes)
        board.add_strips("train/images", maps.training_strips(batch), 0)
    elif log.images and job.data.info.kind == "image":
        board.add_images(batch.inputs[: log.images])


def _fit(job: Job, records: RunRecords | Follower, stop: StopRequest, emit: Emit) -> str:
    limit = job.config.train.max_time
    if limit is not None:
        stop.deadline = min(time.monotonic() + parse_duration_s(limit), stop.deadline or math.inf)
    with watch_signals(stop):
        status = fit(job.learner, job.data, job.plan, records, stop=stop, emit=emit)
    if status == "interrupted" and stop.signal_number is not None:
        job.world.wait()  # so that nobody's end looks like a failure while rank 0 still writes
        saved = f"stopped at step {job.learner.position.step}, saved."
        hint = (
            f" Go on with: {resume_command(records.folder.path, job.world)}" if isinstance(records, RunRecords) else ""
        )
        raise Interrupted(stop.signal_number, saved + hint)
    return status


def _finish(
    job: Job, folder: RunFolder, records: RunRecords, status: str, emit: Emit, *, is_tested: bool
) -> TrainResult:
    """Test the best weights once, export them, and write the summary."""
    _, state_dict, best = best_weights(job, folder, emit)
    info, metrics = judge_best(job, folder, state_dict, emit, is_tested=is_tested)
    save_model_file(folder.model_path, replace(spec_of(job, best | {"test": metrics}), info=info), state_dict)
    emit(Saved(folder.model_path, "model"))
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
        "processes": job.world.size,
        "skipped": len(job.data.skipped),
        "model": str(folder.model_path),
    }
    with stops_ignored():
        folder.write_facts(status=status, ended=now())
        write_json(folder.path / SUMMARY_FILE, summary_of(folder.facts, results))
    return result_of(job, folder.path, status, metrics, best)


def _ended_before(ended: EndedRun, job: Job, run_dir: Path) -> TrainResult:
    job.learner.history = ended.history
    return result_of(job, run_dir, ended.status, ended.test, ended.best)
