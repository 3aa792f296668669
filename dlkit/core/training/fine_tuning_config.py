"""Which config an existing network is trained on with, and how it differs from the one of its first training."""

import math
from dataclasses import replace
from typing import Any

from dlkit.config import Checkpoint, Config, Eval, LoadedConfig, Schedule, load_mapping
from dlkit.core.modelfile import ModelFile
from dlkit.core.trained_config import own_config, refuse_own_code

WARMUP = "5%"
SETTINGS = ("loss", "optimizer", "train", "seed")


def pick_tuning_config(file: ModelFile, data: LoadedConfig | None) -> LoadedConfig:
    """Returns the config to train a model file on with: its own, or one that the user names, `data`.

    What a named config leaves unsaid of loss, optimizer, loop and seed comes from the file. Raises UsageError when the
    file has no config, and when it would need code of the user's own that is not named again.
    """
    if data is None:
        own = own_config(file)
        _check_sections(file, own.config, ("loss", "optimizer", "batch_transforms"))
        return own
    if not file.spec.config:
        return data
    own = load_mapping(dict(file.spec.config))
    unsaid = [name for name in SETTINGS if name not in data.values]
    _check_sections(file, own.config, unsaid)
    taken = {name: getattr(own.config, name) for name in unsaid}
    return replace(data, config=data.config.model_copy(update=taken))


def _check_sections(file: ModelFile, config: Config, sections: Any) -> None:
    """Raise UsageError where these sections name code of the user's."""
    named = {
        "loss": [config.loss.name],
        "optimizer": [config.optimizer.name],
        "batch_transforms": [component.name for component in config.data.batch_transforms],
    }
    refuse_own_code(file, [name for section in sections for name in named.get(section, ())])


def with_length(config: Config, epochs: int, max_steps: int | None = None) -> Config:
    """Returns the config with another length of training."""
    length = {"epochs": epochs, "max_steps": max_steps}
    return config.model_copy(update={"train": config.train.model_copy(update=length)})


def derive_tuning_config(config: Config, *, epochs: float, lr: float, num_batches: int) -> Config:
    """Returns the config with the schedule of fine-tuning and without what belongs to training from the start.

    `epochs` may be a fraction; `num_batches` are the micro-batches of one epoch.
    """
    steps_per_epoch = -(-num_batches // config.train.accumulate)
    length = {"epochs": math.ceil(epochs), "max_steps": max(1, round(epochs * steps_per_epoch))}
    left_out = {"early_stop": None, "max_time": None, "compile": False, "distill": None}
    changes: dict[str, Any] = {
        "optimizer": config.optimizer.model_copy(update={"lr": lr, "layer_decay": None}),
        "schedule": Schedule(name="cosine", unit="step", warmup=WARMUP),
        "train": config.train.model_copy(update=length | left_out),
        "ema": None,
        "eval": Eval(test=False),
        "checkpoint": _pick_checkpoint(config),
    }
    return config.model_copy(update=changes)


def _pick_checkpoint(config: Config) -> Checkpoint:
    """Returns the section with the metric that decided before; for one of the moving average, that of the network itself."""
    metric = config.checkpoint.metric.replace("/", "_").replace("val_ema_", "val_")
    if not metric.startswith("val_") or config.data.val == "none":
        return Checkpoint()
    return Checkpoint(metric=metric, mode=config.checkpoint.mode)
