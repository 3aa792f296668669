"""Which channels of a network depend on each other, followed number by number through one forward pass."""

from dlkit.prune.dependency.agreement import find_misplaced
from dlkit.prune.dependency.trace import trace
from dlkit.prune.dependency.tracer import Findings
from dlkit.prune.dependency.units import Assembly, Bundle

__all__ = [
    "Assembly",
    "Bundle",
    "Findings",
    "find_misplaced",
    "trace",
]
