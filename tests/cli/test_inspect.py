"""What `dlkit inspect` says of each kind of file, and what it refuses."""

import json

import pytest
import torch
from torchvision.models import resnet18

import dlkit as package

CONFIG = {
    "data": {"name": "digits", "batch_size": 64, "limit": 200},
    "model": {"name": "small_cnn", "width": 4},
    "train": {"epochs": 1},
    "log": {"tensorboard": False},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return package.train(CONFIG, out=tmp_path_factory.mktemp("inspect") / "run")


def test_a_model_file(dlkit, run):
    facts = json.loads(dlkit("inspect", run.model_path, "--json").out)
    state = package.load_model(run.model_path).state_dict()
    assert (facts["schema"], facts["kind"], facts["bytes"]) == (
        "dlkit.inspect/1",
        "model",
        run.model_path.stat().st_size,
    )
    assert facts["numbers"] == sum(tensor.numel() for tensor in state.values()) and len(facts["tensors"]) == len(state)
    assert sum(facts["bytes_by_dtype"].values()) == sum(t.numel() * t.element_size() for t in state.values())
    assert facts["spec"]["arch"]["name"] == "small_cnn" and facts["spec"]["input"]["input_size"] == [1, 8, 8]
    shown = dlkit("inspect", run.model_path).out
    for text in (
        "dlkit model file",
        "small_cnn (dlkit): width 4",
        "image 1x8x8",
        "10 classes: 0, 1",
        "data      digits",
        "test",
    ):
        assert text in shown, shown
    assert "fc.weight" not in shown and "fc.weight" in dlkit("inspect", run.model_path, "--tensors").out


def test_a_checkpoint(dlkit, run):
    path = run.run_dir / "checkpoints" / "last.pt"
    facts = json.loads(dlkit("inspect", path, "--json").out)
    assert facts["kind"] == "checkpoint" and facts["training"]["epoch"] == 1 and facts["training"]["step"] > 0
    assert "stands at epoch 1" in dlkit("inspect", path).out


def test_weights_and_the_network_that_they_fit(dlkit, tmp_path):
    torch.save({"state_dict": resnet18(num_classes=4).state_dict()}, tmp_path / "w.pth")
    facts = json.loads(dlkit("inspect", tmp_path / "w.pth", "--json").out)
    assert (facts["kind"], facts["fits"], facts["spec"]) == ("weights", ["resnet18"], None)
    assert "it fits torchvision:resnet18" in dlkit("inspect", tmp_path / "w.pth").out


@pytest.mark.parametrize("kind", ["missing", "folder", "text", "truncated", "pickled", "list"])
def test_refusals(dlkit, run, tmp_path, kind):
    path, words = tmp_path / "x.pt", {"pickled": "dlkit convert", "truncated": "", "missing": "no such file"}
    if kind == "folder":
        path.mkdir()
    elif kind == "text":
        path.write_text("hello")
    elif kind == "truncated":
        path.write_bytes(run.model_path.read_bytes()[:-200])
    elif kind == "pickled":
        torch.save(resnet18(num_classes=2), path)
    elif kind == "list":
        torch.save([1, 2], path)
    done = dlkit("inspect", path)
    assert done.code == 4 and str(path) in done.err and words.get(kind, "") in done.err and not done.out
