"""Every command that a command proposes runs as it stands, and lines fit the terminal."""

import re
import shlex

import pytest
import torch

import dlkit as package
from dlkit.cli.next_steps import NextStep, next_lines

DIGITS = """
data: {name: digits, batch_size: 64, limit: 200}
model: {name: small_cnn, width: 4}
train: {epochs: 1}
log: {tensorboard: false}
"""
OWN = """
data: {name: ./own.py:Dots, eval_transforms: [./own.py:Invert]}
model: ./own.py:Net
loss: ./own.py:loss
train: {epochs: 1}
log: {tensorboard: false}
"""
OWN_CODE = """
import torch
from torch import nn
from torch.nn.functional import cross_entropy

class Dots:
    def __init__(self, train):
        self.images = torch.randint(0, 256, (80, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))

    def __len__(self):
        return 80

    def __getitem__(self, index):
        return self.images[index], index % 3

class Invert(nn.Module):
    def forward(self, image):
        return 255 - image

class Net(nn.Sequential):
    def __init__(self, num_classes):
        super().__init__(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, num_classes))

def loss(outputs, targets):
    return cross_entropy(outputs, targets)
"""


def proposed(text):
    """The words of the dlkit commands that stand under `Next:`, without remarks."""
    lines = text.partition("Next:\n")[2].splitlines()
    return [shlex.split(re.split(r"\s{2,}", line.strip())[0])[1:] for line in lines if line.startswith("  dlkit")]


@pytest.fixture
def run_all(dlkit, tmp_path, quick, monkeypatch):
    """Run a command and all that it proposes, in a folder with a blank in its name; returns the first words of those."""

    def run(*arguments):
        done = dlkit(*arguments)
        assert done.code == 0, done.err
        commands = proposed(done.out)
        for words in commands:
            if words[0] == "predict":
                from PIL import Image

                Image.new("L", (8, 8), 100).save(tmp_path / "picture.png")
                words = [tmp_path / "picture.png" if word == "IMAGE..." else word for word in words]
            options = ("--seconds", 0.01, "--engine", "eager", "--batch", 1) if words[0] == "bench" else ()
            following = dlkit(*words, *options)
            assert following.code == 0, f"{words}: {following.err}"
        return [words[0] for words in commands]

    folder = tmp_path / "a folder"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return run


@pytest.fixture
def own(write_config):
    """A config in which all is code of the user's own."""
    write_config(OWN_CODE, "own.py")
    return write_config(OWN)


@pytest.mark.parametrize("splits", [(), ("data.test=none",), ("data.test=none", "data.val=none")], ids="".join)
def test_after_training(run_all, write_config, splits):
    assert run_all("train", write_config(DIGITS), *splits) == ["eval", "predict"]


def test_evaluation_without_a_test_split_takes_the_next_one_and_says_so(dlkit, write_config, tmp_path):
    run = package.train(write_config(DIGITS), overrides=["data.test=none"], out=tmp_path / "run")
    done = dlkit("eval", run.model_path)
    assert done.code == 0 and "144 val samples" in done.out, done.out
    assert "digits has no test split under this config: val samples are scored" in done.err
    asked = dlkit("eval", run.model_path, "--split", "test")
    assert asked.code == 3 and "it has: train, val" in asked.err


def test_after_training_with_own_code(run_all, own):
    assert run_all("train", own, "data.test=none") == ["eval"]


def test_after_training_a_regression(run_all, write_config, tmp_path):
    rows = "\n".join(f"{index},{2 * index + 0.5}" for index in range(60))
    (tmp_path / "table.csv").write_text(f"a,y\n{rows}\n")
    text = (
        "data: {name: csv, path: ./table.csv, target: y}\nmodel: mlp\ntrain: {epochs: 1}\nlog: {tensorboard: false}\n"
    )
    assert run_all("train", write_config(text)) == ["eval"]


@pytest.mark.parametrize("options", [("--static",), ("--dynamic",), ("--sensitivity",)], ids="".join)
def test_after_quantizing_own_code(run_all, own, tmp_path, options):
    run = package.train(own, out=tmp_path / "run")
    named = ("--model", f"{tmp_path / 'own.py'}:Net", "--data", own, "--no-latency", "--calib", 32)
    commands = run_all("quantize", run.model_path, *named[: 5 if options == ("--dynamic",) else 7], *options)
    assert commands[:2] == (["quantize"] * 2 if options == ("--sensitivity",) else ["eval", "bench"])


def test_after_quantizing_without_data(run_all, own, tmp_path):
    run = package.train(own, out=tmp_path / "run")
    named = ("--model", f"{tmp_path / 'own.py'}:Net")
    assert run_all("quantize", run.model_path, *named, "--no-latency", "--dynamic") == ["bench"]


def test_after_a_static_network_that_lost_much(run_all, write_config, tmp_path, monkeypatch):
    from dlkit.quantize import Outcome

    run = package.train(write_config(DIGITS), out=tmp_path / "run")
    monkeypatch.setattr(Outcome, "drop", 5.0)
    commands = run_all("quantize", run.model_path, "--static", "--calib", 32, "--no-latency")
    assert commands == ["eval", "bench", "quantize", "quantize"]


@pytest.mark.parametrize("named", ["own.py:Net", "small_cnn"])
def test_after_quantizing_weights_from_elsewhere(run_all, own, write_config, tmp_path, named):
    if named == "small_cnn":
        data, option = write_config(DIGITS, "digits.yaml"), ("--arch", named)
    else:
        data, option = own, ("--model", f"{tmp_path / named}")
    run = package.train(data, out=tmp_path / "run")
    torch.save(
        package.load_model(run.model_path, model=f"{tmp_path / 'own.py'}:Net").state_dict(), tmp_path / "weights.pth"
    )
    done = ("quantize", tmp_path / "weights.pth", *option, "--data", data, "--static", "--calib", 32, "--no-latency")
    assert run_all(*done)[:2] == ["eval", "bench"]


def test_after_writing_a_config(dlkit, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written = dlkit("config", "init", "a b.yaml").out
    words = shlex.split(written.partition("next: ")[2])[1:]
    assert dlkit(*words, "train.max_steps=1", "data.limit=64").code == 0


def test_a_run_whose_time_is_up_says_how_to_go_on(dlkit, write_config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = dlkit("train", write_config(DIGITS), "train.max_time=0.001s", "train.epochs=3")
    words = shlex.split(done.out.partition("go on with: ")[2].splitlines()[0])[1:]
    assert done.code == 0 and dlkit(*words, "train.max_time=null").code == 0


def test_lines_that_fit_have_their_remarks_beside():
    steps = [NextStep("dlkit eval model.pt", "score it"), NextStep("dlkit bench model.pt")]
    assert next_lines(steps, width=80) == ["  dlkit eval model.pt   score it", "  dlkit bench model.pt"]


def test_on_a_narrow_terminal_commands_go_on_after_a_backslash_and_stay_the_same():
    path = "runs/a-rather-long-name-of-a-run-001"
    command = f"dlkit eval '{path}/my model.pt' --data {path}/config.resolved.yaml --model ./net.py:Net"
    lines = next_lines([NextStep(command, "score it")], width=80)
    assert max(map(len, lines)) <= 80 and lines[-1].strip() == "score it"
    assert shlex.split("\n".join(lines[:-1]).replace("\\\n", "")) == shlex.split(command)
