"""`model`: what a whole network costs, computed on meta tensors, so that no memory is taken."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dlkit.cli.options import AsJson
from dlkit.cli.plain_help import BareCommand
from dlkit.cli.shapecalc.show import macs_text, print_json, print_pairs, print_table, shortened
from dlkit.cli.shapecalc.sizes import model_sizes, parse_range, print_passing
from dlkit.quantities import bytes_text
from dlkit.shapes import ShapeError, count_text, parse_numbers, short_count, size_text

if TYPE_CHECKING:
    from dlkit.core.profile import InputSpec, ModelProfile, ModuleField, ProfiledModel

app = typer.Typer()

Name = Annotated[
    str, typer.Argument(metavar="MODEL", help="resnet18, package.module:Net, ./file.py:Net, model.pt, cfg.yaml.")
]
Inputs = Annotated[
    list[str] | None,
    typer.Option("--input", "--in", help="Shape of one sample: 3x224x224, 128:int64; once per input."),
]
_COMPARED = (
    *("parameters", "macs", "attention_macs", "parameter_bytes"),
    *("saved_bytes", "peak_bytes", "training_bytes"),
)
_MOST_CHANGES = 40
_STATES = {"sgd": 0, "momentum": 1, "adam": 2, "adamw": 2, "rmsprop": 1}


@app.command(cls=BareCommand)
def model(
    name: Name,
    inputs: Inputs = None,
    batch: Annotated[int, typer.Option(min=1, help="Samples in the batch.")] = 1,
    depth: Annotated[int, typer.Option(min=0, help="Levels of modules to show.")] = 2,
    rf: Annotated[bool, typer.Option("--rf", help="Receptive fields instead of costs.")] = False,
    diff: Annotated[str | None, typer.Option(help="Compare with another model.")] = None,
    optimizer: Annotated[str, typer.Option(help="For training memory: sgd, momentum, adam, adamw, rmsprop.")] = "adamw",
    span: Annotated[str | None, typer.Option("--range", help="Which sizes pass: 32..320 (square images).")] = None,
    num_classes: Annotated[int, typer.Option(min=1, help="For models that take it.")] = 1000,
    as_json: AsJson = False,
) -> None:
    """A network's layers, parameters, MACs and memory, without taking any memory."""
    from dlkit.core.profile import fit_to_inputs, model_from, profile_model

    if optimizer.lower() not in _STATES:
        raise ShapeError(f"--optimizer {optimizer!r} is not known here; there are {', '.join(_STATES)}")
    given = _given(inputs, num_classes)
    source = model_from(name, given=given)
    specs = _input_specs(inputs, source)
    fit_to_inputs(source, specs)
    if span is not None:
        print_passing(model_sizes(source, specs[0], parse_range(span)), as_json=as_json)
    elif rf:
        _print_fields(source, specs, depth, as_json=as_json)
    else:
        profile = profile_model(source.model, specs, batch=batch)
        if diff is not None:
            other_source = model_from(diff, given=given)
            other_specs = _input_specs(inputs, other_source)
            other = profile_model(fit_to_inputs(other_source, other_specs).model, other_specs, batch=batch)
            _print_diff((name, profile), (diff, other), optimizer, depth=depth, as_json=as_json)
        elif as_json:
            print_json("model", _facts(name, profile, optimizer))
        else:
            _print_profile(name, profile, depth, optimizer)


def _given(texts: Sequence[str] | None, num_classes: int) -> dict[str, Any]:
    """What builders of networks are given when they ask for it by name."""
    shape = parse_numbers(texts[0].partition(":")[0], what="--input") if texts else (3, 224, 224)
    return {"input_size": shape, "in_channels": shape[0], "num_classes": num_classes}


def _input_specs(texts: Sequence[str] | None, source: "ProfiledModel") -> "tuple[InputSpec, ...]":
    import torch

    from dlkit.core.profile import InputSpec

    if not texts:
        if source.inputs is None:
            raise ShapeError(f"{source.name} does not say what it takes; give --input, for example --input 3x224x224")
        return source.inputs
    specs = []
    for text in texts:
        shape, _, dtype_name = text.partition(":")
        dtype = getattr(torch, dtype_name or "float32", None)
        if not isinstance(dtype, torch.dtype):
            raise ShapeError(f"--input {text!r}: {dtype_name!r} is no torch type; write 128:int64")
        specs.append(InputSpec(parse_numbers(shape, what="--input"), dtype))
    return tuple(specs)


