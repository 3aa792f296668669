"""A small network trained on the digits, once for all tests of pruning."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import dlkit
from dlkit.core.modelfile import build_from_file, read_model_file
from dlkit.core.trained_config import own_config
from dlkit.events import ignore
from dlkit.prune import open_task_data

DIGITS = {
    "name": "digits",
    "data": {"name": "digits", "batch_size": 64},
    "model": {"name": "small_cnn", "width": 8},
    "optimizer": {"name": "adamw", "lr": 0.01, "weight_decay": 0.05},
    "schedule": {"name": "onecycle", "pct_start": 0.2},
    "train": {"epochs": 4},
    "checkpoint": {"every_epochs": 1},
    "log": {"tensorboard": False},
    "runtime": {"threads": 1},
}


@pytest.fixture(scope="session")
def digits_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a trained small_cnn."""
    out = tmp_path_factory.mktemp("digits") / "run"
    dlkit.train(DIGITS, out=out)
    return out


@pytest.fixture
def digits(digits_run: Path) -> SimpleNamespace:
    """The model file of that run, its network built anew, and its data opened."""
    file = read_model_file(digits_run / "model.pt")
    network = build_from_file(file)
    task_data = open_task_data(own_config(file), network, file.spec.info, device=torch.device("cpu"), emit=ignore)
    return SimpleNamespace(
        path=digits_run / "model.pt", run=digits_run, file=file, network=network, task_data=task_data
    )
