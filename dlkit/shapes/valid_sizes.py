"""Which input sizes pass through a network, and the divisor rule behind them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dlkit.shapes.chain import run_chain
from dlkit.shapes.chain_parser import ChainStep
from dlkit.shapes.size import Shape, ShapeError, size_text


@dataclass(frozen=True)
class ValidSizes:
    """Square input sizes that pass through a network, each with its output, and the rule behind them.

    The rule is `size % divisor in remainders`, from the first size on; `divisor` is None if no divisor fits.
    """

    tried: range
    sizes: tuple[int, ...]
    divisor: int | None
    remainders: tuple[int, ...]
    outs: tuple[str, ...]

    @property
    def rule(self) -> str:
        """The rule in words."""
        if not self.sizes:
            return f"no size from {self.tried[0]} to {self.tried[-1]} passes"
        first = self.sizes[0]
        if self.divisor is None:
            return f"no divisor explains the {len(self.sizes)} sizes that pass"
        if self.divisor == 1:
            return f"every size from {first} on"
        if self.remainders == (0,):
            return f"multiples of {self.divisor}, from {first} on"
        remainders = ", ".join(map(str, self.remainders))
        return f"sizes that leave {remainders} when divided by {self.divisor}, from {first} on"


def find_valid_sizes(run: Callable[[int], str | None], tried: range) -> ValidSizes:
    """Try every size: `run` returns the output as text, or None if the network refuses the size."""
    outs = {size: out for size in tried if (out := run(size)) is not None}
    sizes = tuple(outs)
    divisor, remainders = _rule(sizes, tried)
    return ValidSizes(tried, sizes, divisor, remainders, tuple(outs.values()))


def _rule(sizes: Sequence[int], tried: range) -> tuple[int | None, tuple[int, ...]]:
    """The smallest divisor whose remainders separate the sizes that pass; at least two periods must have been tried."""
    if not sizes:
        return None, ()
    candidates = [size for size in tried if size >= sizes[0]]
    passing = set(sizes)
    for divisor in range(1, max(1, len(candidates) // 2) + 1):
        remainders = {size % divisor for size in passing}
        if all((size in passing) == (size % divisor in remainders) for size in candidates):
            return divisor, tuple(sorted(remainders))
    return None, ()


def valid_chain_sizes(steps: Sequence[ChainStep], channels: int, tried: range, *, dims: int = 2) -> ValidSizes:
    """Find the square inputs (cubes in 3-d) with these channels that pass through a chain."""

    def run(size: int) -> str | None:
        shape: Shape = (channels, *(size,) * dims)
        try:
            return size_text(run_chain(steps, shape)[-1].shape)
        except ShapeError:
            return None

    return find_valid_sizes(run, tried)
