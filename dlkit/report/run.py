"""A report: the table of contents of a page about one run, or about several."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from dlkit import __version__
from dlkit.errors import FileRefused, UsageError
from dlkit.event_lines import metric_value
from dlkit.events import Emit, Note, ignore
from dlkit.files import check_ending, check_output, write_text
from dlkit.quantities import duration_text
from dlkit.report.blocks import Headline, Page, PageSection
from dlkit.report.changes import change_blocks, find_changes
from dlkit.report.comparison import comparison_sections
from dlkit.report.curves import curve_charts
from dlkit.report.mistakes import mistake_blocks
from dlkit.report.network import network_blocks
from dlkit.report.origin import config_blocks, environment_facts, summary_facts
from dlkit.report.page import check_drawing, render_page
from dlkit.report.sample_pictures import Drawings, draw_pictures
from dlkit.report.scores import score_blocks
from dlkit.report.words import interval_text, metric_title, short_name
from dlkit.run_folders import (
    PREDICTIONS_FILE,
    KeptPredictions,
    StoredEvaluation,
    StoredRun,
    has_begun,
    read_evaluation,
    read_predictions,
    read_run,
)
from dlkit.tasks import TRAITS

FILE_NAME = "report.html"


@dataclass(frozen=True)
class ReportRequest:
    """The run folders, and where the page goes: into the folder of the run, or of several here, unless `output` says so. `opens_models`
    is for pictures of mistakes and the table of layers, for which torch and the data are loaded.
    """

    runs: tuple[Path, ...]
    output: Path | None = None
    opens_models: bool = True
    is_forced: bool = False

    @property
    def path(self) -> Path:
        """The page."""
        return self.output or (self.runs[0] / FILE_NAME if len(self.runs) == 1 else Path(FILE_NAME))


@dataclass(frozen=True)
class ReportResult:
    """The page that was written, and its size."""

    path: Path
    num_bytes: int


def check_report(request: ReportRequest) -> None:
    """Raise UsageError or OutputError for what is no run folder, a page that may not be written, and packages that are missing."""
    check_drawing()
    for path in request.runs:
        if not has_begun(path):
            raise UsageError(f"{path} is no run folder: it has no run.json. `dlkit train` makes one below runs/")
    check_ending(request.path, (".html", ".htm"))
    check_output(request.path, may_replace=request.is_forced)


def run_report(request: ReportRequest, emit: Emit = ignore) -> ReportResult:
    """Write the page of one run with all that is known of it, or of several with what sets them apart. Raises as `check_report`."""
    check_report(request)
    runs = [read_run(path) for path in request.runs]
    for problem in (problem for run in runs for problem in run.problems):
        emit(Note(problem))
    page = (
        describe_run(runs[0], opens_models=request.opens_models, emit=emit)
        if len(runs) == 1
        else _describe_runs(runs, emit)
    )
    write_text(request.path, render_page(page))
    return ReportResult(request.path, request.path.stat().st_size)


def write_run_page(run_dir: Path, output: Path | None = None, *, opens_models: bool = True) -> Path:
    """Write the page of a run in place of an older one, and return its path. Raises as `check_report`."""
    return run_report(ReportRequest((run_dir,), output, opens_models=opens_models, is_forced=True)).path


def describe_run(run: StoredRun, *, opens_models: bool, emit: Emit) -> Page:
    """Returns the page of one run; sections that would be empty are left out."""
    found, kept = evaluation_of(run, emit), _predictions_of(run, emit)
    sections = [
        PageSection("summary", "Summary", [summary_facts(run)]),
        PageSection("curves", "Curves", curve_charts([run])),
        *(_score_sections(run, found, kept, opens_models=opens_models) if found else ()),
        *_change_sections(run),
        *((PageSection("model", "Model", network_blocks(run.model_path)),) if opens_models and run.model_path else ()),
        PageSection("config", "Config", list(config_blocks(run))),
        PageSection("origin", "Versions and hardware", [environment_facts(run)]),
    ]
    time = duration_text(run.train_s) if run.train_s else ""
    words = [f"{run.model} on {short_name(run.data)}", time, str(run.facts.get("started", ""))[:10]]
    filled = [section for section in sections if section.blocks]
    return Page(run.name, " · ".join(filter(None, words)), run.status, list(_headlines(run, found)), filled, _made())


def _score_sections(
    run: StoredRun, found: StoredEvaluation, kept: KeptPredictions | None, *, opens_models: bool
) -> Iterator[PageSection]:
    yield PageSection("scores", "Scores", score_blocks(found, kept))
    drawn = draw_pictures(run.model_path, found) if opens_models and run.model_path else Drawings()
    yield PageSection("mistakes", "Mistakes", mistake_blocks(found, drawn))


def _change_sections(run: StoredRun) -> Iterator[PageSection]:
    if changes := find_changes(run.path):
        yield PageSection(
            "changes", "Made smaller", [block for path, report in changes for block in change_blocks(path, report)]
        )


def _headlines(run: StoredRun, found: StoredEvaluation | None) -> Iterator[Headline]:
    """Yields what judges, on the split that judged, with its interval; before the end the best epoch so far."""
    if found is not None:
        judging = TRAITS[found.task].judging
        names = [
            name
            for name in dict.fromkeys((judging, *_BESIDE.get(found.task, ())))
            if found.metrics.get(name) is not None
        ]
        for name in names[:2]:
            interval = interval_text(name, found.intervals.get(name))
            yield Headline(metric_value(name, found.metrics[name]), f"{found.split} {metric_title(name)}", interval)
    elif run.best:
        name = str(run.best["metric"])
        yield Headline(metric_value(name, run.best["value"]), f"best {name}", f"epoch {run.best.get('epoch')}")
    if isinstance(count := run.facts.get("parameters"), int):
        yield Headline(f"{count:,}", "parameters")
    if run.train_s:
        yield Headline(duration_text(run.train_s), "of training")


_BESIDE = {"multilabel": ("micro_f1",), "segmentation": ("dice",), "regression": ("r2", "mae")}


def _describe_runs(runs: Sequence[StoredRun], emit: Emit) -> Page:
    sections = comparison_sections(runs, [evaluation_of(run, emit) for run in runs])
    title = " and ".join(run.name for run in runs) if len(runs) == 2 else f"{len(runs)} runs"
    models, data = (
        " / ".join(dict.fromkeys(short_name(getattr(run, name)) for run in runs)) for name in ("model", "data")
    )
    return Page(title, f"{models} on {data}", "", [], [part for part in sections if part.blocks], _made())


def evaluation_of(run: StoredRun, emit: Emit) -> StoredEvaluation | None:
    """Returns what a run scored; a file that cannot be read is a note."""
    try:
        return read_evaluation(run.path)
    except FileRefused as error:
        emit(Note(str(error)))
        return None


def _predictions_of(run: StoredRun, emit: Emit) -> KeptPredictions | None:
    path = run.path / PREDICTIONS_FILE
    try:
        return read_predictions(path) if path.exists() else None
    except FileRefused as error:
        emit(Note(str(error)))
        return None


def _made() -> str:
    return f"dlkit {__version__}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
