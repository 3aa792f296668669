"""The results of training on the screen: the end of a run, what comes next, a dry run."""

import json
import shlex
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from dlkit.cli.console import show_lines, show_table
from dlkit.cli.next_steps import NextStep, shell_options, show_next_steps
from dlkit.event_lines import metric_value
from dlkit.files import without_nan
from dlkit.quantities import counted, duration_text
from dlkit.shapes import size_text
from dlkit.tasks import TRAITS

if TYPE_CHECKING:
    from dlkit.core.training import DryRun, TrainingMasks, TrainResult


def show_result(result: "TrainResult", *, as_json: bool) -> None:
    """The end of a run: what came out, where it is, and what to do next."""
    if as_json:
        facts = {
            "status": result.status,
            "test": without_nan(result.metrics),
            "best": result.best,
            "run_dir": str(result.run_dir),
            "model": str(result.model_path),
        }
        typer.echo(json.dumps({"schema": "dlkit.train/1", "event": "result", **facts}))
        return
    best = result.best
    lines = []
    if result.status == "early_stopped":
        lines.append(f"stopped early after epoch {len(result.history)}")
    elif result.status == "max_time":
        lines.append(
            f"time is up after {counted(len(result.history), 'epoch')}; "
            "go on with: "
            + shlex.join(
                ["dlkit", "train", str(result.run_dir / "config.resolved.yaml"), "--resume", str(result.run_dir)]
            )
        )
    if best.get("value") is not None:
        lines.append(
            f"best {best['metric']} {metric_value(str(best['metric']), best['value'])} in epoch {best['epoch']}"
        )
    if result.metrics:
        lines.append(
            "test  " + "  ".join(f"{name} {metric_value(name, value)}" for name, value in result.metrics.items())
        )
    show_lines([*lines, f"model {result.model_path}"])
    show_next_steps(next_steps(result))


def next_steps(result: "TrainResult") -> list[NextStep]:
    """Commands that fit what was trained; code of the user's own is named again, as the model file does not."""
    model, board = shlex.quote(str(result.model_path)), result.run_dir / "tb"
    what = {
        "classification": "per-class numbers and the confusion matrix",
        "multilabel": "average precision, F1 and threshold of each label",
        "regression": "mse, rmse, mae and r2",
        "segmentation": "IoU of each class and the confusion matrix",
    }[result.task]
    own = shell_options(data=result.config_path, model=result.own_model)
    steps = [NextStep(f"dlkit eval {model}{own}", what)]
    if result.predicts_files:
        masks = " --masks DIR" if TRAITS[result.task].has_maps else ""
        steps.append(
            NextStep(f"dlkit predict {model} IMAGE...{masks}{shell_options(model=result.own_model)}", "use it")
        )
    if board.is_dir():
        steps.append(NextStep(f"tensorboard --logdir {shlex.quote(str(board))}", "curves of the run"))
    return steps


def show_dry_run(dry: "DryRun", *, as_json: bool) -> None:
    """What a run would be."""
    if as_json:
        typer.echo(json.dumps({"schema": "dlkit.train/1", "event": "dry-run", **asdict(dry)}))
        return
    rows = [
        (row.name, row.type, size_text(row.output_shape) if row.output_shape else "", f"{row.num_parameters:,}")
        for row in dry.layers
    ]
    show_table(("layer", "type", "output", "parameters"), rows, title=dry.model, left=3)
    _show_groups(dry)
    if dry.masks is not None:
        _show_masks(dry.masks, dry.split_sizes["train"])
    planned = (
        f"{dry.first_lr:.3g} first, {dry.peak_lr:.3g} peak, {dry.last_lr:.3g} last"
        if dry.is_lr_planned
        else f"{dry.first_lr:.3g}"
    )
    frozen = "" if dry.num_trainable == dry.num_parameters else f" ({dry.num_trainable:,} trainable)"
    show_lines(
        [
            "",
            f"parameters     {dry.num_parameters:,}{frozen}",
            f"device         {dry.device}, {dry.precision}",
            f"samples        {', '.join(f'{count:,} {name}' for name, count in dry.split_sizes.items())}",
            f"steps          {dry.steps_per_epoch:,} per epoch, {dry.total_steps:,} in all",
            f"learning rate  {planned}",
            f"first losses   {', '.join(f'{loss:.4f}' for loss in dry.losses)}",
            *(
                [f"memory         {dry.memory_bytes / 2**20:,.0f} MiB at the peak of two steps"]
                if dry.memory_bytes
                else []
            ),
            f"time           {duration_text(dry.estimate_s)} estimated ({dry.step_s * 1000:.0f} ms per step, measured once)",
            "",
            "Nothing was written.",
        ]
    )


def _show_groups(dry: "DryRun") -> None:
    """The groups of the optimizer, where they train at several rates."""
    if len({group.lr for group in dry.groups}) > 1:
        rows = [(one.name, f"{one.lr:.3g}", _number(one.weight_decay), f"{one.num_parameters:,}") for one in dry.groups]
        show_lines([""])
        show_table(("parameters", "peak lr", "weight decay", "count"), rows)


def _show_masks(masks: "TrainingMasks", num_samples: int) -> None:
    """Which classes the masks of training have, and a sentence on those that are in none."""
    is_part = masks.num_pictures < num_samples
    title = f"{masks.num_pictures:,} of {num_samples:,} training pictures, by seed" if is_part else "training pictures"
    rows = [(one.name, f"{one.share:.2%}", f"{one.num_pictures:,}") for one in masks.classes]
    show_lines([""])
    show_table(("class", "pixels", "pictures"), rows, title=title)
    show_lines([f"not counted: {masks.ignored_share:.2%} of all pixels"])
    if missing := [one.name for one in masks.classes if not one.num_pictures]:
        where = f"of these {masks.num_pictures:,} pictures" if is_part else "of the training pictures"
        show_lines([f"none {where} has {', '.join(missing)}; a network cannot learn what it never sees"])


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:g}"
