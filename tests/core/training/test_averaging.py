"""The mean of the last checkpoints: torch's own average, judged against the best epoch, the same after a resume."""

import json
import shutil

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

import dlkit
from dlkit.core.training import Resume, average_weights
from dlkit.core.training.folder import read_checkpoint
from dlkit.events import Note

CONFIG = {
    "data": {"name": "fake", "num_samples": 120, "shape": [1, 8, 8], "num_classes": 3, "batch_size": 16, "val": 0.3, "test": 0.2},
    "model": {"name": "small_cnn", "width": 4},
    "train": {"epochs": 6},
    "checkpoint": {"average": 3, "metric": "val_loss"},
    "log": {"tensorboard": False},
    "runtime": {"threads": 1, "device": "cpu"},
}  # fmt: skip


def test_the_mean_is_torchs():
    torch.manual_seed(0)
    networks = [nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).double() for _ in range(4)]
    averaged = AveragedModel(networks[0], use_buffers=True)
    for network in networks:
        network(torch.randn(8, 3, dtype=torch.float64))
        averaged.update_parameters(network)
    mean = average_weights([network.state_dict() for network in networks])
    for name, tensor in averaged.module.state_dict().items():
        torch.testing.assert_close(mean[name], tensor, rtol=0, atol=1e-14)
    assert mean["1.num_batches_tracked"].dtype == torch.int64


def train(folder, resume=None, **changes):
    notes = []
    result = dlkit.train(
        CONFIG | changes, out=folder, resume=resume, emit=lambda event: notes.append(event.text) if isinstance(event, Note) else None
    )  # fmt: skip
    return result, next(note for note in notes if "the mean of 3 checkpoints" in note)


@pytest.mark.parametrize(
    ("mode", "ema"), [("min", None), ("max", None), ("max", {"decay": 0.8})], ids=["min", "max", "ema"]
)
def test_the_better_one_is_exported(tmp_path, same, dlkit, mode, ema):
    metric = "val_ema_loss" if ema else "val_loss"
    result, note = train(tmp_path / "run", checkpoint={"average": 3, "metric": metric, "mode": mode}, ema=ema)
    paths = sorted((tmp_path / "run" / "checkpoints").glob("step-*.pt"))
    assert [path.stem for path in paths] == ["step-000000020", "step-000000025", "step-000000030"]
    states = [read_checkpoint(path) for path in reversed(paths)]
    mean = average_weights([(state["state_dict_ema"] if ema else state)["state_dict"] for state in states])
    exported = torch.load(result.model_path, weights_only=True)["state_dict"]
    is_taken = "the mean is exported" in note
    assert same(exported, mean) == is_taken == ("averaged" in result.best)
    history = [row[metric] for row in result.history]
    best = min(history) if mode == "min" else max(history)
    assert result.best["value"] == best or is_taken
    if is_taken:
        assert result.best["value"] <= best if mode == "min" else result.best["value"] >= best
    judged = json.loads(dlkit("eval", result.model_path, "--split", "val", "--json").out)["metrics"]["loss"]
    assert judged == pytest.approx(result.best["value"], rel=1e-5)


def test_both_outcomes_are_seen(tmp_path):
    """The last of steadily better epochs is kept; of networks that are equally right the mean is taken."""
    kept = train(tmp_path / "a", optimizer={"name": "sgd", "lr": 0.01})[1]
    taken = train(tmp_path / "b", checkpoint={"average": 3, "metric": "val_accuracy"})[1]
    assert "the epoch is exported" in kept and "the mean is exported" in taken


def test_a_finished_run_that_is_resumed_exports_the_same(tmp_path, same):
    first, note = train(tmp_path / "run")
    before = torch.load(first.model_path, weights_only=True)["state_dict"]
    again, second_note = train(tmp_path / "run", Resume(tmp_path / "run"))
    assert same(torch.load(again.model_path, weights_only=True)["state_dict"], before) and note == second_note
    shutil.copytree(tmp_path / "run" / "checkpoints", tmp_path / "copies")
    copied, third_note = train(tmp_path / "new", Resume(tmp_path / "copies" / "last.pt"))
    assert same(torch.load(copied.model_path, weights_only=True)["state_dict"], before) and note == third_note


def test_a_damaged_checkpoint_is_left_out_of_the_mean(tmp_path):
    train(tmp_path / "run")
    damaged = min((tmp_path / "run" / "checkpoints").glob("step-*.pt"))
    damaged.write_bytes(b"no checkpoint")
    notes = []
    dlkit.train(
        CONFIG, resume=Resume(tmp_path / "run"), emit=lambda event: notes.append(str(getattr(event, "text", "")))
    )
    assert [note for note in notes if damaged.name in note and "left out of the mean" in note]
    assert [note for note in notes if "the mean of 2 checkpoints" in note]


MISTAKES = {
    "data: {name: digits, val: none}\ncheckpoint: {average: 3}": "the mean is judged on the validation split, but data.val is none",
    "data: digits\ncheckpoint: {average: 3, metric: train_loss}": "judged by a validation metric",
    "data: digits\ncheckpoint: {average: 1}": "checkpoint.average: expected",
    "data: digits\ncheckpoint: {averge: 3}": "Did you mean 'average'",
}


@pytest.mark.parametrize(("text", "words"), MISTAKES.items())
def test_mistakes_are_told_with_their_place(dlkit, write_config, text, words):
    done = dlkit("config", "check", write_config(f"model: small_cnn\n{text}\n"))
    assert done.code == 2 and words in done.err and "cfg.yaml:3:" in done.err
