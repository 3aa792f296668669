"""Which channels of a network depend on each other, traced number by number through one forward pass."""

from dlkit.prune.dependency.agreement import find_misplaced
from dlkit.prune.dependency.trace import trace
from dlkit.prune.dependency.tracer import Findings
from dlkit.prune.dependency.units import Bundle, TracedUnits
