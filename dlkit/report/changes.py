"""What quantize and prune made of a run's model: their reports, which lie beside it, as tables."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dlkit.quantities import bytes_text
from dlkit.report.blocks import Block, Cell, Chart, Sheet, Words
from dlkit.report.words import change_cell, count_cell, is_number, metric_cell, metric_title, plain
from dlkit.run_folders import read_mapping, setting_text

_ENDING = ".report.json"
_TITLES = {"dlkit.quantize/1": "Quantized", "dlkit.prune/1": "Pruned"}
_AGREEMENT = {"same_top1": "same class", "same_labels": "same labels", "same_pixels": "same pixels"}
LARGEST_FILE = 2**25


def find_changes(run_dir: Path) -> list[tuple[Path, Mapping[str, Any]]]:
    """Returns the reports of quantize and prune in a run folder with their paths, by name; other files are left out."""
    found = (
        (path, read_mapping(path)) for path in sorted(run_dir.glob(f"*{_ENDING}")) if path.stat().st_size < LARGEST_FILE
    )
    return [(path, report) for path, report in found if report.get("schema") in _TITLES and all(_sides(report))]


def change_blocks(path: Path, report: Mapping[str, Any]) -> Iterator[Block]:
    """Yields what a network was before and after: scores, sizes and speeds, and what was said of it."""
    before, after = _sides(report)
    title = f"{_TITLES[report['schema']]}: {path.name.removesuffix(_ENDING)}.pt"
    scores = _part(after, "scores")
    note = f"Scores are of {scores.get('num_samples')} {scores['split']} samples." if scores.get("split") else ""
    yield Sheet(("", "before", "after", "change"), [*_rows(report, before, after)], title=title, note=note)
    sentences = report.get("sentences") or report.get("summary")
    yield from map(Words, map(str, sentences if isinstance(sentences, list) else ()))
    yield from _speeds(_part(_compared(report), "speeds"))
    yield from _layers(report)


def _compared(report: Mapping[str, Any]) -> Mapping[str, Any]:
    """Where a report tells of both networks."""
    return _part(report, "comparison") or report


def _sides(report: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Both networks, as far as the report tells of them."""
    compared = _compared(report)
    return _part(compared, "before"), _part(compared, "after")


def _part(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = value.get(name)
    return found if isinstance(found, Mapping) else {}


def _rows(report: Mapping[str, Any], before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[tuple[Cell, ...]]:
    old, new = (_part(_part(side, "scores"), "metrics") for side in (before, after))
    for name in old:
        if is_number(old[name]) and is_number(new.get(name)):
            scores = (metric_cell(name, old[name]), metric_cell(name, new[name]))
            yield Cell(metric_title(name)), *scores, change_cell(name, new[name] - old[name])
    for name, title in _AGREEMENT.items():
        if is_number(share := _part(_compared(report), "agreement").get(name)):
            yield Cell(title), Cell(""), Cell(f"{share:.2%}", share), Cell("")
    old, new = (_part(side, "costs") for side in (before, after))
    sizes = [_part(side, "sizes") for side in (old, new)]
    for title, name in (("file", "bytes"), ("file, gzip", "gzip_bytes")):
        yield from _share(title, sizes[0].get(name), sizes[1].get(name), bytes_text)
    for title, name in (("parameters", "num_parameters"), ("MACs", "macs")):
        yield from _share(title, old.get(name), new.get(name), "{:,}".format)


def _share(title: str, old: Any, new: Any, show: Any) -> Iterator[tuple[Cell, ...]]:
    if is_number(old) and is_number(new):
        yield (
            Cell(title),
            Cell(show(old), old),
            Cell(show(new), new),
            Cell(f"{new / old:.1%}" if old else "", new - old),
        )


def _speeds(speeds: Mapping[str, Any]) -> Iterator[Chart]:
    """A chart of medians with their spread for each batch size, the quickest first."""
    given = speeds.get("rows")
    rows = [row for row in given if isinstance(row, Mapping)] if isinstance(given, list) else []
    rows = [row for row in rows if all(is_number(row.get(name)) for name in ("batch", "median_ms", "p10_ms", "p90_ms"))]
    for batch in dict.fromkeys(row["batch"] for row in rows):
        some = sorted((row for row in rows if row["batch"] == batch), key=lambda row: -row["median_ms"])
        trace = {
            "type": "bar",
            "orientation": "h",
            "y": [plain(f"{row.get('model')} by {row.get('engine')}") for row in some],
            "x": [row["median_ms"] for row in some],
            "error_x": {
                "type": "data",
                "symmetric": False,
                "array": [row["p90_ms"] - row["median_ms"] for row in some],
                "arrayminus": [row["median_ms"] - row["p10_ms"] for row in some],
            },
            "hovertemplate": "%{y}: %{x:.3f} ms<extra></extra>",
        }
        layout = {"xaxis": {"title": {"text": "ms a call, 10 to 90 %"}, "rangemode": "tozero"}}
        yield Chart(f"Latency, batch {batch}", [trace], layout, height=120 + 34 * len(some))


def _layers(report: Mapping[str, Any]) -> Iterator[Block]:
    """The layers of an int8 network that stay in float, or the groups of channels of a pruned one."""
    rows = _part(report, "layers").get("rows") if report["schema"] == "dlkit.quantize/1" else report.get("groups")
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
        return
    if report["schema"] == "dlkit.quantize/1":
        floats = [
            (Cell(str(row.get("name"))), Cell(str(row.get("reason") or ""))) for row in rows if not row.get("is_int8")
        ]
        yield Words(f"{len(rows) - len(floats)} of {len(rows)} layers are int8.")
        if floats:
            yield Sheet(("layer in float", "why"), floats)
    elif rows:
        yield Sheet(("group", "channels", "kept", "note"), list(map(_group, rows)), title="Groups of channels")


def _group(row: Mapping[str, Any]) -> tuple[Cell, ...]:
    return (
        Cell(setting_text(row.get("id"))),
        count_cell(row.get("num_channels")),
        count_cell(row.get("num_kept")),
        Cell(str(row.get("note") or "")),
    )
