"""`dlkit bench`: how fast models run here, by several engines, side by side."""

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dlkit.cli.completion import complete_models
from dlkit.cli.options import ArchName, AsJson, Device, ImageSize, Network, NumClasses, seconds_option
from dlkit.cli.plain_help import PlainCommand
from dlkit.errors import UsageError

if TYPE_CHECKING:
    from dlkit.core.benchmark import BenchRequest, BenchResult, Deployment

LEAST_WANTED = (7, 3, 5)  # columns of speeds, where a terminal is narrow: samples per second, then spreads
EPILOG = """Inputs are random numbers: latency does not depend on them, accuracy is what `dlkit eval` measures."""

Models = Annotated[
    list[Path],
    typer.Argument(
        help="Model files, float, int8 or pruned, and .onnx files.",
        metavar="MODEL...",
        show_default=False,
        autocompletion=complete_models,
    ),
]
Engines = Annotated[
    str | None,
    typer.Option(
        "--engine",
        help="Which to measure, joined by commas: eager, channels_last, compile, frozen, onnx, openvino, aoti. Default is all that work.",
        metavar="NAMES",
        show_default=False,
    ),
]
Batches = Annotated[str, typer.Option("--batch", help="Batch sizes, joined by commas.", metavar="SIZES")]
Threads = Annotated[
    int | None, typer.Option("--threads", min=1, help="CPU threads; default is what torch takes.", show_default=False)
]
Seconds = Annotated[float, seconds_option(0.0)]
InputSize = Annotated[
    str | None,
    typer.Option(
        "--input", help="Size of one sample; default is what the files say.", metavar="CxHxW", show_default=False
    ),
]
Baseline = Annotated[
    str | None,
    typer.Option(
        "--baseline",
        help="What ratios refer to, MODEL or MODEL:ENGINE; default is the first model, eager.",
        metavar="MODEL",
        show_default=False,
    ),
]
OriginData = Annotated[
    str | None,
    typer.Option(
        "--data",
        help="Config of the data that weights from elsewhere were made for; they tell what the network takes.",
        metavar="CFG",
        show_default=False,
    ),
]


app = typer.Typer()


@app.command("bench", cls=PlainCommand, epilog=EPILOG, no_args_is_help=True)
def bench(
    models: Models,
    engine: Engines = None,
    batch: Batches = "1,16",
    threads: Threads = None,
    seconds: Seconds = 10.0,
    input_size: InputSize = None,
    baseline: Baseline = None,
    device: Device = "auto",
    arch: ArchName = None,
    num_classes: NumClasses = None,
    image_size: ImageSize = None,
    network: Network = None,
    data: OriginData = None,
    as_json: AsJson = False,
) -> None:
    """Measure latency: every model by every engine, interleaved, with ratios to a baseline and their spread."""
    batches = parse_batches(batch)
    size = parse_input(input_size) if input_size is not None else None

    from dlkit.config import load_data_option
    from dlkit.core.benchmark import ENGINES, BenchRequest
    from dlkit.core.opening import Naming

    request = BenchRequest(
        models=tuple(models),
        engines=ENGINES if engine is None else split_names(engine),
        batches=batches,
        seconds=seconds,
        threads=threads,
        device=device,
        input_size=size,
        baseline=baseline,
        naming=Naming(arch, num_classes, image_size, network),
        data=load_data_option(data) if data else None,
    )
    naming = {"arch": arch, "num_classes": num_classes, "image_size": image_size, "model": network, "data": data}
    _run(request, naming=naming, as_json=as_json)


def _run(request: "BenchRequest", *, naming: Mapping[str, object], as_json: bool) -> None:
    from dlkit.cli.display import open_display, prints_aside
    from dlkit.core.benchmark import run_bench
    from dlkit.files import to_json

    with prints_aside(), open_display(quiet=as_json, verbose=False, as_json=False) as display:
        result = run_bench(request, emit=display.emit)
    if as_json:
        typer.echo(to_json({"schema": "dlkit.bench/1", **result.to_dict()}))
    else:
        _show(result)
        _show_fastest(result, naming)


def split_names(text: str) -> tuple[str, ...]:
    """Names joined by commas, each once."""
    return tuple(dict.fromkeys(name.strip() for name in text.split(",")))


