"""`chain`: several layers, one after the other."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from dlkit.cli.options import AsJson
from dlkit.cli.plain_help import BareCommand
from dlkit.cli.shapecalc.options import parse_shape
from dlkit.cli.shapecalc.show import macs_text, print_json, print_pairs, print_table, shortened
from dlkit.quantities import parse_count
from dlkit.shapes import (
    AxisFields,
    ChainError,
    ChainRow,
    ChainStep,
    Shape,
    ShapeError,
    chain_totals,
    count_text,
    draw_fields,
    find_fixes,
    parse_chain,
    parse_numbers,
    run_chain,
    short_count,
    size_text,
)

app = typer.Typer()

Text = Annotated[
    str, typer.Argument(metavar="CHAIN", help='Layers: "conv 64 k3 s2 p1; relu; gap 1", a file, or - for stdin.')
]

NumClasses = Annotated[int | None, typer.Option(min=1, help="For `linear: auto` in a config's layers.")]


class CheckError(ShapeError):
    """A chain that works, but not as `--check` demands."""

    exit_code = 1


@app.command(cls=BareCommand)
def chain(
    shape_text: Annotated[str, typer.Argument(metavar="INPUT", help="Shape of one sample: 3x224x224.")],
    text: Text,
    check: Annotated[
        list[str] | None, typer.Option(help="Demand out=112 or out=64x112x112, params<=2M, macs<=1G.")
    ] = None,
    rf: Annotated[bool, typer.Option("--rf", help="Draw how the receptive field grows.")] = False,
    num_classes: NumClasses = None,
    code: Annotated[bool, typer.Option("--code", help="Print the torch lines instead of the table.")] = False,
    as_json: AsJson = False,
) -> None:
    """A chain of layers: shapes, costs and receptive field per layer; joins are checked. Exit 1 on a mismatch."""
    shape, steps = parse_shape(shape_text), read_chain(text, num_classes=num_classes)
    try:
        rows = run_chain(steps, shape)
    except ChainError as error:
        mends = find_fixes(steps, shape, error)
        raise _shown_mismatch(error, mends, shape, as_json=as_json) from None
    if as_json:
        print_json("chain", _facts(rows, shape))
    elif code:
        _print_code(rows)
    else:
        _print_rows(rows, shape)
    if rf and not as_json:
        _print_fields(rows, shape)
    for demand in check or []:
        _check(demand, rows)


def read_chain(text: str, *, num_classes: int | None = None) -> list[ChainStep]:
    """The steps of a chain given as text, as a file of such text, as a config with `layers:`, or on stdin as `-`."""
    if text == "-":
        return parse_chain(sys.stdin.read())
    path = Path(text)
    if _is_path(text):
        if not path.is_file():
            raise ShapeError(f'no file {text}; a chain on the line looks like "conv 64 k3 s2 p1; relu; gap 1"')
        if path.suffix in (".yaml", ".yml"):
            from dlkit.cli.shapecalc.layer_list import read_layer_list  # PyYAML only where it is needed

            return read_layer_list(path, num_classes=num_classes)
        return parse_chain(path.read_text(encoding="utf-8"))
    return parse_chain(text)


def _is_path(text: str) -> bool:
    """Whether this names a file: it has no blank or `;` but a suffix or a folder, or is there."""
    if ";" in text or len(text) > 1000:
        return False
    path = Path(text)
    return path.is_file() if " " in text or "\n" in text else bool(path.suffix or "/" in text)


def _shown_mismatch(error: ChainError, mends: Sequence[str], shape: Shape, *, as_json: bool) -> Exception:
    """Print the rows up to the mismatch; the error to raise says what would work."""
    if as_json:
        facts = _facts(error.rows, shape)
        facts["error"] = {"index": error.index, "text": error.text, "message": str(error), "would_work": list(mends)}
        print_json("chain", facts)
        return typer.Exit(1)
    if error.rows:
        _print_rows(error.rows, shape)
    advice = "".join(f"\n  would work: {mend}" for mend in mends)
    return ChainError(
        f"step {error.index} ({error.text}): {error}{advice}", index=error.index, text=error.text, rows=[]
    )


def _field_text(field: AxisFields, shape: Shape, *, what: str) -> str:
    """Receptive field or jump of all axes; one number where they agree."""
    if field is None:
        return "all" if what == "size" else "-"
    values = [f"{float(getattr(reach, what)):g}" for reach in field]
    if what == "size" and shape[1:] and all(r.size >= size for r, size in zip(field, shape[1:], strict=True)):
        return "all"
    return values[0] if len(set(values)) == 1 else ",".join(values)


def _print_rows(rows: Sequence[ChainRow], shape: Shape) -> None:
    table = []
    for row in rows:
        sees = _field_text(row.field, shape, what="size"), _field_text(row.field, shape, what="jump")
        costs = (short_count(row.num_parameters), short_count(row.num_macs)) if row.torch_code else ("", "")
        table.append([str(row.index), shortened(row.text, 24), size_text(row.shape), *costs, *sees])
    print_table(["#", "layer", "out", "params", "MACs", "sees", "jump"], table, left=frozenset({1, 2}))
    parameters, macs, activations = chain_totals(rows)
    print_pairs(
        [
            ("params", count_text(parameters)),
            ("MACs", macs_text(macs)),
            ("outputs", f"{count_text(activations)} numbers, {activations * 4 / 2**20:.1f} MiB in float32, one sample"),
            *((f"note {row.index}", note) for row in rows for note in row.notes),
        ]
    )


def _print_code(rows: Sequence[ChainRow]) -> None:
    """A Sequential for a plain chain; with joins, one line per step for a forward() of one's own."""
    plain = all(row.torch_code.startswith("nn.") for row in rows)
    typer.echo("nn.Sequential(" if plain else "# layers and joins, in order")
    for row in rows:
        typer.echo(f"    {row.torch_code}," if plain else row.torch_code or f"# {row.text}")
    if plain:
        typer.echo(")")


