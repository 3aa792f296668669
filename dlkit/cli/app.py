"""The command line: registers the commands, and turns errors into a message and an exit code, in one place."""

import os
import sys
from typing import Annotated, ClassVar

import typer

from dlkit import __version__
from dlkit.cli.lazy_group import LazyGroup
from dlkit.cli.processes import is_main_process
from dlkit.cli.slow_imports import quick_imports
from dlkit.cli.streams import lasting_streams
from dlkit.cli.table_form import AS_TSV
from dlkit.errors import ConfigError, DlkitError, Interrupted, OutOfResource, UsageError, exit_code_of, first_line
from dlkit.files import FAILING, FULL

EXIT_CODES = """Exit codes: 0 done, 1 unexpected, 2 usage or config, 3 data, 4 file refused, 5 diverged, 6 out of memory or disk,
130/143/129 stopped by a signal after saving."""

ANYWHERE = {"--debug", "--tsv"}  # options of the program that may stand behind those of a command
ALIASES = {"shape-calc": "shapecalc", "lrplot": "lr-plot"}


class Commands(LazyGroup):
    """All commands."""

    places: ClassVar = {
        "train": ("dlkit.cli.train", "Train a model from one YAML file."),
        "sweep": (
            "dlkit.cli.sweep",
            "Search the best values of a config's keys: every trial is a run, judged on validation samples.",
        ),
        "eval": (
            "dlkit.cli.eval",
            "Score a model: accuracy, per-class numbers and confusion matrix; mAP and per-label numbers; or regression errors.",
        ),
        "predict": (
            "dlkit.cli.predict",
            "Predict classes, values or masks of images, of rows of a table or of an array, prepared as the model's own "
            "evaluation data was.",
        ),
        "prune": (
            "dlkit.cli.prune",
            "Remove weights or whole channels, recover with training, and measure what that changed.",
        ),
        "bench": (
            "dlkit.cli.bench",
            "Measure latency: every model by every engine, interleaved, with ratios to a baseline and their spread.",
        ),
        "inspect": (
            "dlkit.cli.inspect",
            "Say what a file is: its network, input, classes, changes, sizes and origin. Nothing in it is run.",
        ),
        "quantize": (
            "dlkit.cli.quantize",
            "Make an int8 model file, and measure accuracy, size and latency before and after.",
        ),
        "report": (
            "dlkit.cli.report",
            "Make one HTML page of a run, or of several side by side: curves, scores, mistakes, model, config. It needs no network.",
        ),
        "convert": (
            "dlkit.cli.convert",
            "Convert foreign weights, or with --trust-pickle a pickled model, to a safe file.",
        ),
        "export": (
            "dlkit.cli.export",
            "Write a model, float, pruned or int8, for other programs, and check that the file computes what the model does.",
        ),
        "runs": (
            "dlkit.cli.runs",
            "List runs: status, what they were trained on, the settings in which they differ, and what they came to.",
        ),
        "compare": (
            "dlkit.cli.compare",
            "Compare runs: settings that differ, metrics, whether their differences are more than chance, and curves.",
        ),
        "list": (
            "dlkit.cli.listing",
            "List the names that a config may use, with their options. Without KIND, the kinds.",
        ),
        "lr-plot": (
            "dlkit.cli.lr_plot",
            "Plot a learning-rate schedule in the terminal and say what is odd about it.",
        ),
        "lr-find": (
            "dlkit.cli.lr_find",
            "Find a learning rate: sweep it from low to high on the config's model and data, and see where the loss falls.",
        ),
        "doctor": (
            "dlkit.cli.doctor",
            "Check versions, CPU, int8 kernels, GPU, disk and data; exit 1 if something is broken.",
        ),
        "shapecalc": (
            "dlkit.cli.shapecalc",
            "Layer arithmetic: sizes, parameters, MACs, receptive fields; forwards, backwards, in chains and models.",
        ),
        "config": ("dlkit.cli.config", "Write, check and show config files."),
    }


