"""`dlkit eval --fit-temperature`: fitted, kept, used, shown, left out of changed networks, refused."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy

import dlkit as package
from dlkit.core.modelfile import read_model_file, save_model_file

DIGITS = {"name": "digits", "batch_size": 64, "limit": 600, "val": 0.3, "test": 0.3}
PICTURE = Path(__file__).resolve().parent.parent.parent / "examples" / "shapes" / "circle" / "circle_00.png"
OF_PROBABILITIES = {"ece", "auroc", "average_precision"}


def trained(folder, data=DIGITS, **more):
    config = {"data": data, "model": {"name": "small_cnn", "width": 4}, "train": {"epochs": 2}, **more}
    return package.train({**config, "log": {"tensorboard": False}}, out=folder / "run").model_path


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model file whose outputs are forty times larger, so that it is far too sure."""
    file = read_model_file(trained(tmp_path_factory.mktemp("temperature")))
    scaled = {name: 40 * tensor if name.startswith("fc.") else tensor for name, tensor in file.state_dict.items()}
    path = file.path.with_name("sure.pt")
    save_model_file(path, file.spec, scaled)
    return path


@pytest.fixture
def tempered(dlkit, model, tmp_path):
    done = dlkit("eval", model, "--fit-temperature", "-o", tmp_path / "new.pt", "--json")
    assert done.code == 0, done.err
    return tmp_path / "new.pt"


def metrics_of(dlkit, path, *more):
    facts = json.loads(dlkit("eval", path, "--json", *more).out)
    return facts["metrics"], facts


def test_what_it_changes(dlkit, model, tempered):
    old, _ = metrics_of(dlkit, model)
    new, facts = metrics_of(dlkit, tempered)
    assert {name: old[name] for name in old.keys() - OF_PROBABILITIES} == {
        name: new[name] for name in new.keys() - OF_PROBABILITIES
    }
    assert new["ece"] < old["ece"] and facts["temperature"] > 1
    before, after = read_model_file(model), read_model_file(tempered)
    assert after.spec == replace(before.spec, info=replace(before.spec.info, temperature=facts["temperature"]))
    assert all(torch.equal(after.state_dict[name], tensor) for name, tensor in before.state_dict.items())


def test_the_likelihood_of_validation_is_greatest(dlkit, model, tempered):
    from dlkit.config import load_mapping
    from dlkit.core.data import build_eval_split

    file = read_model_file(tempered)
    network, loaded = package.load_model(tempered), load_mapping(dict(file.spec.config))
    split = build_eval_split(loaded, file.spec.info, split="val", device=torch.device("cpu"))
    with torch.no_grad():
        pairs = [(network(batch.inputs).double(), batch.targets) for batch in split.batches()]
    outputs, targets = (torch.cat(column) for column in zip(*pairs, strict=True))
    best = cross_entropy(outputs / file.spec.info.temperature, targets)
    for factor in (0.98, 0.999, 1.001, 1.02):
        assert best < cross_entropy(outputs / (file.spec.info.temperature * factor), targets)


def test_it_is_used_and_shown(dlkit, model, tempered):
    old, new = (
        json.loads(dlkit("predict", path, PICTURE, "--json", "--probs").out)["predictions"]
        for path in (model, tempered)
    )
    temperature = read_model_file(tempered).spec.info.temperature
    assert [row["class"] for row in old] == [row["class"] for row in new]
    # softmax(z / T) is what softmax(z) ** (1 / T) is when that sums to 1
    powers = torch.tensor([row["probability"] for row in old], dtype=torch.float64) ** (1 / temperature)
    assert [row["probability"] for row in new] == pytest.approx((powers / powers.sum()).tolist(), rel=1e-4)
    assert f"softmax   at temperature {temperature:.4g}" in dlkit("inspect", tempered).out
    assert f"probabilities at temperature {temperature:.4g}" in dlkit("eval", tempered).out


def test_exports_tell_it(dlkit, tempered, tmp_path):
    safetensors = pytest.importorskip("safetensors")
    done = dlkit("export", tempered, "--format", "safetensors", "-o", tmp_path / "w.safetensors")
    assert done.code == 0, done.err
    with safetensors.safe_open(tmp_path / "w.safetensors", "pt") as file:
        assert float(file.metadata()["temperature"]) == read_model_file(tempered).spec.info.temperature


@pytest.mark.parametrize(
    "command",
    [("quantize", "--dynamic", "--no-latency"), ("prune", "--amount", "0.5", "--no-latency")],
)
def test_changed_networks_leave_it_out(dlkit, quick, tempered, tmp_path, command):
    done = dlkit(command[0], tempered, *command[1:], "-o", tmp_path / "changed.pt")
    assert done.code == 0, done.err
    assert "was fitted to the network as it was and is left out" in done.err
    assert read_model_file(tmp_path / "changed.pt").spec.info.temperature is None


def test_force_replaces_the_model(dlkit, tempered):
    old = tempered.read_bytes()
    assert dlkit("eval", tempered, "--fit-temperature", "--force").code == 0
    assert read_model_file(tempered).spec.info.temperature and tempered.with_name("new.pt").read_bytes() == old


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--fit-temperature"], "name the new file with -o"),
        (["-o", "x.pt"], "-o is for --fit-temperature"),
        (["--fit-temperature", "-o", "there.pt"], "there.pt is there already"),
        (["--fit-temperature", "-o", "no/x.pt"], "there is no folder"),
        (["--fit-temperature", "-o", "."], "is a folder"),
    ],
)
def test_what_does_not_go(dlkit, model, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    Path("there.pt").write_bytes(b"old")
    done = dlkit("eval", model, *arguments)
    assert done.code == 2 and words in done.err and "Traceback" not in done.err
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


@pytest.mark.parametrize(
    ("data", "more", "code", "words"),
    [
        ({**DIGITS, "val": "none"}, {}, 3, "has no val split"),
        (DIGITS, {"task": "regression"}, 2, "is no model of classes"),
    ],
)
def test_models_that_have_none(dlkit, tmp_path, data, more, code, words):
    path = trained(tmp_path, data, **more)
    done = dlkit("eval", path, "--fit-temperature", "-o", tmp_path / "x.pt")
    assert done.code == code and words in done.err and not (tmp_path / "x.pt").exists()


def test_a_senseless_one_is_refused(dlkit, tempered):
    value = torch.load(tempered, weights_only=True)
    value["spec"]["input"]["temperature"] = 0.0
    torch.save(value, tempered)
    done = dlkit("predict", tempered, PICTURE)
    assert done.code == 4 and "temperature must lie between" in done.err
