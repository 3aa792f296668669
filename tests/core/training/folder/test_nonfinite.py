"""What a run that diverges says of the step at fault."""

import json

import pytest
import torch

POISONED = """
import torch

class Poisoned:
    def __len__(self):
        return 40

    def __getitem__(self, index):
        return torch.full((8,), float("nan") if index == 21 else index / 40), index % 2
"""


@pytest.fixture
def poisoned(write_config):
    data = f"name: '{write_config(POISONED, 'poisoned.py')}:Poisoned', val: none, batch_size: 4, normalize: none"
    return write_config(f"data: {{{data}}}\nmodel: mlp\ntrain: {{epochs: 1}}\nlog: {{tensorboard: false}}\n")


def report_of(run):
    return json.loads((run / "nonfinite.json").read_text())


@pytest.mark.parametrize("setting", ["data.num_workers=0", "data.num_workers=1", "data.cache=memory"])
def test_the_sample_at_fault_is_named(dlkit, poisoned, tmp_path, setting):
    done = dlkit("train", poisoned, setting, "train.accumulate=2", "--out", tmp_path / "run", "-q")
    assert done.code == 5 and "not finite as they are read: Poisoned[21]." in done.err and "nonfinite.json" in done.err
    report = report_of(tmp_path / "run")
    assert report["samples_not_finite"] == ["Poisoned[21]"] and len(report["samples"]) == 8
    assert (report["loss"], report["grad_norm"], report["weights_not_finite"]) == ("nan", "nan", [])
    assert "Poisoned[21]" in report["samples"] and report["epoch"] == 1 and report["lr"]
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "diverged"
    last = tmp_path / "run" / "checkpoints" / "last.pt"
    assert not last.exists() or torch.load(last, weights_only=True)["position"]["step"] <= report["step"]


def test_a_rate_that_is_too_high_blames_no_sample(dlkit, write_config, tmp_path):
    text = "data: {name: digits, limit: 256}\nmodel: mlp\noptimizer: {name: sgd, lr: 1.0e+20}\ntrain: {epochs: 3}\n"
    done = dlkit("train", write_config(text), "--out", tmp_path / "run", "-q")
    report = report_of(tmp_path / "run")
    assert done.code == 5 and report["samples_not_finite"] == []
    assert report["loss"] in {"nan", "inf"} or report["weights_not_finite"]
    assert report["message"] in done.err