app = typer.Typer(
    name="dlkit",
    cls=Commands,
    help="Deep-learning utilities for people who train and ship PyTorch models.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(value: bool) -> None:
    if value:
        from importlib import metadata

        packages = [f"{name} {metadata.version(name)}" for name in ("torch", "torchvision")]
        typer.echo(f"dlkit {__version__} (python {sys.version.split()[0]}, {', '.join(packages)})")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Show versions and exit.", callback=_show_version, is_eager=True)
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks; may stand anywhere on the line.")] = False,
    tsv: Annotated[
        bool, typer.Option("--tsv", help="Tabs between the cells of tables; may stand anywhere, too.")
    ] = False,
) -> None:
    """Options of all commands."""


def main() -> None:
    """Run the command line and exit."""
    with lasting_streams():
        _run(_readable(sys.argv[1:]))


def _run(arguments: list[str]) -> None:
    are_told = is_main_process() and not {"-q", "--quiet"} & set(arguments)
    is_debug = "--debug" in arguments or bool(os.environ.get("DLKIT_DEBUG"))
    AS_TSV.set("--tsv" in arguments)
    try:
        with quick_imports(are_told=are_told):
            app(args=[argument for argument in arguments if argument not in ANYWHERE], prog_name="dlkit")
    except BrokenPipeError:
        sys.exit(0)
    except SystemExit as end:
        # typer ends a command with 1 when the reader of its output goes away, as `head` does when it has enough
        sys.exit(0 if isinstance(end.__context__, BrokenPipeError) else end.code)
    except Exception as error:
        if is_debug:
            raise
        error = _worded(error)
        _show_error(error)
        sys.exit(exit_code_of(error))


def _worded(error: Exception) -> Exception:
    """What may befall any command, in our words: a full or failing disk, mostly where stdout goes, a file that the system does not
    give, and a lack of memory.
    """
    if isinstance(error, OSError) and error.errno in FULL | FAILING:
        where = f"{error.filename}" if error.filename else "the output"
        return OutOfResource(f"{where} cannot be written: {error.strerror}")
    # a name that is too long, a folder that may not be read
    if isinstance(error, OSError) and error.filename is not None:
        return UsageError(f"{os.fsdecode(error.filename)}: {(error.strerror or str(error)).lower()}")
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "allocate memory" in str(error)):
        return OutOfResource(f"out of memory: {first_line(error)}")
    return error


def _readable(arguments: list[str]) -> list[str]:
    """Spell commands by their own names, and give a bare `--resume` the value that option parsers want: the newest run."""
    given = [ALIASES.get(arguments[0], arguments[0]), *arguments[1:]] if arguments else []
    for index, argument in enumerate(arguments):
        following = arguments[index + 1] if index + 1 < len(arguments) else "-"
        if argument == "--resume" and (
            following.startswith("-") or following.endswith((".yaml", ".yml")) or "=" in following
        ):
            given[index] = "--resume=auto"
    return given


def _show_error(error: Exception) -> None:
    from dlkit.cli.console import show_error, show_lines, stderr_console
    from dlkit.cli.processes import note_failure

    text = _text_of(error)
    if note_failure(error, text):
        return
    if isinstance(error, Interrupted):
        show_lines([text], console=stderr_console())
    else:
        show_error(text)


def _text_of(error: Exception) -> str:
    if isinstance(error, ConfigError):
        return error.report()
    if isinstance(error, DlkitError):
        return str(error)
    unexpected = f"unexpected {type(error).__name__}: {error}\nRun again with --debug for the traceback"
    return _explain_environment(error) or unexpected


def _explain_environment(error: Exception) -> str | None:
    """What is wrong with the installation when torch or torchvision cannot be imported, or None."""
    text = str(error)
    if "torchvision::nms" in text:
        return (
            "torchvision does not match the installed torch (its operators are missing), so nothing that needs it can run.\n"
            "Install a matching pair: pip install --upgrade torch torchvision. `dlkit doctor` shows the versions"
        )
    if isinstance(error, ImportError) and error.name and error.name.split(".")[0] in {"torch", "torchvision"}:
        return f"{error.name} cannot be imported: {text}\nInstall it with: pip install torch torchvision. `dlkit doctor` tells more"
    return None
