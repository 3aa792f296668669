"""`dlkit train`: from a config to a trained model file."""

from pathlib import Path
from typing import Annotated

import typer

OverfitBatches = Annotated[int | None, typer.Option("--overfit", min=1, help="Train on N fixed batches without augmentation, to see that the model can learn.")]


def train(
    cfg: Annotated[Path, typer.Argument(help="YAML file of the run.", metavar="CFG", show_default=False)],
    overrides: Annotated[list[str] | None, typer.Argument(help="Changes: optimizer.lr=0.1, ~ema, model=resnet18.", metavar="[KEY=VALUE]...", show_default=False)] = None,
    overlays: Annotated[list[Path] | None, typer.Option("-c", "--config", help="Another YAML file laid over the first; may be given again.", show_default=False)] = None,
    out: Annotated[Path | None, typer.Option("--out", help="The run folder itself; default is the next free runs/NAME-NNN.", show_default=False)] = None,
    name: Annotated[str | None, typer.Option("--name", help="Name of the run folder.", show_default=False)] = None,
    resume: Annotated[Path | None, typer.Option("--resume", help="Go on with a run folder or a checkpoint; without PATH, with the newest run.", metavar="[PATH]", show_default=False)] = None,
    device: Annotated[str | None, typer.Option("--device", help="cpu, cuda, cuda:1, mps.", show_default=False)] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Seed of everything random.", show_default=False)] = None,
    max_steps: Annotated[int | None, typer.Option("--max-steps", min=1, help="Stop after N optimizer steps.", show_default=False)] = None,
    overfit: OverfitBatches = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Build and check everything, make two real steps, write nothing.")] = False,
    print_config: Annotated[bool, typer.Option("--print-config", help="Show the config with every `auto` resolved, and stop.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Only the result and errors.")] = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Also say what is saved when.")] = False,
) -> None:
    """Train a model from one YAML file.

    Progress goes to stderr, the result to stdout. Ctrl-C saves and exits with 130; a second one stops at once.
    """
    from dlkit.cli.show_training import open_display, show_dry_run, show_result
    from dlkit.config import dump_config, load_config

    changes = [*(overrides or ()), *_changes(name=name, device=device, seed=seed, max_steps=max_steps)]
    loaded = load_config(cfg, overlays=overlays or (), overrides=changes)
    if overfit is not None:
        loaded = load_config(cfg, overlays=overlays or (), overrides=[*changes, *_overfit_changes(overfit, loaded.config.data.batch_size)])
    with open_display(quiet=quiet, verbose=verbose, as_json=as_json) as display:
        if print_config:
            from dlkit.core.training.dry_run import resolve_config

            typer.echo(dump_config(resolve_config(loaded, report=display.report)), nl=False)
        elif dry_run:
            from dlkit.core.training.dry_run import run_dry

            show_dry_run(run_dry(loaded, out=out, report=display.report), as_json=as_json)
        else:
            from dlkit.core.training.run import run_training

            result = run_training(loaded, out=out, resume=resume, report=display.report)
            display.close()
            show_result(result, cfg, as_json=as_json)


def _changes(*, name: str | None, device: str | None, seed: int | None, max_steps: int | None) -> list[str]:
    """Dedicated options as overrides, so that they are checked in the same way."""
    values = {"name": name, "runtime.device": device, "seed": seed, "train.max_steps": max_steps}
    return [f"{key}={value}" for key, value in values.items() if value is not None]


def _overfit_changes(num_batches: int, batch_size: int) -> list[str]:
    """Nothing but the fixed batches: no held-out samples, no augmentation, no other order."""
    return [
        f"data.limit={num_batches * batch_size}", "data.val=none", "data.test=none", "data.transforms=[]",
        "data.batch_transforms=[]", "data.shuffle=false", "~train.early_stop",
    ]  # fmt: skip
