"""Chains of layers: shape, cost and receptive field after every step, and what would fix a step that fails."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod

from dlkit.shapes.chain_parser import ChainStep
from dlkit.shapes.layer import Layer
from dlkit.shapes.layer_table import build_layer
from dlkit.shapes.size import Shape, ShapeError, size_text
from dlkit.shapes.taps import IDENTITY, ReceptiveField, compose, union

AxisFields = tuple[ReceptiveField, ...] | None  # per spatial axis; None where every output sees the whole image


@dataclass(frozen=True)
class ChainRow:
    """The result of one step; `index` counts from 1. The steps save and from have no torch code."""

    index: int
    text: str
    shape: Shape
    num_parameters: int
    num_macs: int
    field: AxisFields
    torch_code: str
    notes: tuple[str, ...] = ()

    @property
    def activations(self) -> int:
        """Numbers in the output of one sample."""
        return prod(self.shape)


class ChainError(ShapeError):
    """A step that cannot take its input: `index` is its number, `rows` are those before it."""

    exit_code = 1

    def __init__(self, message: str, *, index: int, text: str, rows: Sequence[ChainRow]) -> None:
        self.index, self.text, self.rows = index, text, tuple(rows)
        super().__init__(message)


@dataclass
class _State:
    """The output so far, and the saved ones by name."""

    shape: Shape
    field: AxisFields
    saved: dict[str, tuple[Shape, AxisFields]]


def run_chain(steps: Sequence[ChainStep], shape: Shape) -> list[ChainRow]:
    """One row per step for one sample of `shape` (channels first). Raises ChainError at the first that fails."""
    state, rows = _State(shape, (IDENTITY,) * (len(shape) - 1), {}), []
    for index, step in enumerate(steps, start=1):
        try:
            rows.append(_run_step(step, state, index))
        except ShapeError as error:
            raise ChainError(str(error), index=index, text=step.text, rows=rows) from None
    return rows


def _run_step(step: ChainStep, state: _State, index: int) -> ChainRow:
    if step.names:
        return _join(step, state, index)
    layer = _build(step, state.shape)
    row = ChainRow(
        index,
        step.text,
        layer.out_shape(state.shape),
        layer.num_parameters(),
        layer.num_macs(state.shape),
        _field_after(layer, state),
        layer.torch_code(),
        tuple(_notes(layer, state.shape)),
    )
    state.shape, state.field = row.shape, row.field
    return row


def _build(step: ChainStep, shape: Shape) -> Layer:
    """The layer of a step, fitted to its input."""
    options = {**step.options, **({"groups": shape[0]} if step.is_depthwise else {})}
    return build_layer(step.word, options, dims=max(1, len(shape) - 1)).fit(shape)


def _field_after(layer: Layer, state: _State) -> AxisFields:
    taps = layer.taps_per_axis(state.shape)
    if taps is None or state.field is None:
        return None
    return tuple(compose(axis, reach) for axis, reach in zip(taps, state.field, strict=True))


def _notes(layer: Layer, shape: Shape) -> Iterator[str]:
    """Input positions that are never read, and a linear layer on an input that was not flattened."""
    if layer.torch_code().startswith("nn.Linear") and len(shape) > 1:
        yield f"acts on the last axis only ({shape[-1]}); flatten gives {size_text(shape)} = {prod(shape)} features"
    border = getattr(layer, "border", None)
    lost = {axis: border(axis, size) for axis, size in enumerate(shape[1:])} if border else {}
    for axis, edge in lost.items():
        if edge is not None and (edge.unread_right or edge.unread_between):
            count = edge.unread_right + edge.unread_between
            yield f"axis {axis + 1}: {count} of {shape[1 + axis]} input positions never read"


def _join(step: ChainStep, state: _State, index: int) -> ChainRow:
    if step.word == "save":
        for name in step.names:
            state.saved[name] = (state.shape, state.field)
        return ChainRow(index, step.text, state.shape, 0, 0, state.field, "")
    branches = [_saved(name, state) for name in step.names]
    if step.word == "from":
        state.shape, state.field = branches[0]
        return ChainRow(index, step.text, state.shape, 0, 0, state.field, "")
    names = ", ".join(["x", *step.names])
    code = f"torch.cat([{names}], dim=1)" if step.word == "cat" else " + ".join(["x", *step.names])
    shapes = [state.shape, *(shape for shape, _ in branches)]
    _check_join(step, shapes)
    channels = sum(shape[0] for shape in shapes) if step.word == "cat" else shapes[0][0]
    fields = [state.field, *(field for _, field in branches)]
    state.shape, state.field = (channels, *shapes[0][1:]), _union(fields, shapes[0][1:])
    return ChainRow(index, step.text, state.shape, 0, 0, state.field, code)


def _saved(name: str, state: _State) -> tuple[Shape, AxisFields]:
    if name not in state.saved:
        known = f"saved so far: {', '.join(state.saved)}" if state.saved else "write `save " + name + "` before it"
        raise ShapeError(f"nothing is saved as {name!r}; {known}")
    return state.saved[name]


def _check_join(step: ChainStep, shapes: Sequence[Shape]) -> None:
    """Raise ShapeError unless all axes agree; `cat` may differ in channels."""
    names = ["here", *step.names]
    for name, shape in zip(names[1:], shapes[1:], strict=True):
        pairs = list(zip(shapes[0], shape, strict=False))[1 if step.word == "cat" else 0 :]
        if len(shape) != len(shapes[0]) or any(one != other for one, other in pairs):
            what = "sizes" if shape[0] == shapes[0][0] or step.word == "cat" else "channels"
            raise ShapeError(
                f"{step.word} needs equal {what}: {size_text(shapes[0])} here, {size_text(shape)} from {name}"
            )


def _union(fields: Sequence[AxisFields], sizes: Shape) -> AxisFields:
    known = [axes for axes in fields if axes is not None]
    if len(known) < len(fields):
        return None
    return tuple(union([axes[axis] for axes in known], size=size) for axis, size in enumerate(sizes))


def passes(steps: Sequence[ChainStep], shape: Shape) -> bool:
    """Whether every step takes its input."""
    try:
        run_chain(steps, shape)
    except ShapeError:
        return False
    return True


def find_fixes(steps: Sequence[ChainStep], shape: Shape, error: ChainError, *, most: int = 3) -> list[str]:
    """Single changes that let the whole chain pass, nearest to the failing step first, then other input sizes."""
    found = [text for text, changed in _changes(steps, error) if passes(changed, shape)][: most - 1]
    near = _near_sizes(steps, shape)
    if near:
        found.append(f"an input of {' or '.join(size_text((shape[0], *sizes)) for sizes in near)}")
    return found


def _changes(steps: Sequence[ChainStep], error: ChainError) -> Iterator[tuple[str, list[ChainStep]]]:
    """Insertions in front of the step that fails, then other options of it and of the steps before it."""
    place = error.index - 1
    for text, word, options in _insertions(steps[place], error):
        inserted = ChainStep(text, word, options)
        yield f"`{text}` before step {error.index}", [*steps[:place], inserted, *steps[place:]]
    for position in reversed(range(min(error.index, len(steps)))):
        step = steps[position]
        for text, options in _other_options(step):
            changed = replace(step, options={**step.options, **options})
            yield f"step {position + 1} ({step.text}): {text}", [*steps[:position], changed, *steps[position + 1 :]]


def _insertions(step: ChainStep, error: ChainError) -> Iterator[tuple[str, str, dict[str, object]]]:
    here = error.rows[-1].shape if error.rows else ()
    if step.word == "linear":
        yield "flatten", "flatten", {}
    if step.word in ("cat", "add") and len(here) > 1:
        saved = [row.shape for row in error.rows if row.text.split()[0] == "save" and step.names[0] in row.text.split()]
        for shape in saved[-1:]:
            if len(shape) == len(here) and shape[1:] != here[1:]:
                yield f"up size={','.join(map(str, shape[1:]))}", "upsample", {"size": shape[1:]}


def _other_options(step: ChainStep) -> Iterator[tuple[str, dict[str, object]]]:
    if step.word.endswith("pool") and step.word != "unpool":
        has_ceil = step.options.get("ceil_mode", False)
        yield ("without ceil" if has_ceil else "with ceil"), {"ceil_mode": not has_ceil}
    if step.word == "tconv":
        has_extra = any(step.options.get("output_padding", (0,)))
        yield ("without output_padding" if has_extra else "with op1"), {"output_padding": (0 if has_extra else 1,)}
    if step.word == "linear":
        yield "without in_features (inferred)", {"in_features": None}
    if step.word in ("conv", "maxpool", "avgpool") and not isinstance(step.options.get("padding", (0,)), str):
        half = tuple(kernel // 2 for kernel in step.options.get("kernel_size", (1,)))
        if step.options.get("padding", (0,)) != half:
            yield f"with p{','.join(map(str, half))}", {"padding": half}


def _near_sizes(steps: Sequence[ChainStep], shape: Shape) -> list[tuple[int, ...]]:
    """The nearest input sizes below and above that pass, changed by the same amount on all axes."""
    sizes, found = shape[1:], []
    for direction in (-1, 1):
        for distance in range(1, 129):
            moved = tuple(size + direction * distance for size in sizes)
            if sizes and min(moved) >= 1 and passes(steps, (shape[0], *moved)):
                found.append(moved)
                break
    return found


def chain_totals(rows: Sequence[ChainRow]) -> tuple[int, int, int]:
    """Sums of parameters, MACs and activations over all rows; the steps save and from add no activations."""
    return (
        sum(row.num_parameters for row in rows),
        sum(row.num_macs for row in rows),
        sum(row.activations for row in rows if row.torch_code),
    )
