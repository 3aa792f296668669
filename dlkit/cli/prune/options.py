"""The options that only `dlkit prune` takes, and what their text means."""

import math
from pathlib import Path
from typing import Annotated

import typer

from dlkit.choices import PruneMethod, PruneSchedule, PruneScope
from dlkit.cli.options import output_option, seconds_option
from dlkit.errors import UsageError

AmountText = Annotated[
    str | None, typer.Option("--amount", help="Share to remove, of the original: 50% or 0.5.", show_default=False)
]
Count = Annotated[
    int | None,
    typer.Option(
        "--count", help="Remove this many instead, of each layer, or in all with --scope global.", show_default=False
    ),
]
TargetText = Annotated[
    str | None,
    typer.Option(
        "--target", help="Shrink until macs=50%, params=2M or latency=5ms; finds the amount itself.", show_default=False
    ),
]
Method = Annotated[
    PruneMethod | None,
    typer.Option(
        "--method",
        help="How to rank; default is l1 for single weights, l2 for channels. bn, fpgm and taylor go with --shrink.",
        show_default=False,
    ),
]
Scope = Annotated[PruneScope, typer.Option("--scope", help="Remove the share from every layer, or the weakest of all.")]
Structured = Annotated[bool, typer.Option("--structured", help="Whole channels instead of single weights.")]
NormText = Annotated[
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
FloorText = Annotated[
    str | None,
    typer.Option(
        "--min-keep",
        help="Least share of every layer that stays; default is 10% where channels of all layers compete.",
        show_default=False,
    ),
]
Iterations = Annotated[int, typer.Option("--iterations", min=1, help="Prune in N steps, fine-tuning after each.")]
Schedule = Annotated[
    PruneSchedule, typer.Option("--schedule", help="How the amount grows over the iterations; agp takes most at first.")
]
Finetune = Annotated[
    float | None,
    typer.Option("--finetune", help="Epochs of training after each iteration.", metavar="EPOCHS", show_default=False),
]
Lr = Annotated[
    float | None,
    typer.Option(
        "--lr",
        help="Learning rate of --finetune; by default 30 to 100% of the config's, by what the cut cost.",
        show_default=False,
    ),
]
Distill = Annotated[
    bool, typer.Option("--distill", help="The network from before pruning teaches the pruned one in --finetune.")
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
Scan = Annotated[
    bool, typer.Option("--scan", help="Show the loss with one layer pruned at a time; writes a picture only.")
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of --method random.")]
Seconds = Annotated[float, seconds_option(0.01)]
Output = Annotated[Path | None, output_option("The pruned model file; default is MODEL.pruned.pt.")]


def parse_norm(text: str) -> float:
    """The n of `--n`. Raises UsageError for what is no number above 0."""
    try:
        norm = float(text)
    except ValueError:
        norm = math.nan
    if not norm > 0:
        raise UsageError(f"--n {text}: must be a number above 0, or inf")
    return norm
