"""A quantization on the screen: what was done, before and after, what is int8 and what not, latency, files, what comes next."""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from dlkit.cli.console import show_lines, show_table
from dlkit.cli.next_steps import NextStep, shell_options, show_next_steps
from dlkit.cli.quantize.options import IMAGES
from dlkit.quantities import counted
from dlkit.tasks import TRAITS, TaskName

if TYPE_CHECKING:
    from dlkit.core.benchmark import Speeds
    from dlkit.core.opening import Naming
    from dlkit.quantize import Coverage, LayerSensitivity, Outcome, Ranking

MOST_NAMES = 5
MOST_KERNELS = 6
MOST_LAYERS = 20
LITTLE_SMALLER = 0.6  # of the float file: most weights are in layers that dynamic quantization does not cover
COLUMNS = ("", "float32", "int8", "change")


def show_outcome(outcome: "Outcome", naming: "Naming", data: str | None, *, as_json: bool) -> None:
    """The result on stdout: one JSON object, or tables and sentences."""
    if as_json:
        from dlkit.files import to_json
        from dlkit.quantize import describe_outcome

        typer.echo(to_json(describe_outcome(outcome)))
        return
    from dlkit.core.evaluation import comparison_rows

    show_lines([f"{outcome.task.file.path} -> {outcome.paths.model}", recipe_words(outcome), ""])
    show_table(COLUMNS, comparison_rows(outcome.comparison))
    show_lines([judged_words(outcome), "", *coverage_lines(outcome.coverage)])
    if outcome.made.ranking and outcome.task.request.rank_layers:
        show_lines(["", "what int8 costs in each layer alone"])
        _show_layers(outcome.made.ranking, outcome.task.name)
    _show_speeds(outcome)
    if outcome.total:
        show_lines(["", "since before it was pruned", *(f"  {text}" for text in outcome.total.sentences())])
    if outcome.parity:
        show_lines(["", f"{outcome.paths.exported}: {outcome.parity.words(outcome.task.name)} in ONNX Runtime"])
    show_lines(["", "files", *(f"  {path}" for path in outcome.files)])
    if (missing := outcome.paths.exported) and outcome.export_failure:
        old = ", where the file of an earlier network stays" if missing.exists() else ""
        show_lines([f"  not written: {missing}{old}"])
    show_next_steps(next_steps(outcome, naming, data))


def show_ranking(ranking: "Ranking", naming: "Naming", data: str | None, *, as_json: bool) -> None:
    """Layers by what int8 costs in each: one JSON object, or a table."""
    if as_json:
        from dlkit.files import to_json
        from dlkit.quantize import describe_ranking

        typer.echo(to_json(describe_ranking(ranking)))
        return
    show_lines([f"{ranking.model}: what int8 costs in each layer alone, {counted(len(ranking.layers), 'layer')}", ""])
    _show_layers(ranking.layers, ranking.task)
    model, named = shlex.quote(str(ranking.model)), shell_options(**asdict(naming), data=data or None)
    start = f"dlkit quantize {model}{named} --static"
    show_lines(["", f"file {ranking.path}"])
    can_judge = not (data or "").startswith(IMAGES)
    kept = [f"--max-drop 0.5{_output(ranking.model, 'max-drop')}"] if can_judge else []
    kept += [f"--keep-float {shlex.quote(ranking.layers[0].name)}{_output(ranking.model, 'keep-float')}"]
    show_next_steps([NextStep(f"{start} {options}") for options in kept])


def _output(model: Path, word: str) -> str:
    """The option of a file that is not there yet, so that what was made before is not in the way."""
    names = (f"{model.stem}.{word}{number}-int8.pt" for number in ("", *map(str, range(2, 100))))
    return shell_options(output=next(path for name in names if not (path := model.with_name(name)).exists()))


def _show_layers(layers: "Sequence[LayerSensitivity]", task: TaskName) -> None:
    agreed, fidelities = TRAITS[task].agreed, [(layer.name, layer.fidelity) for layer in layers[:MOST_LAYERS]]
    rows: list[tuple[str, ...]] = [(name, f"{one.shift:.2%}", f"{one.sqnr_db:.1f} dB") for name, one in fidelities]
    if agreed:
        rows = [(*row, f"{one.agreement:.2%}") for row, (_, one) in zip(rows, fidelities, strict=True)]
        show_table(("layer", "probabilities move", "signal to noise", agreed), rows)
    else:
        show_table(("layer", "noise to signal", "signal to noise"), rows)
    if len(layers) > MOST_LAYERS:
        show_lines([f"and {len(layers) - MOST_LAYERS} more, in the file"])