def _print_profile(name: str, profile: "ModelProfile", depth: int, optimizer: str) -> None:
    shapes = ", ".join(size_text(spec.shape) for spec in profile.inputs)
    typer.echo(f"{name}, batch {profile.batch} of {shapes}\n")
    rows = []
    for layer in profile.layers:
        if layer.depth <= depth:
            out = size_text(layer.out_shape[1:]) if layer.out_shape else "not called"
            indented = "  " * (layer.depth - 1) + layer.path.rpartition(".")[2]
            times = f" x{layer.calls}" if layer.calls > 1 else ""
            costs = short_count(layer.num_parameters), short_count(layer.macs)
            rows.append([shortened(indented + times, 22), shortened(layer.kind, 22), out, *costs])
    if rows:
        print_table(["module", "kind", "out", "params", "MACs"], rows, left=frozenset({0, 1, 2}))
        typer.echo()
    print_pairs(_total_pairs(profile, optimizer))


def _total_pairs(profile: "ModelProfile", optimizer: str) -> list[tuple[str, str]]:
    macs = macs_text(profile.macs)
    frozen = profile.num_parameters - profile.num_trainable
    pairs = [
        ("params", count_text(profile.num_parameters) + (f", {frozen:,} frozen" if frozen else "")),
        ("MACs", macs),
    ]
    if profile.attention_macs:
        weights = profile.macs - profile.attention_macs
        pairs.append(
            (
                "",
                (
                    f"{count_text(profile.attention_macs)} of them in attention products, {short_count(weights)} in "
                    "weights"
                ),
            )
        )
    pairs.append(("uncounted", _uncounted_text(profile.uncounted)))
    pairs.append(
        ("weights", f"{bytes_text(profile.parameter_bytes)} parameters, {bytes_text(profile.buffer_bytes)} buffers")
    )
    pairs.append(("outputs", f"{bytes_text(profile.activation_bytes)} made by all layers together"))
    if profile.peak_bytes is not None:
        pairs.append(
            ("infer", f"about {bytes_text(profile.peak_bytes)} of activations alive at the peak, plus weights")
        )
    total = profile.training_bytes(optimizer_states=_STATES[optimizer.lower()])
    if total is not None and profile.saved_bytes is not None:
        states = profile.trainable_bytes * _STATES[optimizer.lower()]
        parts = f"{bytes_text(profile.trainable_bytes)} gradients, {bytes_text(states)} {optimizer} states"
        text = f"about {bytes_text(total)}: weights, {parts}, {bytes_text(profile.saved_bytes)} saved for backward (estimate)"
        pairs.append(("train", text))
    return pairs + [("note", note) for note in profile.notes]


def _uncounted_text(uncounted: Mapping[str, int]) -> str:
    if not uncounted:
        return "none: every operator has a formula or is known to have no MACs"
    return "no formula for " + ", ".join(f"{name} x{count}" for name, count in uncounted.items())


def _facts(name: str, profile: "ModelProfile", optimizer: str) -> dict[str, Any]:
    layers = [
        {
            "path": layer.path,
            "kind": layer.kind,
            "depth": layer.depth,
            "calls": layer.calls,
            "out_shape": layer.out_shape,
            "out_bytes": layer.out_bytes,
            "parameters": layer.num_parameters,
            "macs": layer.macs,
            "attention_macs": layer.attention_macs,
        }
        for layer in profile.layers
    ]
    inputs = [{"shape": spec.shape, "dtype": str(spec.dtype).removeprefix("torch.")} for spec in profile.inputs]
    return {"model": name, "batch": profile.batch, "inputs": inputs, **_totals(profile, optimizer), "layers": layers}


def _totals(profile: "ModelProfile", optimizer: str) -> dict[str, Any]:
    return {
        "parameters": profile.num_parameters,
        "trainable_parameters": profile.num_trainable,
        "macs": profile.macs,
        "flops": 2 * profile.macs,
        "attention_macs": profile.attention_macs,
        "uncounted": dict(profile.uncounted),
        "parameter_bytes": profile.parameter_bytes,
        "buffer_bytes": profile.buffer_bytes,
        "activation_bytes": profile.activation_bytes,
        "saved_bytes": profile.saved_bytes,
        "peak_bytes": profile.peak_bytes,
        "training_bytes": profile.training_bytes(optimizer_states=_STATES[optimizer.lower()]),
        "optimizer": optimizer,
        "notes": list(profile.notes),
    }


