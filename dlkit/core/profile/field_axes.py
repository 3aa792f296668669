"""Which part of the image a tensor's positions see, followed through any operator.

Every axis of a tensor is a row of atoms (size, view): a view says which image axis an atom runs along and what its
positions see there; None is an axis without place (batch, channels). Reshapes regroup atoms, so that places survive the
way to (batch, height*width, channels) and back.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

from dlkit.shapes import ReceptiveField, Taps, compose, union

View = tuple[int, ReceptiveField] | None
Atom = tuple[int, View]
Atoms = tuple[Atom, ...]


@dataclass(frozen=True)
class Seen:
    """What a tensor sees. `is_all`: every position the whole image. `lost_at`: the operator where places got lost."""

    axes: tuple[Atoms, ...]
    is_all: bool = False
    lost_at: str | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the tensor's axes."""
        return tuple(prod(size for size, _ in atoms) for atoms in self.axes)

    def reaches(self) -> dict[int, ReceptiveField]:
        """What positions see, per image axis."""
        views = [view for atoms in self.axes for _, view in atoms if view is not None]
        return dict(sorted(views))

    def has_place(self, axis: int) -> bool:
        """Whether an axis runs along the image."""
        return any(view is not None for _, view in self.axes[axis])


def everything(shape: Sequence[int]) -> Seen:
    """A tensor that sees the whole image at every position."""
    return Seen(plain_axes(shape), is_all=True)


def lost(shape: Sequence[int], at: str) -> Seen:
    """A tensor whose places are unknown from this operator on."""
    return Seen(plain_axes(shape), lost_at=at)


def plain_axes(shape: Sequence[int]) -> tuple[Atoms, ...]:
    """Axes without place."""
    return tuple(((int(size), None),) for size in shape)


def through_taps(seen: Seen, taps: Sequence[Taps], shape: Sequence[int], at: str) -> Seen:
    """After a windowed operator over the last axes of a tensor."""
    first = len(seen.axes) - len(taps)
    axes = list(plain_axes(shape))
    axes[:first] = seen.axes[:first] if seen.shape[:first] == tuple(shape[:first]) else axes[:first]
    for offset, axis_taps in enumerate(taps):
        atoms = seen.axes[first + offset]
        views = [view for _, view in atoms if view is not None]
        if len(views) > 1 or (views and len(atoms) > 1):
            return lost(shape, at)
        if views:
            image_axis, reach = views[0]
            axes[first + offset] = ((int(shape[first + offset]), (image_axis, compose(axis_taps, reach))),)
    return Seen(tuple(axes))


def regrouped(seen: Seen, shape: Sequence[int], at: str) -> Seen:
    """After a reshape: atoms are dealt out to the new axes in order; an atom with a place is never split."""
    atoms = [atom for axis in seen.axes for atom in axis if atom != (1, None)]
    axes: list[Atoms] = []
    for size in shape:
        taken: list[Atom] = []
        while prod(count for count, _ in taken) < size and atoms:
            wanted = int(size) // prod(count for count, _ in taken)
            count, view = atoms.pop(0)
            if count <= wanted or view is not None:
                taken.append((count, view))
            elif count % wanted == 0:
                taken.append((wanted, None))
                atoms.insert(0, (count // wanted, None))
            else:
                return lost(shape, at)
        if prod(count for count, _ in taken) != size:
            return lost(shape, at)
        axes.append(tuple(taken) or ((1, None),))
    if any(view is not None for _, view in atoms):
        return lost(shape, at)
    return Seen(tuple(axes))


def joined(parts: Sequence[Seen], shape: Sequence[int], at: str) -> Seen:
    """After an operator number by number, with broadcasting from the right, or a concatenation along channels."""
    axes = list(plain_axes(shape))
    for axis in range(len(shape)):
        rows = [part.axes[axis - len(shape)] for part in parts if len(part.axes) >= len(shape) - axis]
        placed = [row for row in rows if any(view is not None for _, view in row)]
        if not placed:
            continue
        merged = _merged(placed, int(shape[axis]))
        if merged is None:
            return lost(shape, at)
        axes[axis] = merged
    return Seen(tuple(axes))


def _merged(rows: Sequence[Atoms], size: int) -> Atoms | None:
    """One axis of several tensors: rows of equal atoms are united, one of size 1 is seen by all positions."""
    full = [row for row in rows if prod(count for count, _ in row) == size]
    single = [row for row in rows if row not in full]
    if not full:
        full, single = [((size, row[0][1]),) for row in single], []
    if any([count for count, _ in row] != [count for count, _ in full[0]] for row in full):
        return None
    if single and len(full[0]) > 1:
        return None
    atoms = []
    for index, (count, _) in enumerate(full[0]):
        views = [row[index][1] for row in full] + [row[0][1] for row in single]
        known = [view for view in views if view is not None]
        if len({axis for axis, _ in known}) > 1:
            return None
        atoms.append((count, (known[0][0], union([reach for _, reach in known], size=count)) if known else None))
    return tuple(atoms)


def without_axis(seen: Seen, axis: int) -> Seen:
    """With one axis dropped."""
    return replace(seen, axes=seen.axes[:axis] + seen.axes[axis + 1 :])


def at_every(span: ReceptiveField, start: int, step: int) -> ReceptiveField:
    """Every `step`-th position from `start` on."""
    return compose(Taps(((start,),), step), span)
