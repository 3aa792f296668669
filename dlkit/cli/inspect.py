"""`dlkit inspect`: what a file is and holds, without running code from it."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dlkit.cli.completion import complete_models
from dlkit.cli.options import AsJson
from dlkit.cli.plain_help import PlainCommand
from dlkit.quantities import counted
from dlkit.shapes import size_text

if TYPE_CHECKING:
    from dlkit.core.data import TableColumn
    from dlkit.core.inspection import Inspection
    from dlkit.core.modelfile import ModelSpec

KINDS = {"model": "dlkit model file", "checkpoint": "training checkpoint of dlkit", "weights": "weights alone"}
MOST_NAMES = 8
MOST_TENSORS = 12


app = typer.Typer()


@app.command("inspect", cls=PlainCommand, no_args_is_help=True)
def inspect(
    file: Annotated[
        Path,
        typer.Argument(
            help="A model file, a checkpoint or weights.",
            metavar="FILE",
            show_default=False,
            autocompletion=complete_models,
        ),
    ],
    tensors: Annotated[bool, typer.Option("--tensors", help="List every tensor with its shape and type.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say what a file is: its network, input, classes, changes, sizes and origin. Nothing in it is run."""
    from dlkit.core.inspection import inspect_file

    found = inspect_file(file)
    if as_json:
        typer.echo(json.dumps(_facts(found)))
    else:
        _show(found, with_tensors=tensors)


def _facts(found: "Inspection") -> dict[str, Any]:
    from dlkit.files import to_json

    spec = found.spec
    facts: dict[str, Any] = {
        "schema": "dlkit.inspect/1",
        "file": str(found.path),
        "kind": found.kind,
        "bytes": found.num_bytes,
        "numbers": found.num_numbers,
        "bytes_by_dtype": dict(found.bytes_by_dtype),
        "spec": spec.to_dict() if spec else None,
        "training": dict(found.training),
        "fits": list(found.fits),
        "tensors": [asdict(tensor) for tensor in found.tensors],
    }
    finite: dict[str, Any] = json.loads(to_json(facts))
    return finite


def _show(found: "Inspection", *, with_tensors: bool) -> None:
    from dlkit.cli.console import show_lines, show_table

    rows = [*_network_rows(found.spec)] if found.spec else []
    rows += [*_training_rows(found.training)]
    if found.kind == "weights":
        fits = " or ".join(f"torchvision:{name}" for name in found.fits)
        rows.append(("network", f"not told; it fits {fits}" if fits else "not told"))
    sizes = ", ".join(f"{dtype} {count:,} bytes" for dtype, count in found.bytes_by_dtype.items())
    rows.append(
        ("stored", f"{counted(found.num_numbers, 'number')} in {counted(len(found.tensors), 'tensor')}: {sizes}")
    )
    rows += [*_origin_rows(found.spec)] if found.spec else []
    show_lines([f"{found.path}: {KINDS[found.kind]}, {found.num_bytes:,} bytes", ""])
    show_lines([f"{name:10}{text}" for name, text in rows])
    shown = found.tensors if with_tensors else found.tensors[:MOST_TENSORS] if found.kind == "weights" else ()
    if shown:
        table = [
            (tensor.name, size_text(tensor.shape) if tensor.shape else "one number", tensor.dtype) for tensor in shown
        ]
        show_lines([""])
        show_table(("tensor", "shape", "type"), table, left=3)
    if found.kind == "weights" and len(found.tensors) > len(shown):
        show_lines([f"and {len(found.tensors) - len(shown)} more: --tensors"])


