"""How much to remove, in all and round by round: a share of the original or a fixed count, rounded as torch rounds."""

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from dlkit.choices import PruneSchedule
from dlkit.errors import UsageError

HINT = "write a share as 50% or 0.5, and a fixed number as --count 50"


@dataclass(frozen=True)
class Amount:
    """A share of the original, above 0 and below 1, or a fixed count of at least 1; exactly one of the two."""

    share: float | None = None
    count: int | None = None

    def of(self, size: int, progress: float = 1.0) -> int:
        """How many of `size` to remove when `progress` of the way is gone.

        Rounds half to even, as `torch.nn.utils.prune` does: 50 % of 5 is 2. A count is not limited to `size`.
        """
        if self.share is not None:
            return round(self.share * progress * size)
        return round((self.count or 0) * progress)

    def __str__(self) -> str:
        return f"{100 * self.share:g}%" if self.share is not None else str(self.count)


def parse_amount(amount: str | None, count: int | None) -> Amount:
    """The amount of `--amount` or `--count`. Raises UsageError unless exactly one is given and it is in range."""
    if (amount is None) == (count is None):
        raise UsageError("give either --amount, a share such as 50%, or --count, a fixed number")
    if count is not None:
        if count < 1:
            raise UsageError(f"--count {count}: must be at least 1")
        return Amount(count=count)
    return Amount(share=parse_share(amount or "", "--amount"))


def parse_share(text: str, option: str, hint: str = HINT) -> float:
    """A share above 0 and below 1 from `50%` or `0.5`. Raises UsageError, also for a bare integer, which could mean both.

    `hint` is what the error says would be right.
    """
    text = text.strip()
    digits = text.removesuffix("%").strip()
    try:
        number = Decimal(digits)
    except InvalidOperation:
        raise UsageError(f"{option} {text!r}: not a number; {hint}") from None
    if not text.endswith("%") and digits.lstrip("+-").isdigit():
        told = f"is that a share or a number of weights? {_either(number)}" if hint == HINT else hint
        raise UsageError(f"{option} {text}: {told}")
    # decimal, so that 33.3% is the same float as 0.333
    share = float(number / 100 if text.endswith("%") else number)
    if not 0 < share < 1:
        raise UsageError(f"{option} {text}: must be more than nothing and less than everything; {hint}")
    return share


def parse_floor(text: str) -> float:
    """The share of `--min-keep`, which may be 0 for no floor. Raises UsageError as `parse_share` does."""
    if text.strip() in {"0", "0%", "0.0"}:
        return 0.0
    return parse_share(text, "--min-keep", hint="write a share as 10% or 0.1, and 0 for no floor")


def _either(number: Decimal) -> str:
    if 0 < number < 100:
        return f"Write {number}% for a share, or --count {number} for a fixed number"
    if number >= 100:
        return f"Write --count {number} for a fixed number; a share is below 100%"
    return HINT[0].upper() + HINT[1:]


def progress_of(schedule: PruneSchedule, iterations: int) -> list[float]:
    """The part of the whole amount that is removed after each round; it rises and ends at exactly 1.

    `agp` is the cubic of Zhu and Gupta (2017, arXiv:1710.01878, eq. 1) from nothing: 1 - (1 - t/T)^3, which removes most at
    first. `linear` is t/T.
    """
    steps = [step / iterations for step in range(1, iterations + 1)]
    return [1 - (1 - step) ** 3 for step in steps] if schedule == "agp" else steps