def _print_diff(
    one: "tuple[str, ModelProfile]", other: "tuple[str, ModelProfile]", optimizer: str, *, depth: int, as_json: bool
) -> None:
    """Totals side by side, and the modules that differ, down to `depth`."""
    totals = [_totals(profile, optimizer) for _, profile in (one, other)]
    costs = [{layer.path: layer for layer in profile.layers} for _, profile in (one, other)]
    paths = list(dict.fromkeys([*costs[0], *costs[1]]))
    pairs = {path: (_cost(costs[0].get(path)), _cost(costs[1].get(path))) for path in paths}
    differing = {path: pair for path, pair in pairs.items() if pair[0] != pair[1]}
    if as_json:
        layers = [{"path": path, "one": before, "other": after} for path, (before, after) in differing.items()]
        named = {"one": {"model": one[0], **totals[0]}, "other": {"model": other[0], **totals[1]}}
        print_json("model-diff", {**named, "layers": layers})
        return
    rows = [_total_row(key, totals[0][key], totals[1][key]) for key in _COMPARED]
    print_table(["", shortened(one[0], 20), shortened(other[0], 20), "ratio"], rows)
    typer.echo(f"\n  {len(differing)} of {len(paths)} modules differ")
    shown = [[shortened(path, 28), *_changes(*pair)] for path, pair in differing.items() if path.count(".") < depth]
    if shown:
        print_table(["module", "out", "params", "MACs"], shown[:_MOST_CHANGES], left=frozenset({0, 1}))
    if len(shown) < len(differing) or len(shown) > _MOST_CHANGES:
        typer.echo(f"  ... {len(differing) - min(len(shown), _MOST_CHANGES)} more with --json")


def _total_row(key: str, before: int | None, after: int | None) -> list[str]:
    ratio = f"{after / before:.3f}x" if before and after is not None else "-"
    return [key, *(f"{number:,}" if number is not None else "-" for number in (before, after)), ratio]


def _changes(before: dict[str, Any] | None, after: dict[str, Any] | None) -> list[str]:
    """Output, parameters and MACs of a module, as `before > after` where they differ; - where it is missing."""
    texts = [
        ("-", "-", "-")
        if cost is None
        else (size_text((cost["out_shape"] or ())[1:]), short_count(cost["parameters"]), short_count(cost["macs"]))
        for cost in (before, after)
    ]
    return [one if one == other else f"{one} > {other}" for one, other in zip(*texts, strict=True)]


def _cost(layer: Any) -> dict[str, Any] | None:
    if layer is None:
        return None
    return {"kind": layer.kind, "parameters": layer.num_parameters, "macs": layer.macs, "out_shape": layer.out_shape}


def _print_fields(source: "ProfiledModel", specs: "tuple[InputSpec, ...]", depth: int, *, as_json: bool) -> None:
    from dlkit.core.profile import trace_fields

    if len(specs) != 1 or len(specs[0].shape) < 2:
        raise ShapeError("--rf needs one input with spatial axes, such as 3x224x224")
    fields = trace_fields(source.model, specs[0].on_meta(1))
    if as_json:
        rows = [
            {"path": f.path, "kind": f.kind, "size": f.sizes, "jump": f.jumps, "all": f.is_all, "lost_at": f.lost_at}
            for f in fields
        ]
        print_json("model-rf", {"model": source.name, "layers": rows})
        return
    shown = [field for field in fields if field.path.count(".") < depth]
    table = [[shortened(field.path, 30), shortened(field.kind, 22), *_field_cells(field)] for field in shown]
    typer.echo(f"{source.name} on {size_text(specs[0].shape)}: input positions seen by one output position\n")
    print_table(["module", "kind", "sees", "jump"], table, left=frozenset({0, 1}))


def _field_cells(field: "ModuleField") -> tuple[str, str]:
    """Receptive field and jump as text; axes that agree are written once."""
    if field.lost_at:
        return f"? ({field.lost_at})", "-"
    if not field.sizes:
        return "all", "-"
    size = ",".join(map(str, dict.fromkeys(field.sizes)))
    return f"{size} (all)" if field.is_all else size, ",".join(f"{jump:g}" for jump in dict.fromkeys(field.jumps))