def _network_rows(spec: "ModelSpec") -> Iterator[tuple[str, str]]:
    from dlkit.core.inspection import rewrite_words

    arch, info = spec.arch, spec.info
    options = ", ".join(f"{name} {_words(value)}" for name, value in arch.options.items())
    origin = "a class of your own" if arch.registry == "user" else arch.registry
    yield "network", f"{arch.name} ({origin}): {options}"
    for rewrite in spec.transforms:
        yield "changed", rewrite_words(rewrite)
    yield "input", f"{info.kind} {size_text(info.input_size)}, {_normalization(spec)}"
    if info.columns is not None:
        yield "columns", ", ".join(map(_column_words, info.columns))
    if info.task == "regression":
        numbers = counted(info.num_outputs, "number")
        yield "outputs", ", ".join([numbers, *(info.targets or ()), *_target_scale(spec)])
    else:
        what = "label" if info.task == "multilabel" else "class"
        names = [*(info.classes or ())[:MOST_NAMES], *(["..."] if len(info.classes or ()) > MOST_NAMES else [])]
        yield "outputs", counted(info.num_outputs, what) + (f": {', '.join(names)}" if names else "")
        if info.thresholds is not None:
            more = " ..." if len(info.thresholds) > MOST_NAMES else ""
            yield "found at", _numbers(info.thresholds[:MOST_NAMES]) + more
        if info.temperature is not None:
            yield "softmax", f"at temperature {info.temperature:.4g}"


def _column_words(column: "TableColumn") -> str:
    if column.texts is None:
        return column.name
    more = ", ..." if len(column.texts) > MOST_NAMES else ""
    return f"{column.name} ({', '.join(column.texts[:MOST_NAMES])}{more})"


def _target_scale(spec: "ModelSpec") -> list[str]:
    mean, std = spec.info.target_mean, spec.info.target_std
    if mean is None or std is None:
        return []
    return [
        f"standardized by mean {_numbers(mean)} and std {_numbers(std)}" if len(mean) <= MOST_NAMES else "standardized"
    ]


def _numbers(values: Iterable[float]) -> str:
    return " ".join(f"{value:.4g}" for value in values)


def _normalization(spec: "ModelSpec") -> str:
    mean, std = spec.info.mean, spec.info.std
    if mean is None or std is None:
        return "not normalized"
    if len(mean) > MOST_NAMES:
        return f"normalized by mean and std of {len(mean)} features"
    return f"mean {_numbers(mean)}, std {_numbers(std)}"


def _training_rows(training: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    from dlkit.event_lines import metric_text

    if not training:
        return
    yield (
        "stands at",
        f"epoch {training['epoch']}, step {training['step']:,}, {counted(training['samples'], 'sample')} seen",
    )
    best = training["best"]
    if best.get("value") is not None:
        yield "best", f"{metric_text(str(best.get('metric', 'value')), best['value'])} in epoch {best.get('epoch')}"
    if training["last"]:
        shown = [metric_text(name, value) for name, value in training["last"].items() if isinstance(value, float)]
        yield "last row", "  ".join(shown)


def _origin_rows(spec: "ModelSpec") -> Iterator[tuple[str, str]]:
    from dlkit.core.rewrites import is_quantized
    from dlkit.event_lines import metric_text

    if spec.data:
        yield "data", str(spec.data.get("name"))
    facts, suffix = spec.provenance, ", before it was quantized" if is_quantized(spec.transforms) else ""
    made = [f"{name} {facts[name]}" for name in ("created", "seed", "dlkit", "torch") if name in facts]
    if made:
        yield "made", ", ".join(made)
    pruned = facts.get("prune")
    if isinstance(pruned, Mapping):
        yield "pruned", ", ".join(str(pruned[name]) for name in ("created", "what") if name in pruned)
    if facts.get("value") is not None:
        yield "best", f"{metric_text(str(facts.get('metric')), facts['value'])} in epoch {facts.get('epoch')}{suffix}"
    if facts.get("test"):
        yield "test", "  ".join(metric_text(name, value) for name, value in facts["test"].items()) + suffix


def _words(value: Any) -> str:
    return "x".join(map(str, value)) if isinstance(value, list) and len(value) <= 4 else str(value)[:60]
