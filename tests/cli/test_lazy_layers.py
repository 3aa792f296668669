"""Lazy layers have sizes before anything looks at them, in every command that takes a class of the user's own."""

import pytest
import torch

import dlkit as package

NET = """
from torch import nn


class Lazy(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.conv, self.bn, self.fc = nn.LazyConv2d(16, 3), nn.LazyBatchNorm2d(), nn.LazyLinear(num_classes)

    def forward(self, x):
        return self.fc(self.bn(self.conv(x)).relu().flatten(1))


class Unreached(Lazy):
    def __init__(self, num_classes):
        super().__init__(num_classes)
        self.spare = nn.LazyLinear(3)
"""
CONFIG = """
data: {name: fake, num_samples: 80, shape: [1, 8, 8], num_classes: 4, batch_size: 16}
model: {name: "./net.py:Lazy"}
train: {epochs: 1}
log: {tensorboard: false, graph: false}
"""


@pytest.fixture
def scene(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "cfg.yaml").write_text(CONFIG)
    return tmp_path


def test_every_command(dlkit, scene):
    named = ("--model", "./net.py:Lazy", "--data", "cfg.yaml")
    commands = [
        ("train", "cfg.yaml", "--print-config"),
        ("train", "cfg.yaml", "--dry-run"),
        ("train", "cfg.yaml", "--out", "run"),
        ("eval", "run/model.pt", *named),
        ("prune", "run/model.pt", *named, "--amount", "50%", "--no-latency", "-o", "masked.pt"),
        (
            "prune",
            "run/model.pt",
            *named,
            "--amount",
            "50%",
            "--structured",
            "--shrink",
            "--no-latency",
            "-o",
            "cut.pt",
        ),
        ("quantize", "run/model.pt", *named, "--static", "--no-latency", "-o", "int8.pt"),
        ("export", "run/model.pt", "--model", "./net.py:Lazy", "--format", "safetensors", "-o", "w.safetensors"),
        ("eval", "w.safetensors", *named),
        ("train", "cfg.yaml", "--out", "again", "model.weights=w.safetensors"),
        ("shapecalc", "model", "cfg.yaml"),
        ("shapecalc", "model", "./net.py:Lazy", "--input", "1x8x8"),
        ("shapecalc", "model", "./net.py:Lazy", "--input", "1x8x8", "--rf"),
        ("shapecalc", "model", "./net.py:Lazy", "--input", "1x8x8", "--diff", "./net.py:Lazy"),
    ]
    for command in commands:
        done = dlkit(*command)
        assert done.code == 0, (command, done.err)
    network = package.load_model("run/model.pt", model="./net.py:Lazy")
    assert type(network.conv) is torch.nn.Conv2d and network.fc.weight.shape == (4, 16 * 6 * 6)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("model=./net.py:Unreached",), "net.py:Unreached is a lazy layer that no batch reaches"),
        (("data.shape=[1, 2, 2]",), "net.py:Lazy cannot be initialized by a batch of 2x1x2x2"),
    ],
)
def test_what_cannot_be_initialized(dlkit, scene, options, words):
    done = dlkit("train", "cfg.yaml", "--out", "run", *options)
    assert done.code == 2 and words in " ".join(done.err.split()) and not (scene / "run").exists()