def parse_batches(text: str) -> tuple[int, ...]:
    """Batch sizes joined by commas, each once. Raises UsageError for anything else."""
    try:
        sizes = tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        sizes = ()
    if not sizes or min(sizes) < 1:
        raise UsageError(f"--batch {text}: give whole numbers of at least 1, joined by commas: --batch 1,16")
    return sizes


def parse_input(text: str) -> tuple[int, ...]:
    """One sample's size. Raises UsageError for what is none."""
    from dlkit.shapes import parse_numbers

    size = parse_numbers(text, what="--input")
    if min(size) < 1:
        raise UsageError(f"--input {text}: every size must be at least 1")
    return size


def _show(result: "BenchResult") -> None:
    from dlkit.cli.console import show_lines, show_table
    from dlkit.core.evaluation import SPEED_COLUMNS, SPEED_LEGEND, int8_sentences, speed_rows

    names = short_names([file.name for file in result.files])
    show_lines(_header(result))
    for batch in sorted({row.latency.batch for row in result.speeds.rows}):
        rows = [(names[row[0]], *row[1:]) for row in speed_rows(result.speeds, batch)]
        show_lines([""])
        show_table(SPEED_COLUMNS, rows, title=f"batch {batch}", left=2, optional=LEAST_WANTED)
    said = [
        f"{names[file.name]}: {sentence}"
        for file in result.files
        if file.is_int8
        for sentence in int8_sentences(result.speeds, file.name)
    ]
    show_lines(["", SPEED_LEGEND])
    missing = [f"{names[one.model]} by {one.engine}: {one.reason}" for one in result.speeds.skipped]
    show_lines([*(["", "not measured:"] if missing else []), *(f"  {line}" for line in missing)])
    show_lines([*([""] if said else []), *said])


def _show_fastest(result: "BenchResult", naming: Mapping[str, object]) -> None:
    """What to deploy: the winners, and for each the command that writes its file and the lines that load and run it."""
    from dlkit.cli.console import show_lines, terminal_width
    from dlkit.cli.next_steps import continued_command, shell_options

    names = short_names([file.name for file in result.files])
    show_lines(["", "fastest here:", *(f"  batch {one.batch}: {_winner(one, names)}" for one in result.fastest)])
    for one in {(one.model, one.engine): one for one in result.fastest}.values():
        show_lines(["", f"to run {names[one.model]} by {one.engine}:"])
        if one.program:
            options = shell_options(format=one.format, threads=one.threads, **naming)
            command = f"dlkit export {shlex.quote(one.model)}{options} -o {shlex.quote(one.program)}"
            show_lines([*continued_command(command, terminal_width() or len(command) + 4), ""], is_code=True)
        show_lines([f"  {line}" for line in one.code], is_code=True)


def _winner(one: "Deployment", names: Mapping[str, str]) -> str:
    said = f"{names[one.model]} by {one.engine}, {one.median_ms:.2f} ms"
    if one.runner_up is None:
        return said
    second = f"{names[one.runner_up[0]]} by {one.runner_up[1]}"
    if one.is_clear:
        return f"{said}, {one.lead} times as fast as {second}"
    return f"{said}; {second} is as fast within the noise: {one.lead} times"


def _header(result: "BenchResult") -> list[str]:
    from dlkit.quantities import bytes_text
    from dlkit.shapes import size_text

    machine = result.machine
    int8 = ", ".join(machine.int8_instructions) or "no int8 dot products"
    others = {"ONNX Runtime": machine.onnxruntime, "OpenVINO": machine.openvino}
    runtimes = "".join(f", {name} {version}" for name, version in others.items() if version)
    return [
        f"{machine.cpu} ({int8}), {machine.threads} of {machine.cores} threads; {machine.device}",
        f"torch {machine.torch}{runtimes}; inputs of {size_text(result.input_size)}, random",
        *(f"{file.name}: {'int8' if file.is_int8 else 'float'}, {bytes_text(file.bytes)}" for file in result.files),
        f"baseline: {result.speeds.baseline[0]} by {result.speeds.baseline[1]}",
    ]


def short_names(paths: Sequence[str]) -> dict[str, str]:
    """Paths without the folders that all have in common; a single one by its last part."""
    parents = [Path(path).parent for path in paths]
    is_mixed = len({parent.is_absolute() for parent in parents}) > 1
    folder = "" if is_mixed else os.path.commonpath(parents)
    return {path: os.path.relpath(path, folder) if folder else path for path in paths}
