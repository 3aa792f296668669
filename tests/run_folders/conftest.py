"""A run folder, written by hand, as a run leaves it."""

import json

import pytest

CONFIG = """name: digits
seed: 0
ema: null

data:
  name: digits
  batch_size: 64

model:
  name: small_cnn
  width: 32

optimizer:
  name: adamw
  lr: 0.004
  groups: []

train:
  epochs: 2

checkpoint:
  metric: val_accuracy
  mode: max
"""
EPOCHS = [
    {"event": "epoch", "epoch": 1, "step": 21, "train_loss": 1.7, "val_loss": 2.4, "val_accuracy": 0.9, "train_s": 0.5},
    {"event": "epoch", "epoch": 2, "step": 42, "train_loss": 0.5, "val_loss": 0.4, "val_accuracy": 0.8, "train_s": 1.0},
]
SUMMARY = {
    "schema": "dlkit.train/1",
    "test": {"loss": 0.2, "accuracy": 0.96},
    "best": {"metric": "val_accuracy", "value": 0.9, "epoch": 1},
    "train_s": 1.26,
}


@pytest.fixture
def make_run(tmp_path):
    """`make_run("one", lr=0.1)` writes a folder; `status=None` writes no run.json."""

    def make(name="one", *, status="finished", config=CONFIG, lr=0.004, summary=SUMMARY, **facts):
        folder = tmp_path / name
        (folder / "checkpoints").mkdir(parents=True)
        (folder / ".lock").touch()
        (folder / "config.resolved.yaml").write_text(config.replace("lr: 0.004", f"lr: {lr}"))
        if status is not None:
            (folder / "run.json").write_text(json.dumps({"name": name, "status": status} | facts))
        rows = [{"event": "step", "step": 0, "epoch": 1, "lr": 0.1, "lrs": [0.1, 0.2], "loss": 2.0}, *EPOCHS]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        if status == "finished":
            (folder / "summary.json").write_text(json.dumps(summary))
        return folder

    return make
