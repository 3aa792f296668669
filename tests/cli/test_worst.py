"""`dlkit eval --worst FILE`."""

import json

import pytest
import torch

import dlkit as package
from dlkit.config import load_mapping
from dlkit.core.data import build_eval_split
from dlkit.core.evaluation import pictures_of
from dlkit.core.modelfile import read_model_file

LOG = {"tensorboard": False}
DIGITS = {"name": "digits", "batch_size": 64, "limit": 300, "val": "none", "test": 0.3}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    config = {"data": DIGITS, "model": {"name": "small_cnn", "width": 4}, "train": {"epochs": 1}, "log": LOG}
    return package.train(config, out=tmp_path_factory.mktemp("worst") / "run").model_path


def test_the_sheet_and_what_is_told(dlkit, model, tmp_path):
    done = dlkit("eval", model, "--worst", tmp_path / "w.png", "--num-worst", 4, "--json")
    assert done.code == 0 and (tmp_path / "w.png").read_bytes()[:4] == b"\x89PNG", done.err
    worst = json.loads(done.out)["worst"]
    losses = [sample["loss"] for sample in worst]
    assert len(worst) == 4 and losses == sorted(losses, reverse=True)
    file = read_model_file(model)
    split = build_eval_split(
        load_mapping(dict(file.spec.config)), file.spec.info, split="test", device=torch.device("cpu")
    )
    assert [sample["true"] for sample in worst] == [str(int(split.sample_targets()[s["position"]])) for s in worst]
    assert json.loads(dlkit("eval", model, "--json").out)["worst"] == []


def test_pictures_are_those_before_normalization(model):
    file = read_model_file(model)
    info, loaded = file.spec.info, load_mapping(dict(file.spec.config))
    split = build_eval_split(loaded, info, split="test", device=torch.device("cpu"))
    inputs = torch.cat([batch.inputs for batch in split.batches()])
    drawn = pictures_of(split, [70, 3, 0], info)
    assert drawn.keys() == {0, 3, 70}
    for position, picture in drawn.items():
        wanted = (inputs[position, 0] * info.std[0] + info.mean[0]).clamp(0, 1)
        torch.testing.assert_close(picture, wanted, atol=1e-6, rtol=0)
        assert picture.max() > 0.5  # a digit is there


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--worst", "w.txt"], ".png"),
        (["--worst", "no/w.png"], "no folder"),
        (["--worst", "w.png", "--num-worst", "0"], "--num-worst"),
    ],
)
def test_what_does_not_go(dlkit, model, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    done = dlkit("eval", model, *arguments)
    assert done.code == 2 and words in done.err and not list(tmp_path.iterdir())


def test_models_of_no_pictures(dlkit, tmp_path):
    data = {"name": "fake", "num_samples": 60, "shape": [5], "num_classes": 3, "batch_size": 16}
    config = {"data": data, "model": {"name": "mlp"}, "train": {"epochs": 1}, "log": LOG}
    path = package.train(config, out=tmp_path / "run").model_path
    done = dlkit("eval", path, "--worst", tmp_path / "w.png")
    assert done.code == 2 and "is no model of images" in done.err and not (tmp_path / "w.png").exists()
