"""How pruning is spread over iterations. All shares are of the original network, so rounds do not compound."""

from typing import Literal

ScheduleName = Literal["agp", "linear"]


def progress_of(schedule: ScheduleName, iterations: int) -> list[float]:
    """The part of the whole amount that is removed after each iteration; rises, and ends at exactly 1.

    `agp` is the cubic of Zhu and Gupta (2017, arXiv:1710.01878, eq. 1) from nothing: 1 - (1 - t/T)^3, much at first and little
    at the end. `linear` is t/T.
    """
    steps = [step / iterations for step in range(1, iterations + 1)]
    return [1 - (1 - step) ** 3 for step in steps] if schedule == "agp" else steps
