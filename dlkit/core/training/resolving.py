"""What every `auto` of a config became: for `--print-config`, the run folder and the model file."""

import re
from pathlib import Path
from typing import Any

import torch

from dlkit.config import Config, EarlyStop, LoadedConfig, Normalization
from dlkit.config import Data as DataSection
from dlkit.core.data import DataSplits, MemorySplit, pick_eval_batch_size, pick_loader_options
from dlkit.core.models import Arch
from dlkit.core.training.fit import Plan
from dlkit.core.training.learner import Learner
from dlkit.core.training.optimizers import pick_lr

MOST_STEP_LINES = 10_000


def replace_autos(loaded: LoadedConfig, data: DataSplits, arch: Arch, learner: Learner, plan: Plan) -> Config:
    """The config with every `auto` replaced that stands for a value; training from it repeats the run.

    `data.root`, `data.image_size` and `data.drop_last` stay: there `auto` is a rule that depends on the data set.
    """
    config, info, precision = loaded.config, data.info, learner.scoring.precision
    changes: dict[str, dict[str, Any]] = {
        "model": {
            "num_classes": info.num_outputs,
            "in_channels": arch.options.get("in_channels", info.input_size[0]),
        },
        "loss": {"name": learner.scoring.loss.name},
        "optimizer": {"lr": pick_lr(config.optimizer)},
        "schedule": {"unit": learner.rates.unit},
        "train": {
            "amp": "off" if precision.name == "fp32" else precision.name,
            "channels_last": learner.scoring.channels_last,
            "early_stop": _resolve_early_stop(config.train.early_stop, learner),
        },
        "checkpoint": {"metric": learner.best.metric, "mode": learner.best.mode},
        "log": {"every": _pick_log_every(config, plan)},
        "runtime": {"device": str(precision.device)},
    }
    sections = {name: getattr(config, name).model_copy(update=values) for name, values in changes.items()}
    sections["data"] = _resolve_data(config.data, data, precision.device)
    return config.model_copy(update={**sections, "name": run_name(loaded), "task": info.task})


def run_name(loaded: LoadedConfig) -> str:
    """The name of the run folder: the config's, else that of its file, with `-` for what a name may not hold."""
    config = loaded.config
    if config.name != "auto":
        return config.name
    source = Path(loaded.locations.source)
    return re.sub(r"[^\w.-]+", "-", source.stem) if source.suffix in {".yaml", ".yml"} else "run"


def _resolve_early_stop(section: EarlyStop | None, learner: Learner) -> EarlyStop | None:
    if section is None or learner.early_stopping is None:
        return None
    stopping = learner.early_stopping
    return section.model_copy(update={"metric": stopping.metric, "mode": stopping.mode})


def _resolve_data(section: DataSection, data: DataSplits, device: torch.device) -> DataSection:
    info = data.info
    values: dict[str, Any] = {
        "normalize": Normalization(mean=list(info.mean), std=list(info.std)) if info.mean and info.std else "none",
        "eval_batch_size": pick_eval_batch_size(section),
    }
    if isinstance(data.train, MemorySplit):
        values |= {"cache": "memory", "num_workers": 0, "pin_memory": False, "persistent_workers": False}
    else:
        loader = pick_loader_options(section, device)
        values |= {"cache": "none", "num_workers": loader.num_workers, "pin_memory": loader.pin_memory}
        values["persistent_workers"] = loader.persistent_workers
    return section.model_copy(update=values)


def _pick_log_every(config: Config, plan: Plan) -> int:
    if config.log.every != "auto":
        return config.log.every
    return -(-plan.total_steps // MOST_STEP_LINES)
