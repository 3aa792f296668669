"""The request: what is asked of pruning, checked as a whole before anything is opened."""

import math
from dataclasses import dataclass

from dlkit.choices import PruneMethod, PruneSchedule, PruneScope
from dlkit.errors import UsageError
from dlkit.prune.amounts import Amount
from dlkit.prune.channels import Target

MASK_METHODS = ("l1", "l2", "random")
FLOOR = 0.1  # of every layer that is shrunk, or whose channels compete with those of others (PruningBench, 2024)
ROUND_TO = 8
RECAL_BATCHES = 50


@dataclass(frozen=True)
class PruneRequest:
    """Options of a pruning run; None where the default depends on the others.

    `dim` and `norm` are for masks of whole slices; `epochs` and `lr` for fine-tuning after each iteration, in which
    the network before pruning teaches if `is_distilled`; `num_recal` counts batches. Without `seconds` no latency is measured.
    """

    amount: Amount | None = None
    target: Target | None = None
    method: PruneMethod | None = None
    scope: PruneScope = "layer"
    is_structured: bool = False
    is_shrunk: bool = False
    norm: float | None = None
    dim: int | None = None
    round_to: int | None = None
    min_keep: float | None = None
    iterations: int = 1
    schedule: PruneSchedule = "agp"
    epochs: float | None = None
    lr: float | None = None
    is_distilled: bool = False
    num_recal: int | None = None
    rewind: str | None = None
    skip: tuple[str, ...] = ()
    seed: int = 0
    seconds: float | None = 1.5

    @property
    def picked_method(self) -> PruneMethod:
        """The method, by default l1 for single weights and l2 for whole slices."""
        return self.method or ("l2" if self.is_structured else "l1")

    @property
    def picked_dim(self) -> int | None:
        """The dimension of whole slices; None for single weights."""
        return (self.dim or 0) if self.is_structured else None

    @property
    def picked_norm(self) -> float:
        """The n of the Ln norm of slices."""
        return self.norm if self.norm is not None else {"l1": 1.0}.get(self.picked_method, 2.0)

    @property
    def picked_min_keep(self) -> float:
        """The least share of a layer that stays: for slices at least one of them, for single weights nothing, as torch."""
        if self.min_keep is not None:
            return self.min_keep
        if not self.is_structured:
            return 0.0
        return FLOOR if self.scope == "global" or self.is_shrunk else 1e-9

    @property
    def picked_round_to(self) -> int:
        """What the numbers of channels that stay are multiples of."""
        return ROUND_TO if self.round_to is None else self.round_to

    @property
    def needs_data(self) -> bool:
        """Whether an option cannot do without data."""
        return self.epochs is not None or bool(self.num_recal) or self.method == "taylor"

    @property
    def picked_recal(self) -> int:
        """Batches to measure batch norm on again."""
        return RECAL_BATCHES if self.num_recal is None else self.num_recal


def check_request(request: PruneRequest, *, needs_amount: bool = True) -> None:
    """Raise UsageError for options that contradict each other or have no effect; looking alone needs no amount."""
    if request.amount is not None and request.target is not None:
        raise UsageError("--target finds the amount itself; leave --amount and --count out")
    if needs_amount and request.amount is None and request.target is None:
        raise UsageError("say how much: either --amount 50% (or --count N), or --target macs=50%")
    (_check_shrinking if request.is_shrunk else _check_masks)(request)
    if request.iterations < 1:
        raise UsageError(f"--iterations {request.iterations}: must be at least 1")
    for option, number in (("--finetune", request.epochs), ("--lr", request.lr)):
        if number is not None and not 0 < number < math.inf:
            raise UsageError(f"{option} {number:g}: must be greater than 0 and finite")
    if request.epochs is None:
        for option, value in (
            ("--rewind", request.rewind),
            ("--lr", request.lr),
            ("--distill", request.is_distilled or None),
        ):
            if value is not None:
                raise UsageError(f"{option} is for training after pruning; add --finetune EPOCHS")


def _check_masks(request: PruneRequest) -> None:
    if request.target is not None:
        raise UsageError(f"--target {request.target.text}: masks leave the size as it is; add --shrink")
    if request.round_to is not None:
        raise UsageError("--round-to rounds numbers of channels that stay; add --shrink")
    if request.picked_method not in MASK_METHODS:
        raise UsageError(f"--method {request.method} ranks the channels that --shrink removes; add --shrink")
    if not request.is_structured:
        for option, value in (("--n", request.norm), ("--dim", request.dim)):
            if value is not None:
                raise UsageError(f"{option} is for masks of whole slices; add --structured")
    if None not in (request.norm, request.method) and request.norm != {"l1": 1, "l2": 2}.get(str(request.method)):
        raise UsageError(f"--n {request.norm:g} is another norm than --method {request.method}; give one of them")


def _check_shrinking(request: PruneRequest) -> None:
    for option, value in (("--dim", request.dim), ("--n", request.norm)):
        if value is not None:
            raise UsageError(f"{option} is for masks; --shrink removes channels, ranked by --method l1, l2, ...")


def describe_request(request: PruneRequest) -> str:
    """The request in words: `channels by L2, 50%`."""
    method = request.picked_method
    if request.is_structured and not request.is_shrunk and method != "random":
        method_words = "L∞" if math.isinf(request.picked_norm) else f"L{request.picked_norm:g}"
    else:
        method_words = method
    what = "channels removed" if request.is_shrunk else "channels masked" if request.is_structured else "weights masked"
    amount = f"target {request.target.text}" if request.target else f"{request.amount or 'no amount yet'}"
    where = ", across all layers" if request.scope == "global" else " of each layer" if request.amount else ""
    rounds = f", in {request.iterations} iterations" if request.iterations > 1 else ""
    return f"{what} by {method_words}, {amount}{where}{rounds}"
