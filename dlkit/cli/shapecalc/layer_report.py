"""What one layer does to one input, gathered once for text and JSON."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import typer

from dlkit.cli.shapecalc.options import parse_input
from dlkit.cli.shapecalc.show import macs_text, print_json, print_pairs, print_table
from dlkit.shapes import (
    IDENTITY,
    AdaptivePool,
    Layer,
    Shape,
    ShapeError,
    Size,
    Spatial,
    build_layer,
    compose,
    count_text,
    draw_windows,
    size_text,
)

COMMON_SIZES = (32, 56, 64, 112, 224, 256, 384, 512)
AXIS_NAMES = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}


@dataclass(frozen=True)
class LayerRequest:
    """What the command line asked about one layer."""

    command: str
    kind: str
    options: Mapping[str, Any]
    input_text: str | None
    dims: int | None
    as_json: bool
    is_drawn: bool = False
    add_facts: Callable[[Layer], dict[str, Any]] | None = None  # more for --json


def report_layer(request: LayerRequest) -> Layer:
    """Print what the layer does; without an input its formula and a table over common sizes. Returns the layer."""
    options = dict(request.options)
    channels, sizes, dims = parse_input(request.input_text, dims=request.dims, options=options)
    channels = channels or options.get("in_channels")
    layer = build_layer(request.kind, options, dims=dims)
    assert isinstance(layer, Spatial)
    if sizes is None:
        _report_formula(request, layer)
    elif channels is None:
        _report_sizes(request, layer, sizes, None)
    else:
        shape = (channels, *sizes)
        layer = layer.fit(shape)
        layer.out_shape(shape)
        _report_sizes(request, layer, sizes, shape)
    return layer


def _report_formula(request: LayerRequest, layer: Spatial) -> None:
    formulas = [layer.simplified(axis) for axis in range(layer.dims)]
    table = [(size, *_try_sizes(layer, size)) for size in COMMON_SIZES]
    if request.as_json:
        rows = [{"in": size, "out": out, "error": error} for size, out, error in table]
        more = request.add_facts(layer) if request.add_facts else {}
        print_json(request.command, {"formulas": formulas, "table": rows, "torch": layer.torch_code(), **more})
        return
    names = AXIS_NAMES[layer.dims]
    same = len(set(formulas)) == 1
    pairs = (
        [("out =", formulas[0])] if same else [(f"{name} =", text) for name, text in zip(names, formulas, strict=True)]
    )
    print_pairs([*pairs, ("torch", layer.torch_code())])
    outs = [size_text(out) if out and len(set(out)) > 1 else str(out[0]) if out else "-" for _, out, _ in table]
    print_table(["in", *(str(size) for size, _, _ in table)], [["out", *outs]])
    for message in {error for _, _, error in table if error}:
        print_pairs([("-", message)])


def _try_sizes(layer: Spatial, size: int) -> tuple[Size | None, str | None]:
    try:
        return layer.out_sizes((size,) * layer.dims), None
    except ShapeError as error:
        return None, f"in {size}: {error}"


def axis_facts(layer: Spatial, axis: int, size: int) -> dict[str, Any]:
    """Everything about one axis, as JSON writes it."""
    out = layer.out_size(axis, size)
    field = compose(layer.taps(axis, size), IDENTITY)
    border = layer.border(axis, size)
    facts: dict[str, Any] = {"in": size, "out": out, "formula": layer.formula(axis, size)}
    if border:
        facts |= {"unread_right": border.unread_right, "unread_between": border.unread_between}
        facts |= {"leftover": border.leftover, "hint": border.hint}
    facts |= {"receptive_field": field.size, "receptive_field_min": field.smallest}
    facts |= {"jump": float(field.jump), "start": float(field.start), "notes": layer.notes(axis, size)}
    return facts | ({"windows": layer.windows(axis, size)} if isinstance(layer, AdaptivePool) else {})


def _report_sizes(request: LayerRequest, layer: Spatial, sizes: Size, shape: Shape | None) -> None:
    facts = [axis_facts(layer, axis, size) for axis, size in enumerate(sizes)]
    costs = _costs(layer, shape)
    outs = tuple(fact["out"] for fact in facts)
    if request.as_json:
        out_shape = list(layer.out_shape(shape)) if shape else None
        more = request.add_facts(layer) if request.add_facts else {}
        content = {"axes": facts, "out_shape": out_shape, **costs, "torch": layer.torch_code(), **more}
        print_json(request.command, content)
        return
    alike = all(fact == facts[0] for fact in facts)
    pairs = [("out", size_text(layer.out_shape(shape) if shape else outs))]
    for name, fact in [("", facts[0])] if alike else list(zip(AXIS_NAMES[layer.dims], facts, strict=True)):
        pairs += _axis_pairs(name, fact)
    print_pairs([*pairs, *_cost_pairs(costs, layer), ("torch", layer.torch_code())])
    if request.is_drawn:
        _print_drawing(layer, sizes, outs)


def _axis_pairs(name: str, fact: dict[str, Any]) -> list[tuple[str, str]]:
    pairs = [(name, f"{fact['out']} = {fact['formula']}")]
    lost, between = fact.get("unread_right", 0), fact.get("unread_between", 0)
    if lost:
        pairs.append(
            ("lost", f"{_positions(lost)} at the right end of {fact['in']} {'is' if lost == 1 else 'are'} never read")
        )
    if between:
        pairs.append(("lost", f"{_positions(between)} between the taps {'is' if between == 1 else 'are'} never read"))
    if fact.get("hint"):
        pairs.append(("hint", fact["hint"]))
    field = str(fact["receptive_field"])
    if fact["receptive_field_min"] != fact["receptive_field"]:
        field = f"{fact['receptive_field_min']} to {field}, by position"
    pairs.append(("sees", f"receptive field {field}; jump {fact['jump']:g}; first centre at {fact['start']:g}"))
    return pairs + [("note", note) for note in fact["notes"]]


def _positions(number: int) -> str:
    return f"{number} input position{'' if number == 1 else 's'}"


def _costs(layer: Layer, shape: Shape | None) -> dict[str, int | None]:
    """Parameters, MACs and FLOPs; None without channels."""
    if shape is None:
        return {"parameters": None, "macs": None, "flops": None}
    macs = layer.num_macs(shape)
    return {"parameters": layer.num_parameters(), "macs": macs, "flops": 2 * macs}


def _cost_pairs(costs: Mapping[str, int | None], layer: Layer) -> list[tuple[str, str]]:
    if costs["parameters"] is None:
        has_weights = layer.torch_code().startswith(("nn.Conv", "nn.ConvTranspose"))
        return [("cost", "parameters and MACs need channels: --in 3x224x224 --c-out 64")] if has_weights else []
    pairs = [("params", count_text(costs["parameters"]))]
    macs = costs["macs"] or 0
    return [*pairs, ("MACs", macs_text(macs))] if macs else pairs


def _print_drawing(layer: Spatial, sizes: Size, outs: Size) -> None:
    window = getattr(layer, "window", None)
    padding = (window(-1).pad_left, window(-1).pad_right) if window else (0, 0)
    axis = layer.dims - 1
    typer.echo()
    for line in draw_windows(layer.taps(axis, sizes[axis]), size=sizes[axis], out=outs[axis], padding=padding):
        typer.echo(line)


def report_plain(command: str, layer: Layer, shape: Shape, *, as_json: bool) -> None:
    """Print what a layer without windows does."""
    layer = layer.fit(shape)
    out, costs = layer.out_shape(shape), _costs(layer, shape)
    if as_json:
        content = {"in_shape": list(shape), "out_shape": list(out), **costs, "torch": layer.torch_code()}
        print_json(command, content)
        return
    out_text = f"{size_text(out)}   from {size_text(shape)}"
    print_pairs([("out", out_text), *_cost_pairs(costs, layer), ("torch", layer.torch_code())])
