"""`solve`: the layer from its input and output."""

from typing import Annotated, Any

import typer

from dlkit.cli.options import AsJson
from dlkit.cli.plain_help import BareCommand
from dlkit.cli.shapecalc.options import SHORT_NAMES, CeilMode
from dlkit.cli.shapecalc.show import print_json, print_table
from dlkit.shapes import LayerSolution, SearchLimits, ShapeError, Size, SolveRequest, parse_numbers, size_text, solve

app = typer.Typer()

_SHOWN = 12


@app.command("solve", cls=BareCommand)
def solve_command(
    kind: Annotated[str, typer.Argument(help="conv, tconv, maxpool, avgpool or lppool.")],
    out: Annotated[str, typer.Option("--out", help="Output size: 112, or 112,160.")],
    input_text: Annotated[str | None, typer.Option("--in", "--input", help="Input size, or ? if unknown.")] = None,
    k: Annotated[str | None, typer.Option("--k", "--kernel-size", help="Kernel size, or ?.")] = None,
    s: Annotated[str | None, typer.Option("--s", "--stride", help="Stride, or ?.")] = None,
    p: Annotated[str | None, typer.Option("--p", "--padding", help="Padding, or ?.")] = None,
    d: Annotated[str, typer.Option("--d", "--dilation", help="Dilation, or ?.")] = "1",
    op: Annotated[str | None, typer.Option("--op", "--output-padding", help="Output padding, or ?.")] = None,
    ceil: CeilMode = False,
    max_k: Annotated[int, typer.Option("--max-k", min=1, help="Largest kernel to try.")] = 11,
    show_all: Annotated[bool, typer.Option("--all", help="Every solution, not only the usual ones.")] = False,
    as_json: AsJson = False,
) -> None:
    """Solve backwards: which kernel, stride, padding, dilation or input gives this output."""
    texts = {"kernel_size": k, "stride": s, "padding": p, "dilation": d, "output_padding": op}
    known: dict[str, Any] = {name: _number(name, text) for name, text in texts.items()}
    ins = None if input_text in (None, "?") else _sizes(input_text or "", "--in")
    if ins is None:
        known |= _defaults(kind, known, texts)
    request = SolveRequest(kind, _sizes(out, "--out"), ins, ceil_mode=ceil, **known)
    solutions = solve(request, SearchLimits(kernel_size=max_k))
    if as_json:
        content = {
            "kind": kind,
            "in": ins,
            "out": request.outs,
            "solutions": [_facts(solution) for solution in solutions],
        }
        print_json("solve", content)
    elif not solutions:
        raise ShapeError(_nothing(request, max_k))
    else:
        _print_solutions(request, solutions if show_all else solutions[:_SHOWN], len(solutions))


def _number(name: str, text: str | None) -> int | None:
    if text is None or text == "?":
        return None
    try:
        numbers = parse_numbers(text, what=name)
    except ShapeError:
        raise ShapeError(f"{SHORT_NAMES[name]} {text!r} is not a number; write 1, or ? where it is unknown") from None
    if len(numbers) > 1:
        raise ShapeError(f"{name} {text!r}: solve sets all axes alike; give one number, or solve each axis by itself")
    return numbers[0]


def _sizes(text: str, what: str) -> Size:
    return parse_numbers(text, what=what)


def _defaults(kind: str, known: dict[str, Any], texts: dict[str, str | None]) -> dict[str, int]:
    """With an unknown input the options not mentioned are torch's defaults; those given as ? stay unknown."""
    if texts["kernel_size"] is None:
        raise ShapeError("an unknown input needs the kernel: give --k, or --k ? to try all")
    stride = known["kernel_size"] or 2 if kind.endswith("pool") else 1
    defaults = {"stride": stride, "padding": 0, "output_padding": 0}
    return {name: value for name, value in defaults.items() if texts[name] is None}


def _facts(solution: LayerSolution) -> dict[str, Any]:
    geometry = solution.geometry
    return {
        **{
            name: getattr(geometry, name) for name in ("kernel_size", "stride", "padding", "dilation", "output_padding")
        },
        "ceil_mode": geometry.ceil_mode,
        "leftover": solution.leftover,
        "inputs": [[span[0], span[-1]] for span in solution.inputs],
        "note": solution.note,
    }


def _print_solutions(request: SolveRequest, solutions: list[LayerSolution], number: int) -> None:
    is_transposed = request.kind == "tconv"
    out = size_text(request.outs)
    header = ["k", "s", "p", "d", *(["op"] if is_transposed else ["leftover"]), f"inputs giving {out}", "note"]
    rows = []
    for solution in solutions:
        geometry = solution.geometry
        numbers = [geometry.kernel_size, geometry.stride, geometry.padding, geometry.dilation]
        rest = str(geometry.output_padding) if is_transposed else _leftover(solution)
        rows.append([*map(str, numbers), rest, ", ".join(map(_span, solution.inputs)), solution.note])
    print_table(header, rows, left=frozenset({4, 6} if not is_transposed else {6}))
    if number > len(solutions):
        typer.echo(f"  {number - len(solutions)} more with --all")


def _leftover(solution: LayerSolution) -> str:
    rest, padding = solution.leftover, solution.geometry.padding
    if not rest:
        return "-" if rest is None else "0"
    return f"{rest} padding" if rest <= padding else f"{rest - padding} of the input"


def _span(span: range) -> str:
    return str(span[0]) if len(span) == 1 else f"{span[0]}..{span[-1]}"


def _nothing(request: SolveRequest, max_k: int) -> str:
    start = size_text(request.ins) if request.ins else "any input"
    hints = "leave an option open (--p ?, --s ?, --d ?)" + (
        "" if request.kernel_size else f", or try --max-k {2 * max_k}"
    )
    return f"no {request.kind} with these options turns {start} into {size_text(request.outs)}; {hints}"
