"""What a run came to, for whoever had it trained."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlkit.core.components import is_import_path
from dlkit.core.trained_config import names_of_data
from dlkit.core.training.setup import Job
from dlkit.core.training.tracking import PageWriter
from dlkit.errors import UsageError
from dlkit.run_figure import draw_history
from dlkit.run_folders import MODEL_FILE, RESOLVED_FILE
from dlkit.tasks import TaskName

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class TrainResult:
    """What a run came to. `metrics` are those of the test split, fractions of 1; `best` the value that decided best.pt;
    `input_kind` is `image`, `sequence` or `features`. What other commands need to be told again, as a model file never names
    code of the user's own: `config_path` where the data or a transform is such code, and the class of the network, `own_model`.
    `predicts_files` says whether `dlkit predict` can prepare images as evaluation did. `write_page` is what `report` calls; `dlkit.train`
    puts it in.
    """

    run_dir: Path
    model_path: Path
    status: str
    metrics: Mapping[str, float]
    best: Mapping[str, Any]
    history: Sequence[Mapping[str, float | int | None]] = field(default_factory=list)
    input_kind: str = "image"
    task: TaskName = "classification"
    config_path: Path | None = None
    own_model: str | None = None
    predicts_files: bool = True
    write_page: PageWriter | None = field(default=None, repr=False, compare=False)

    def plot(self) -> "Figure":
        """Returns the curves of the run as a matplotlib figure; a notebook shows it."""
        return draw_history(self.history, self.best, title=self.run_dir.name)

    def report(self, output: str | Path | None = None) -> Path:
        """Write the page of the run, report.html in its folder unless `output` says so, and return its path. It replaces an older page."""
        if self.write_page is None:
            raise UsageError(
                f"only results of dlkit.train write their page; dlkit.write_report({str(self.run_dir)!r}) does"
            )
        return self.write_page(self.run_dir, Path(output) if output else None)


def result_of(
    job: Job, run_dir: Path, status: str, metrics: Mapping[str, float], best: Mapping[str, Any]
) -> TrainResult:
    """Returns it, with what other commands need to be told."""
    is_own_data = any(map(is_import_path, names_of_data(job.config)))
    is_own_look = any(is_import_path(transform.name) for transform in job.config.data.eval_transforms)
    kind = job.data.info.kind
    return TrainResult(
        run_dir, run_dir / MODEL_FILE, status, metrics, best, job.learner.history, kind, job.data.info.task,
        config_path=run_dir / RESOLVED_FILE if is_own_data else None,
        own_model=job.arch.name if job.arch.registry == "user" else None,
        predicts_files=kind == "image" and not is_own_look,
    )  # fmt: skip