def recipe_words(outcome: "Outcome") -> str:
    """How the network was quantized, in a sentence."""
    made, recipe = outcome.made, outcome.made.recipe
    scales = "one scale per output channel" if recipe.is_per_channel else "one scale per weight tensor"
    parts = [f"{recipe.mode} int8 by {recipe.backend}", scales]
    if made.num_calibration:
        parts.append(f"{recipe.observer} ranges from {made.num_calibration:,} training samples")
    reduced = {"weights": "weights in 7 bits", "activations": "activations in 7 bits", "none": ""}[recipe.reduce]
    if recipe.mode != "dynamic" and reduced:
        parts.append(reduced)
    return ", ".join([*parts, *made.steps])


def judged_words(outcome: "Outcome") -> str:
    """What the scores are about, and the proof of the file."""
    scores = outcome.comparison.before.scores
    judged = f"on {scores.num_samples:,} {scores.split} samples" if scores.num_samples else "not judged: no data"
    return f"{judged}; the file gives bit-equal outputs in a fresh process"


def coverage_lines(coverage: "Coverage") -> Iterator[str]:
    """How much is int8, by which kernels, and why the rest is not."""
    counts = sorted(coverage.kernels.items(), key=lambda pair: -pair[1])
    kernels = [f"{name.rpartition('::')[2]} {count}" for name, count in counts]
    shown = [*kernels[:MOST_KERNELS], *(["..."] if len(kernels) > MOST_KERNELS else [])]
    num_runs = sum(coverage.kernels.values())
    yield f"{coverage.num_int8} of {len(coverage.layers)} layers are int8; {counted(num_runs, 'int8 kernel')} ran: {', '.join(shown)}"
    for reason, count in coverage.reasons():
        names = [layer.name for layer in coverage.in_float if layer.reason == reason]
        listed = ", ".join(names[:MOST_NAMES]) + (", ..." if len(names) > MOST_NAMES else "")
        yield f"  {count} in float, {reason or 'no reason known'}: {listed}"


def _show_speeds(outcome: "Outcome") -> None:
    from dlkit.core.evaluation import quantization_sentences

    speeds = outcome.comparison.speeds
    if speeds is None:
        return
    batches = speeds.batches
    columns = [word for batch in batches for word in (f"batch {batch}", "p10-p90", "gain")]
    show_lines([""])
    show_table(("ms", "engine", *columns), latency_rows(speeds, batches), left=2)
    machine, skipped = outcome.machine, speeds.skipped
    show_lines([f"{machine.cpu}, {machine.threads} thread{'s' if machine.threads > 1 else ''}"])
    show_lines(quantization_sentences(outcome.comparison))
    show_lines([f"not measured: {one.model} by {one.engine}, {one.reason}" for one in skipped])


def latency_rows(speeds: "Speeds", batches: list[int]) -> list[tuple[str, ...]]:
    """A row for every network and engine: per batch size the median, its spread, and how many times as fast as eager float."""
    pairs = dict.fromkeys((row.model, row.engine) for row in speeds.rows)
    return [(*pair, *(cell for batch in batches for cell in _cells(speeds, pair, batch))) for pair in pairs]


def _cells(speeds: "Speeds", pair: tuple[str, str], batch: int) -> tuple[str, str, str]:
    row = speeds.row(*pair, batch)
    if row is None:
        return "", "", ""
    latency = row.latency
    gain = "" if pair == speeds.baseline else f"{row.to_baseline.median:.2f}x"
    return f"{latency.median_ms:.2f}", f"{latency.p10_ms:.2f}-{latency.p90_ms:.2f}", gain


def next_steps(outcome: "Outcome", naming: "Naming", data: str | None) -> list[NextStep]:
    """Commands that fit; data and a class of the user's own are named again. What needs data is left out where none are known."""
    from dlkit.core.opening import is_from_elsewhere

    file = outcome.task.file
    before, after = shlex.quote(str(file.path)), shlex.quote(str(outcome.paths.model))
    named, of_data = shell_options(**asdict(naming)), shell_options(data=data or None)
    bench = NextStep(f"dlkit bench {before} {after}{named}{of_data if is_from_elsewhere(file) else ''}")
    if not outcome.comparison.before.scores.num_samples:
        return [bench]
    evaluate = NextStep(f"dlkit eval {after}{of_data}{shell_options(model=naming.model)}")
    return [evaluate, bench, *_again(outcome, f"dlkit quantize {before}{named}{of_data}")]


def _again(outcome: "Outcome", command: str) -> Iterator[NextStep]:
    """What quantizing in another way would bring, unless its file is there already."""
    model, mode = outcome.task.file.path, outcome.made.recipe.mode
    if mode == "static" and (outcome.drop or 0) > 1:
        if not model.with_name(f"{model.stem}.sensitivity.json").exists():
            yield NextStep(f"{command} --sensitivity", "which layers cost most")
        yield NextStep(f"{command} --static --max-drop 0.5{_output(model, 'max-drop')}", "keep those in float")
    has_static = model.with_name(f"{model.stem}.static-int8.pt").exists()
    if mode == "dynamic" and (outcome.size_ratio or 0) > LITTLE_SMALLER and not has_static:
        yield NextStep(f"{command} --static", "int8 for the other layers too")
