"""The loop from outside: resuming at every step, validation, stopping, what is recorded."""

import copy
import math

import pytest
import torch
from torch import nn

from dlkit.core.evaluation import evaluate
from dlkit.core.stopping import StopRequest
from dlkit.core.torchfile import read_torch_file
from dlkit.core.training import EarlyStopping, EmaModel
from dlkit.core.training.folder import save_checkpoint
from dlkit.errors import Diverged


class Recorder:
    """Keeps what the loop reports to its records, and can stop it at a step."""

    def __init__(self, stop=None, stop_at=None):
        self.lrs, self.losses, self.rows, self.saves = [], [], [], []
        self.stop, self.stop_at = stop, stop_at

    def add_step(self, learner, result):
        self.lrs.append(result.lrs[0])
        self.losses.append(float(result.loss))
        if learner.position.step == self.stop_at:
            self.stop.signal_number = 2

    def add_epoch(self, learner, row):
        self.rows.append(dict(row))

    def save(self, learner, *, is_best=False):
        self.saves.append((learner.position.step, is_best))


def build(lab, *, schedule="cosine", total_steps=36):
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(7, 12), nn.BatchNorm1d(12), nn.Dropout(0.3), nn.ReLU(), nn.Linear(12, 3)).double()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    learner = lab.learner(
        model, optimizer, schedule=schedule, total_steps=total_steps, accumulate=2, ema=EmaModel(model, decay=0.9),
        early_stopping=EarlyStopping("val_loss", "min", patience=50),
    )  # fmt: skip
    learner.best.metric = "val_loss"
    return learner


@pytest.mark.parametrize("schedule", ["cosine", "plateau", "onecycle"])
def test_resume_is_bit_exact_at_every_step(lab, float64_data, tmp_path, schedule):
    """Stop after any step, save, build anew, load, go on: weights, moving average, rates and rows are the same bits."""
    inputs, targets = float64_data
    train, val = lab.split(inputs[:60], targets[:60], 10), lab.split(inputs[60:], targets[60:], 16)
    straight, whole = build(lab, schedule=schedule, total_steps=12), Recorder()
    lab.fit(straight, train, epochs=4, val=val, records=whole)
    assert len(whole.lrs) == 12
    for step in range(1, 12):
        stop = StopRequest()
        first, before = build(lab, schedule=schedule, total_steps=12), Recorder(stop, step)
        assert lab.fit(first, train, epochs=4, val=val, records=before, stop=stop) == "interrupted"
        save_checkpoint(tmp_path, first, {})
        torch.randn(step)  # another history of the global generator
        second, after = build(lab, schedule=schedule, total_steps=12), Recorder()
        second.load_state_dict(read_torch_file(tmp_path / "last.pt"))
        assert lab.fit(second, train, epochs=4, val=val, records=after) == "finished"
        assert before.lrs + after.lrs == whole.lrs and before.losses + after.losses == whole.losses
        for mine, theirs in ((second.model, straight.model), (second.ema.model, straight.ema.model)):
            assert all(
                torch.equal(a, b) for a, b in zip(mine.state_dict().values(), theirs.state_dict().values(), strict=True)
            )
        rows = [{name: value for name, value in row.items() if name != "train_s"} for row in second.history]
        assert rows == [{name: value for name, value in row.items() if name != "train_s"} for row in straight.history]


def test_validation_counts_every_sample_once(lab, float64_data):
    inputs, targets = float64_data
    learner = build(lab)
    means = evaluate(learner.model, lab.split(inputs, targets, 17), learner.scoring)
    learner.model.eval()
    outputs = learner.model(inputs)
    assert means["loss"] == pytest.approx(nn.functional.cross_entropy(outputs, targets).item(), rel=1e-12)
    assert means["accuracy"] == (outputs.argmax(1) == targets).double().mean().item()


def test_evaluation_leaves_the_mode_as_it_was(lab, float64_data):
    learner = build(lab)
    learner.model.train()
    evaluate(learner.model, lab.split(*float64_data, 50), learner.scoring)
    assert learner.model.training


def test_early_stopping_ends_the_run_and_saves(lab, float64_data):
    inputs, targets = float64_data
    learner = build(lab)
    for group in learner.optimizer.param_groups:
        group["lr"] = 0.0
    learner.rates.set = lambda optimizer, step: [0.0]
    learner.ema = None
    learner.early_stopping = EarlyStopping("train_loss", "max", patience=3, min_delta=100)
    records = Recorder()
    assert lab.fit(learner, lab.split(inputs, targets, 20), epochs=30, records=records) == "early_stopped"
    assert learner.position.epoch == 4 and records.saves[-1][0] == learner.position.step


def test_time_limit_saves_and_says_so(lab, float64_data):
    records = Recorder()
    learner = build(lab)
    stop = StopRequest(deadline=-math.inf)
    assert lab.fit(learner, lab.split(*float64_data, 10), epochs=5, records=records, stop=stop) == "max_time"
    assert records.saves == [(0, False)]


def test_signal_during_validation_keeps_the_epoch_open(lab, float64_data):
    """The training half of the epoch is not lost and the validation is done after the resume."""
    inputs, targets = float64_data
    train = lab.split(inputs[:60], targets[:60], 10)
    stop = StopRequest()

    class StopsInValidation(lab.split):
        def batches(self, epoch=0, start=0):
            stop.signal_number = 15
            return super().batches(epoch, start)

    learner = build(lab, total_steps=6)
    assert (
        lab.fit(learner, train, epochs=2, val=StopsInValidation(inputs[60:], targets[60:], 10), stop=stop)
        == "interrupted"
    )
    assert (learner.position.epoch, learner.position.batch, learner.position.step) == (0, 6, 3)
    records = Recorder()
    state = copy.deepcopy(learner.state_dict())
    second = build(lab, total_steps=6)
    second.load_state_dict(state)
    assert lab.fit(second, train, epochs=2, val=lab.split(inputs[60:], targets[60:], 10), records=records) == "finished"
    assert [row["epoch"] for row in records.rows] == [1, 2] and len(records.lrs) == 3


def test_weights_that_are_not_finite_are_not_saved(lab, tmp_path):
    learner = build(lab)
    save_checkpoint(tmp_path, learner, {})
    with torch.no_grad():
        learner.parameters[0][0, 0] = math.inf
    with pytest.raises(Diverged, match="not saved"):
        save_checkpoint(tmp_path, learner, {})
    kept = read_torch_file(tmp_path / "last.pt")
    assert all(tensor.isfinite().all() for tensor in kept["state_dict"].values() if tensor.is_floating_point())
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]


def test_best_and_last_share_a_file_and_part_when_one_is_replaced(lab, tmp_path):
    learner = build(lab)
    save_checkpoint(tmp_path, learner, {"mark": 1}, is_best=True)
    save_checkpoint(tmp_path, learner, {"mark": 2})
    assert read_torch_file(tmp_path / "best.pt")["mark"] == 1 and read_torch_file(tmp_path / "last.pt")["mark"] == 2
