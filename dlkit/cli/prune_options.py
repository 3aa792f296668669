"""The options of `dlkit prune`, and the request that they make."""

import math
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dlkit.errors import UsageError

if TYPE_CHECKING:
    from dlkit.prune import PruneRequest


class MethodChoice(StrEnum):
    """How weights or channels are ranked."""

    l1 = "l1"
    l2 = "l2"
    random = "random"
    bn = "bn"
    fpgm = "fpgm"
    taylor = "taylor"


class ScopeChoice(StrEnum):
    """Where they compete."""

    layer = "layer"
    everywhere = "global"


class ScheduleChoice(StrEnum):
    """How the amount grows over iterations."""

    agp = "agp"
    linear = "linear"


def _text(option: str, text: str, metavar: str) -> typer.models.OptionInfo:
    info: typer.models.OptionInfo = typer.Option(option, help=text, metavar=metavar, show_default=False)
    return info


AmountText = Annotated[
    str | None, typer.Option("--amount", help="Share to remove, of the original: 50% or 0.5.", show_default=False)
]
CountNumber = Annotated[
    int | None,
    typer.Option(
        "--count", help="Remove this many instead, of each layer, or in all with --scope global.", show_default=False
    ),
]
Target = Annotated[
    str | None,
    typer.Option(
        "--target", help="Shrink until macs=50%, params=2M or latency=5ms; finds the amount itself.", show_default=False
    ),
]
Method = Annotated[
    MethodChoice | None,
    typer.Option(
        "--method",
        help="How to rank; default is l1 for single weights, l2 for channels. bn, fpgm and taylor go with --shrink.",
        show_default=False,
    ),
]
Scope = Annotated[
    ScopeChoice, typer.Option("--scope", help="Remove the share from every layer, or the weakest of all.")
]
Structured = Annotated[bool, typer.Option("--structured", help="Whole channels instead of single weights.")]
Norm = Annotated[
    str | None,
    typer.Option("--n", help="The n of the Ln norm that ranks masked channels: 1, 2, inf.", show_default=False),
]
Dim = Annotated[
    int | None,
    typer.Option("--dim", help="The dimension of masked channels; default is 0, outputs.", show_default=False),
]
Shrink = Annotated[bool, typer.Option("--shrink", help="Really remove the channels, so that layers become smaller.")]
RoundTo = Annotated[
    int | None,
    typer.Option("--round-to", min=1, help="Keep numbers of channels that this divides.", show_default=False),
]
MinKeep = Annotated[
    str | None,
    typer.Option(
        "--min-keep",
        help="Least share of every layer that stays; default is 10% where channels of all layers compete.",
        show_default=False,
    ),
]
Iterations = Annotated[int, typer.Option("--iterations", min=1, help="Prune in N steps, fine-tuning after each.")]
Schedule = Annotated[
    ScheduleChoice,
    typer.Option("--schedule", help="How the amount grows over the iterations; agp takes most at first."),
]
Finetune = Annotated[
    float | None,
    typer.Option("--finetune", help="Epochs of training after each iteration.", metavar="EPOCHS", show_default=False),
]
Lr = Annotated[
    float | None,
    typer.Option("--lr", help="Learning rate of --finetune; default is a tenth of the config's.", show_default=False),
]
Recal = Annotated[
    int | None,
    typer.Option(
        "--bn-recal",
        min=0,
        help="Batches to measure batch norm on again after pruning; default is 50, 0 leaves it.",
        metavar="N",
        show_default=False,
    ),
]
Rewind = Annotated[
    str | None,
    typer.Option(
        "--rewind",
        help="Set the weights that stay back to those of this checkpoint, or to the first ones: init.",
        metavar="PATH",
        show_default=False,
    ),
]
Skip = Annotated[
    list[str] | None,
    typer.Option(
        "--skip", help="Layers to leave alone, as a glob. May be given again.", metavar="GLOB", show_default=False
    ),
]
Plan = Annotated[bool, typer.Option("--plan", help="Show what would be pruned; writes nothing.")]
ScanFlag = Annotated[
    bool, typer.Option("--scan", help="Show the loss with one layer pruned at a time; writes a picture only.")
]
PruneSeed = Annotated[int, typer.Option("--seed", min=0, help="Seed of --method random.")]
Seconds = Annotated[float, typer.Option("--seconds", min=0.01, help="Time for measuring each latency.")]
NoLatency = Annotated[bool, typer.Option("--no-latency", help="Measure no latency.")]
Output = Annotated[
    Path | None,
    typer.Option(
        "-o", "--output", help="The pruned model file; default is MODEL.pruned.pt.", metavar="FILE", show_default=False
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace files that are there.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]


@dataclass(frozen=True)
class Options:
    """What was given on the command line, by the names of the command's parameters."""

    model: Path
    amount: str | None
    count: int | None
    target: str | None
    method: MethodChoice | None
    scope: ScopeChoice
    structured: bool
    n: str | None
    dim: int | None
    shrink: bool
    round_to: int | None
    min_keep: str | None
    iterations: int
    schedule: ScheduleChoice
    finetune: float | None
    lr: float | None
    bn_recal: int | None
    rewind: str | None
    skip: list[str] | None
    plan: bool
    scan: bool
    data: str | None
    arch: str | None
    num_classes: int | None
    image_size: int | None
    network: str | None
    device: str
    seconds: float
    no_latency: bool
    output: Path | None
    force: bool
    seed: int
    as_json: bool

    @property
    def only_looks(self) -> bool:
        """Whether nothing is to be pruned."""
        return self.plan or self.scan

    def to_request(self) -> "PruneRequest":
        """The request, checked. Raises UsageError for what contradicts itself."""
        from dlkit.prune import PruneRequest, check_request, parse_amount

        has_amount = self.amount is not None or self.count is not None
        request = PruneRequest(
            amount=None if self._has_no_amount(has_amount) else parse_amount(self.amount, self.count),
            target=self.target,
            method=self.method.value if self.method else None,
            scope=self.scope.value,
            is_structured=self.structured or self.shrink or self.target is not None,
            is_shrunk=self.shrink or self.target is not None,
            norm=_parse_norm(self.n),
            dim=self.dim,
            round_to=self.round_to,
            min_keep=_parse_floor(self.min_keep),
            iterations=self.iterations,
            schedule=self.schedule.value,
            epochs=self.finetune,
            lr=self.lr,
            num_recal=self.bn_recal,
            rewind=self.rewind,
            skip=tuple(self.skip or ()),
            seed=self.seed,
            seconds=None if self.no_latency else self.seconds,
        )
        if self.scan and (has_amount or self.target is not None):
            raise UsageError(
                "--scan tries several amounts of each part by itself; leave --amount, --count and --target out"
            )
        check_request(request, needs_amount=not self.only_looks)
        return request

    def _has_no_amount(self, is_given: bool) -> bool:
        return not is_given and (self.target is not None or self.only_looks)


def _parse_norm(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        norm = float(text)
    except ValueError:
        norm = math.nan
    if not norm > 0:
        raise UsageError(f"--n {text}: must be a number above 0, or inf")
    return norm


def _parse_floor(text: str | None) -> float | None:
    from dlkit.prune import parse_share

    if text is None or text.strip() in {"0", "0%", "0.0"}:
        return None if text is None else 0.0
    return parse_share(text, "--min-keep", hint="write a share as 10% or 0.1, and 0 for no floor")
