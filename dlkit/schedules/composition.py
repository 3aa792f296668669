"""Schedules put together from pieces: `linear 500 from 0.01; cosine rest`.

Pieces are separated by `;`. A piece is a schedule's name, its length, then words and options in any order:

- length: `500` or `500st` (steps), `5%` (of the run), `2ep` (epochs), or `rest` (what the others leave, once);
- `from F`: `linear` starts at F times the rate, any other curve has its peak there;
- `to F`: `linear` ends at F times the rate, any other curve falls towards F instead of 0;
- `at F`: the same as `from F`, for `constant 1000 at 0.1`;
- `option=value`: the curve's own options, such as `T_0=200`.

Every piece counts steps from its own start, as the children of torch's `SequentialLR` do, and has its end value where the
next one begins. The end value of the last piece is held.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from dlkit.quantities import parse_length
from dlkit.schedules.curve_options import build_curve, find_curve, fit_length, read_plain
from dlkit.schedules.curves import Constant, Curve, Linear
from dlkit.schedules.option_checks import check_number, check_whole
from dlkit.schedules.plateau import Plateau


@dataclass(frozen=True)
class Piece:
    """One part of a composition: `steps` steps of a curve between `floor` and `peak` times the base rate."""

    curve: Curve
    steps: int
    peak: float = 1.0
    floor: float = 0.0

    def lr(self, step: int, base_lr: float) -> float:
        """The rate at a step of the piece; its end value after its end."""
        rise = self.curve.lr(min(step, self.steps), base_lr * (self.peak - self.floor))
        return base_lr * self.floor + rise if self.floor else rise


@dataclass(frozen=True)
class Sequence(Curve):
    """Pieces one after another, written as one line of text; they count optimizer steps."""

    pieces: str
    total_steps: int | None = None
    steps_per_epoch: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.pieces, str):
            raise ValueError(f"pieces must be a line such as 'linear 500 from 0.01; cosine rest', got {self.pieces!r}")
        for option in ("total_steps", "steps_per_epoch"):
            if getattr(self, option) is not None:
                check_whole(option, getattr(self, option), least=1)
        parse_pieces(self.pieces, total_steps=self.total_steps or 10**9, steps_per_epoch=self.steps_per_epoch or 1)

    @cached_property
    def parts(self) -> tuple[Piece, ...]:
        """The pieces with their lengths in steps."""
        if self.total_steps is None:
            raise ValueError("total_steps is still automatic: give it, or make the curve with build_schedule")
        return parse_pieces(self.pieces, total_steps=self.total_steps, steps_per_epoch=self.steps_per_epoch or 1)

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """The step at which each piece begins."""
        return (0, *accumulate(piece.steps for piece in self.parts))[:-1]

    def lr(self, step: int, base_lr: float) -> float:
        """The rate of the piece that the step belongs to."""
        index = max(index for index, start in enumerate(self.starts) if start <= step)
        return self.parts[index].lr(step - self.starts[index], base_lr)


def parse_pieces(text: str, *, total_steps: int, steps_per_epoch: int) -> tuple[Piece, ...]:
    """Parse the pieces of a composition. Raises ValueError that names the piece at fault."""
    written = [piece.split() for piece in text.split(";") if piece.strip()]
    if not written:
        raise ValueError("no pieces; write for example 'linear 500 from 0.01; cosine rest'")
    lengths = _lengths_in_steps(written, total_steps=total_steps, steps_per_epoch=steps_per_epoch)
    pieces = []
    for words, steps in zip(written, lengths, strict=True):
        try:
            pieces.append(_parse_piece(words[0], words[2:], steps))
        except ValueError as error:
            raise ValueError(f"in the piece {' '.join(words)!r}: {error}") from None
    return tuple(pieces)


def _lengths_in_steps(written: list[list[str]], *, total_steps: int, steps_per_epoch: int) -> list[int]:
    lengths: list[int | None] = []
    for words in written:
        length = " ".join(words[1:2])
        if length == "rest":
            lengths.append(None)
            continue
        try:
            parsed = parse_length(f"{length}st" if length[-1:].isdigit() else length)
            lengths.append(parsed.to_steps(total_steps=total_steps, steps_per_epoch=steps_per_epoch))
        except ValueError:
            raise ValueError(
                f"in the piece {' '.join(words)!r}: a length must follow the name: 500, 5%, 2ep or rest"
            ) from None
    if lengths.count(None) > 1:
        raise ValueError("`rest` can stand only once")
    left = total_steps - sum(length or 0 for length in lengths)
    if None in lengths and left < 1:
        raise ValueError(
            f"the other pieces take {total_steps - left:,} of {total_steps:,} steps; none is left for `rest`"
        )
    return [left if length is None else length for length in lengths]


def _parse_piece(name: str, words: list[str], steps: int) -> Piece:
    known, kind = find_curve(name)
    if issubclass(kind, Plateau | Sequence):
        raise ValueError(f"{known} cannot be a piece: it does not depend on the step alone")
    levels, options = _read_words(words)
    if issubclass(kind, Linear):
        if not levels and not options:
            raise ValueError("linear needs `from F` or `to F`; what stays at one level is written constant")
        options = {"start_factor": levels.pop("from", 1.0), "end_factor": levels.pop("to", 1.0), **options}
    if issubclass(kind, Constant) and "to" in levels:
        raise ValueError("constant stays at one level: write `at F`")
    curve = fit_length(build_curve(kind, options), left=max(steps, 1), warmup=0)
    assert isinstance(curve, Curve)
    if getattr(curve, "cycle_momentum", False):
        raise ValueError("a sequence leaves the momentum alone: write cycle_momentum=false")
    peak = levels.get("from", levels.get("at", 1.0))
    return Piece(curve, steps, peak=peak, floor=levels.get("to", 0.0))


def _read_words(words: list[str]) -> tuple[dict[str, float], dict[str, object]]:
    levels: dict[str, float] = {}
    options: dict[str, object] = {}
    rest = iter(words)
    for word in rest:
        if word in ("from", "to", "at"):
            level = read_plain(next(rest, ""))
            check_number(f"`{word}`", level, least=0)
            levels[word] = float(level)
        elif "=" in word:
            option, _, value = word.partition("=")
            options[option] = read_plain(value)
        else:
            raise ValueError(f"{word!r} is no word here; write from F, to F, at F or option=value")
    return levels, options