def _print_fields(rows: Sequence[ChainRow], shape: Shape) -> None:
    made = [row for row in rows if row.torch_code and shape[1:]]
    typer.echo()
    fields = [(f"{row.index} {row.text}", row.field[-1].size if row.field else None) for row in made]
    for line in draw_fields(fields, size=shape[-1]):
        typer.echo("  " + line)


def _facts(rows: Sequence[ChainRow], shape: Shape) -> dict[str, Any]:
    parameters, macs, activations = chain_totals(rows)
    sums = {"parameters": parameters, "macs": macs, "flops": 2 * macs, "activations": activations}
    return {"in_shape": list(shape), "layers": [_row_facts(row) for row in rows], "total": sums}


def _row_facts(row: ChainRow) -> dict[str, Any]:
    field = row.field and [
        {"size": reach.size, "size_min": reach.smallest, "jump": float(reach.jump), "start": float(reach.start)}
        for reach in row.field
    ]
    return {
        "index": row.index,
        "text": row.text,
        "out_shape": list(row.shape),
        "parameters": row.num_parameters,
        "macs": row.num_macs,
        "activations": row.activations if row.torch_code else 0,
        "receptive_field": None if row.field is None else field,
        "torch": row.torch_code or None,
        "notes": list(row.notes),
    }


def _check(demand: str, rows: Sequence[ChainRow]) -> None:
    """Hold one demand against the result. Raises CheckError."""
    name, operator, wanted = _demand(demand)
    parameters, macs, _ = chain_totals(rows)
    if name == "out":
        shape, expected = rows[-1].shape, parse_numbers(wanted, what="out")
        has_axes = len(expected) == 1 and len(shape) > 1
        matches = shape[1:] == expected * (len(shape) - 1) if has_axes else shape == expected
        if not matches or operator != "=":
            raise CheckError(f"check {demand}: the output is {size_text(shape)}")
        return
    found = {"params": parameters, "macs": macs}[name]
    limit = _count(wanted)
    if not (found <= limit if operator == "<=" else found == limit):
        raise CheckError(f"check {demand}: {name} is {count_text(found)}")


def _demand(text: str) -> tuple[str, str, str]:
    operator = "<=" if "<=" in text else "="
    name, _, wanted = (part.strip() for part in text.partition(operator))
    if name not in ("out", "params", "macs") or not wanted:
        raise ShapeError(f"--check {text!r} is not understood; write out=112, out=64x112x112, params<=2M or macs<=1G")
    return name, operator, wanted


def _count(text: str) -> float:
    try:
        return parse_count(text)
    except ValueError:
        raise ShapeError(f"{text!r} is not a count; write 2000000 or 2M") from None
