"""Opening the trackers that a config names, and passing events on to them without harm to the run."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from dlkit.config import LoadedConfig
from dlkit.core.components import at_component, check_options, import_target, is_import_path
from dlkit.core.training.folder import RunFolder
from dlkit.core.training.resolving import run_name
from dlkit.core.training.setup import Job
from dlkit.core.training.tracking.mlflow_server import check_server, open_mlflow
from dlkit.core.training.tracking.tracked_run import TRACKERS, PageWriter, TrackedRun, Tracker
from dlkit.errors import first_line
from dlkit.events import Emit, Event, Note, RunEnded


def check_trackers(loaded: LoadedConfig) -> None:
    """Raise ConfigError at the key of a tracker that cannot be reached or imported, before anything is built."""
    log = loaded.config.log
    if log.mlflow is not None:
        try:
            check_server(log.mlflow)
        except Exception as error:  # the client and the network have many errors
            raise loaded.error(("log", "mlflow"), f"{log.mlflow} does not answer: {first_line(error, 200)}") from None
    if log.tracker is not None:
        _own_tracker(loaded)


def _own_tracker(loaded: LoadedConfig) -> Tracker:
    section = loaded.config.log.tracker
    assert section is not None
    if not is_import_path(section.name):
        raise loaded.error(
            ("log", "tracker", "name"), "a tracker is a function of your own: package.module:attr or ./file.py:attr"
        )
    with at_component(loaded, "log", "tracker"):
        builder = import_target(section.name)
        first = next(iter(builder.__code__.co_varnames), "run") if hasattr(builder, "__code__") else "run"
        check_options(builder, section.options, injected=(first,))
    return partial(builder, **section.options)


@contextmanager
def tracked(job: Job, folder: RunFolder, emit: Emit, *, write_page: PageWriter | None) -> Iterator[Emit]:
    """What reports events to `emit` and to the trackers of the config, which are told the end of the run in any case.

    What a tracker raises when it is opened ends the run before it trains; what it raises later is told once.
    """
    log = job.config.log
    openers: dict[str, Tracker] = {}
    if log.mlflow is not None:
        openers["mlflow"] = partial(open_mlflow, uri=log.mlflow, write_page=write_page)
    openers |= {} if log.tracker is None else {log.tracker.name: _own_tracker(job.loaded)}
    trackers = {name: opener(_tracked_run(job, folder, name)) for name, opener in openers.items()}
    troubled: set[str] = set()

    def emit_to_all(event: Event) -> None:
        emit(event)
        for name, tracker in trackers.items():
            try:
                tracker(event)
            except Exception as error:
                if name not in troubled:
                    troubled.add(name)
                    emit(Note(f"{name}: {first_line(error, 200)}; the run goes on, and its folder has everything"))

    try:
        yield emit_to_all if trackers else emit
    finally:
        if trackers:
            emit_to_all(RunEnded(folder.path, str(folder.facts.get("status"))))


def _tracked_run(job: Job, folder: RunFolder, name: str) -> TrackedRun:
    known: dict[str, Any] = folder.facts.get(TRACKERS, {})

    def remember(identity: str) -> None:
        folder.write_facts(**{TRACKERS: folder.facts.get(TRACKERS, {}) | {name: identity}})

    config = job.config.model_dump(mode="json")
    return TrackedRun(run_name(job.loaded), folder.path, config, known.get(name), remember)
