"""How near a file that was exported comes to its network."""

from dataclasses import dataclass

from torch import Tensor

from dlkit.core.models import top1_matches
from dlkit.errors import DlkitError
from dlkit.tasks import TRAITS, TaskName

FLOAT_TOLERANCE = 1e-3  # of the largest output; sums in another order differ by some 1e-6 of it
INT8_TOLERANCE = 0.05  # a code that is rounded the other way early on changes what follows
CLOSENESS = (
    1e-3  # of the largest output, on average: an input that is rounded otherwise may change codes of int8 by one
)
CUT = 0.01  # of the largest output: what is cut off is worth a warning
SMALLEST = 1e-6  # for outputs that are all but zero


@dataclass(frozen=True)
class Parity:
    """The largest difference of any output, how large outputs are, the share of samples with the same top class, and that of outputs
    with the same sign, which decides on labels; for int8 the largest difference of any layer on equal input, in steps of its grid.

    Where this CPU cuts off large sums of int8, all of that is by exact arithmetic, and `max_abs_here` the largest difference of what
    this CPU computes.
    """

    samples: int
    max_abs: float
    output_max: float
    agreement: float
    same_signs: float
    layer_steps: int | None = None
    max_abs_here: float | None = None

    def words(self, task: TaskName) -> str:
        """Returns how alike what is decided is, and for numbers how far they differ."""
        share = self.same_signs if task == "multilabel" else self.agreement
        if TRAITS[task].has_maps:
            return f"same class for {share:.2%} of the pixels of {self.samples} samples"
        if agreed := TRAITS[task].agreed:
            return f"{agreed} for {share:.0%} of {self.samples} samples"
        return f"values differ by at most {self.max_abs:.2g} of {self.output_max:.2g} for {self.samples} samples"

    @property
    def cpu_note(self) -> str | None:
        """A sentence for a user whose CPU computes something else than what is in the file; None where it does not."""
        if self.max_abs_here is None or self.max_abs_here <= self.max_abs + CUT * self.output_max:
            return None
        return (
            f"on this CPU, which has no VNNI, ONNX Runtime cuts off large sums of 8-bit weights: here the file's outputs are off by "
            f"{self.max_abs_here:.2g} of {self.output_max:.2g}, by exact arithmetic and on newer CPUs by {self.max_abs:.2g}"
        )


def parity_of(found: Tensor, expected: Tensor) -> Parity:
    """The measures of two outputs of shape (N, ...). Raises DlkitError when the shapes differ."""
    if found.shape != expected.shape:
        raise DlkitError(f"the file gives {tuple(found.shape)} where the network gives {tuple(expected.shape)}")
    same = top1_matches(found, expected).float().mean()
    signs = ((found >= 0) == (expected >= 0)).float().mean()
    largest = float((found - expected).abs().max())
    return Parity(len(found), largest, float(expected.abs().max()), float(same), float(signs))


def require_parity(parity: Parity, *, tolerance: float = FLOAT_TOLERANCE) -> Parity:
    """The parity itself, or DlkitError when outputs differ by more than this part of the largest of them."""
    if not parity.max_abs <= tolerance * parity.output_max + SMALLEST:  # NaN is refused too
        raise DlkitError(
            f"not written: the file differs from the network by {parity.max_abs:.3g} on outputs up to {parity.output_max:.3g}"
        )
    return parity
