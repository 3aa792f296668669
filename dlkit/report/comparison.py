"""What sets several runs apart: settings that differ, metrics side by side, and their curves one over the other."""

from collections.abc import Iterator, Sequence

from dlkit.event_lines import metric_value
from dlkit.quantities import duration_text
from dlkit.report.blocks import Cell, PageSection, Sheet
from dlkit.report.curves import curve_charts
from dlkit.report.words import (
    change_cell,
    interval_text,
    metric_cell,
    metric_title,
    share_cell,
    short_name,
)
from dlkit.run_comparison import compare_runs
from dlkit.run_folders import StoredEvaluation, StoredRun, differing_settings, setting_text

Evaluations = Sequence[StoredEvaluation | None]


def comparison_sections(runs: Sequence[StoredRun], found: Evaluations) -> list[PageSection]:
    """Returns the sections of a page about these runs, whose evaluations stand in the same order."""
    return [
        PageSection("runs", "Runs", [_overview(runs, found)]),
        PageSection("curves", "Curves", curve_charts(runs)),
        PageSection("scores", "Scores", [*_metrics(runs, found), *_chances(runs)]),
        PageSection("classes", "Class by class", list(_classes(runs, found))),
        PageSection("settings", "Settings that differ", list(_settings(runs))),
    ]


def _overview(runs: Sequence[StoredRun], found: Evaluations) -> Sheet:
    rows = []
    for run, scores in zip(runs, found, strict=True):
        name, value = str(run.best.get("metric", "")), run.best.get("value")
        best = Cell(metric_value(name, value), value) if name else Cell("")
        parameters = run.facts.get("parameters")
        count = Cell(f"{parameters:,}", parameters) if isinstance(parameters, int) else Cell("")
        time = Cell(duration_text(run.train_s), run.train_s) if run.train_s else Cell("")
        judged = f"{scores.num_samples:,} {scores.split}" if scores else ""
        rows.append(
            (
                Cell(run.name),
                Cell(run.status),
                Cell(run.model),
                Cell(short_name(run.data)),
                count,
                Cell(judged),
                best,
                Cell(name),
                time,
            )
        )
    columns = ("run", "status", "model", "data", "parameters", "judged by", "best", "which is", "training")
    return Sheet(columns, rows)


def _metrics(runs: Sequence[StoredRun], found: Evaluations) -> Iterator[Sheet]:
    """Metrics of all runs, and by how much each is off the first."""
    known = [scores.metrics if scores else {} for scores in found]
    names = dict.fromkeys(name for metrics in known for name in metrics)
    if not names:
        return
    rows = []
    for name in names:
        values = [metrics.get(name) for metrics in known]
        cells = [Cell(metric_title(name))]
        for scores, value in zip(found, values, strict=True):
            interval = interval_text(name, scores.intervals.get(name)) if scores else ""
            cell = metric_cell(name, value)
            cells.append(Cell(f"{cell.text}  ({interval})" if interval else cell.text, cell.value))
        rows.append([*cells, *(_difference(name, values[0], value) for value in values[1:])])
    off = ["difference"] if len(runs) == 2 else [f"{run.name} − {runs[0].name}" for run in runs[1:]]
    note = "In brackets 95 % intervals of each run by itself."
    samples = {(scores.split, scores.num_samples) for scores in found if scores}
    if len(samples) > 1:
        note += " The runs were not judged by the same samples."
    yield Sheet(("metric", *(run.name for run in runs), *off), rows, note=note)


def _difference(name: str, first: float | None, value: float | None) -> Cell:
    return Cell("") if first is None or value is None else change_cell(name, value - first)


def _chances(runs: Sequence[StoredRun]) -> Iterator[Sheet]:
    """Whether differences are more than chance, as `dlkit compare` tells it."""
    compared = compare_runs(runs)
    if len(compared.groups) < 2:
        return
    names = {group.letter: ", ".join(run.name for run in group.runs) for group in compared.groups}
    first = next(iter(names.values()))
    rows = [
        (
            Cell(f"{names[each.letter]} − {first}"),
            Cell(each.metric.replace("_", " ")),
            change_cell(each.metric, each.difference),
            Cell("" if each.low is None or each.high is None else interval_text(each.metric, (each.low, each.high))),
            Cell("" if each.p is None else "< 0.001" if each.p < 0.001 else f"{each.p:.3f}", each.p),
            Cell(f"{each.verdict}: {each.why}" if each.why else each.verdict),
        )
        for each in compared.differences
    ]
    by = "the runs of several seeds" if compared.over_seeds else "the same samples"
    note = f"Judged by {by}, as `dlkit compare` does; p is adjusted for the number of runs that are compared with the first."
    if rows:
        columns = ("difference", "metric", "by", "95 % interval", "p", "verdict")
        yield Sheet(columns, rows, title="Is it more than chance?", note=note)


def _classes(runs: Sequence[StoredRun], found: Evaluations) -> Iterator[Sheet]:
    """F1, or IoU of maps, of each class or label in all runs, where all have the same."""
    known = [(*scores.per_class, *scores.per_label) if scores else () for scores in found]
    names = [[row["name"] for row in rows] for rows in known]
    if not names[0] or any(other != names[0] for other in names):
        return
    share = "iou" if "iou" in known[0][0] else "f1"
    table = [
        [Cell(name), *(share_cell(rows[place].get(share)) for rows in known)] for place, name in enumerate(names[0])
    ]
    yield Sheet((f"{'IoU' if share == 'iou' else 'F1'} of", *(run.name for run in runs)), table)


def _settings(runs: Sequence[StoredRun]) -> Iterator[Sheet]:
    differing = differing_settings([run.settings for run in runs])
    rows = [(Cell(key), *(Cell(setting_text(value)) for value in values)) for key, values in differing.items()]
    if rows:
        yield Sheet(("setting", *(run.name for run in runs)), rows)
