"""`dlkit quantize`: what it writes and says, that the numbers are right, and that bad input leaves nothing behind."""

import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.models import mobilenet_v2

import dlkit as package
from dlkit.core.evaluation import EvalRequest, run_evaluation
from dlkit.core.modelfile import read_model_file, save_model_file
from dlkit.core.trained_config import own_config

QUIET = {"log": {"tensorboard": False}}
CNN = {
    "data": {"name": "digits", "batch_size": 64},
    "model": {"name": "small_cnn", "width": 8},
    "optimizer": {"name": "adamw", "lr": 0.01},
    "train": {"epochs": 2},
    **QUIET,
}
LSTM = {**CNN, "model": {"name": "lstm", "hidden_size": 48}, "train": {"epochs": 1}}


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """Model files of a small CNN and of an LSTM, trained once."""
    folder = tmp_path_factory.mktemp("trained")
    return {
        name: package.train(config, out=folder / name).model_path for name, config in (("cnn", CNN), ("lstm", LSTM))
    }


@pytest.fixture
def cnn(trained, tmp_path):
    return shutil.copy(trained["cnn"], tmp_path / "model.pt")


@pytest.fixture
def lstm(trained, tmp_path):
    return shutil.copy(trained["lstm"], tmp_path / "model.pt")


def written(folder):
    return {path.name for path in folder.iterdir()} - {"model.pt"}


def accuracy_of(path):
    return run_evaluation(read_model_file(path), EvalRequest()).metrics["accuracy"]


def test_static_just_works(dlkit, cnn, tmp_path):
    done = dlkit("quantize", cnn, "--static", "--seconds", "0.1")
    assert done.code == 0, done.err
    names = {"model.static-int8.pt", "model.static-int8.report.json", "model.static-int8.png"}
    assert written(tmp_path) == names
    for text in (
        "static int8 by",
        "accuracy",
        "same class",
        "layers are int8",
        "int8 kernels ran",
        "batch 16",
        "dlkit eval",
    ):
        assert text in done.out, done.out
    with Image.open(tmp_path / "model.static-int8.png") as picture:
        assert picture.format == "PNG" and min(picture.size) > 300
    facts = json.loads((tmp_path / "model.static-int8.report.json").read_text())
    after = facts["comparison"]["after"]["scores"]
    assert after["metrics"]["accuracy"] == accuracy_of(tmp_path / "model.static-int8.pt") and after["split"] == "test"
    assert facts["comparison"]["before"]["scores"]["metrics"]["accuracy"] == accuracy_of(cnn)
    assert 0.9 < facts["comparison"]["agreement"]["same_top1"] <= 1 and abs(facts["drop_points"]) < 3
    assert facts["layers"]["int8"] == facts["layers"]["all"] and facts["kernels"]["runs"] >= 5
    batches = {(row["model"], row["engine"], row["batch"]) for row in facts["comparison"]["speeds"]["rows"]}
    assert {("float32", "eager", 1), ("float32", "eager", 16), ("int8", "eager", 1), ("int8", "frozen", 16)} <= batches


def test_dynamic_on_an_lstm_in_json(dlkit, lstm, tmp_path):
    done = dlkit("quantize", lstm, "--dynamic", "--no-latency", "--json")
    facts = json.loads(done.out)
    assert facts == json.loads((tmp_path / "model.dynamic-int8.report.json").read_text())
    assert facts["schema"] == "dlkit.quantize/1" and facts["recipe"]["mode"] == "dynamic"
    assert (facts["layers"]["int8"], facts["layers"]["all"], facts["comparison"]["speeds"]) == (2, 2, None)
    assert facts["kernels"]["runs"] >= 2 and facts["calibration"]["samples"] == 0
    sizes = [path.stat().st_size for path in (tmp_path / "model.dynamic-int8.pt", lstm)]
    assert facts["size_ratio"] == sizes[0] / sizes[1] < 0.5


def test_an_int8_file_is_a_model_file(dlkit, cnn, quick, tmp_path):
    """eval, predict, inspect and Python take it like any other, and the CPU is where it runs."""
    assert dlkit("quantize", cnn, "--static", "--no-latency", "-o", tmp_path / "small.pt").code == 0
    judged = dlkit("eval", tmp_path / "small.pt", "--device", "cuda")
    assert "359 test samples" in judged.out and "run on the CPU only" in judged.err
    assert own_config(read_model_file(tmp_path / "small.pt")).config.data.name == "digits"
    Image.new("L", (8, 8), 90).save(tmp_path / "x.png")
    assert dlkit("predict", tmp_path / "small.pt", tmp_path / "x.png").code == 0
    assert "changed   quantize" in dlkit("inspect", tmp_path / "small.pt").out
    network = package.load_model(tmp_path / "small.pt")
    assert network(torch.zeros(3, 1, 8, 8)).shape == (3, 10)
    with pytest.raises(package.errors.UsageError, match="CPU only"):
        package.load_model(tmp_path / "small.pt", device="cuda")
    again = dlkit("quantize", tmp_path / "small.pt", "--static")
    assert again.code == 2 and "int8 already" in again.err


def test_parts_in_float_are_told_with_their_reason(dlkit, cnn, quick, tmp_path):
    done = dlkit("quantize", cnn, "--static", "--no-latency", "--keep-float", "first", "--keep-float", "fc")
    assert "2 in float, kept in float by the user: features.0.conv, fc" in done.out, done.out
    wrong = dlkit("quantize", cnn, "--static", "--no-latency", "--keep-float", "cf", "-o", tmp_path / "x.pt")
    assert wrong.code == 2 and "--keep-float cf" in wrong.err and not (tmp_path / "x.pt").exists()


def test_a_ranking_alone_writes_no_model(dlkit, cnn, tmp_path):
    done = dlkit("quantize", cnn, "--sensitivity", "--calib", 64, "--json")
    facts = json.loads(done.out)
    assert written(tmp_path) == {"model.sensitivity.json"} and facts["schema"] == "dlkit.quantize.sensitivity/1"
    assert facts == json.loads((tmp_path / "model.sensitivity.json").read_text())
    shifts = [layer["shift"] for layer in facts["layers"]]
    assert len(shifts) == 5 and shifts == sorted(shifts, reverse=True)
    assert dlkit("quantize", cnn, "--sensitivity").code == 2
    shown = dlkit("quantize", cnn, "--sensitivity", "--calib", 64, "--force").out
    assert facts["layers"][0]["name"] in shown and "signal to noise" in shown and "--max-drop" in shown


def test_training_for_int8(dlkit, cnn, quick, tmp_path):
    done = dlkit("quantize", cnn, "--qat", "--epochs", 1, "--no-latency", "--json")
    assert done.code == 0, done.err
    facts = json.loads(done.out)
    name = {"qat": "model.qat-int8", "static": "model.qat-kept-static-int8"}[facts["training"]["kept"]]
    assert written(tmp_path) >= {f"{name}.pt", f"{name}.report.json"}
    assert facts["training"]["steps"] == 21 and facts["recipe"]["mode"] in ("qat", "static")
    assert accuracy_of(tmp_path / f"{name}.pt") == facts["comparison"]["after"]["scores"]["metrics"]["accuracy"]


def test_the_seed_picks_the_samples(dlkit, cnn, quick, tmp_path):
    for name, seed in (("a.pt", 0), ("b.pt", 0), ("c.pt", 1)):
        command = ("quantize", cnn, "--static", "--no-latency", "--calib", 40, "-o", tmp_path / name, "--seed", seed)
        assert dlkit(*command).code == 0
    states = [read_model_file(tmp_path / name).state_dict for name in ("a.pt", "b.pt", "c.pt")]
    same = [all(torch.equal(states[0][name], other[name]) for name in states[0]) for other in states[1:]]
    assert same == [True, False]


def test_weights_from_elsewhere_with_a_folder(dlkit, quick, tmp_path):
    for name in ("cats", "dogs"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for index in range(8):
            Image.new("RGB", (50, 40), (index * 30, 90 * (name == "cats"), 200)).save(
                tmp_path / "images" / name / f"{index}.png"
            )
    torch.save(mobilenet_v2(num_classes=2).state_dict(), tmp_path / "w.pth")
    command = ("quantize", tmp_path / "w.pth", "--arch", "torchvision:mobilenet_v2", "--image-size", 64, "--static")
    done = dlkit(*command, "--data", f"imagefolder:{tmp_path / 'images'}", "--no-latency", "--json")
    assert done.code == 0, done.err
    facts = json.loads(done.out)
    assert facts["comparison"]["after"]["scores"]["num_samples"] == 8 and facts["calibration"]["samples"] == 8
    assert "half of the samples" in facts["notes"][0]
    judged = dlkit("eval", tmp_path / "w.static-int8.pt", "--split", "train", "--json")
    assert sorted(json.loads(judged.out)["classes"]) == ["cats", "dogs"]


def test_a_class_of_ones_own(dlkit, tmp_path):
    (tmp_path / "net.py").write_text(
        "from torch import nn\n\n\ndef net(num_classes):\n    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(),"
        " nn.Linear(144, num_classes))\n"
    )
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
    torch.save(network.state_dict(), tmp_path / "w.pt")
    (tmp_path / "cfg.yaml").write_text("data: digits\n")
    target = f"{tmp_path / 'net.py'}:net"
    done = dlkit(
        "quantize", tmp_path / "w.pt", "--model", target, "--data", tmp_path / "cfg.yaml", "--static", "--no-latency"
    )
    assert done.code == 0 and "2 of 2 layers are int8" in done.out, done.out + done.err
    unnamed = dlkit("eval", tmp_path / "w.static-int8.pt")
    assert unnamed.code == 4 and "--model" in unnamed.err
    assert dlkit("eval", tmp_path / "w.static-int8.pt", "--model", target).code == 0


BAD = {
    "no mode": ((), 2, "give one of --dynamic, --static and --qat; got none of them"),
    "learning rate without training": (("--static", "--lr", 0.1), 2, "--lr belongs to --qat"),
    "a ranking of training": (("--qat", "--sensitivity"), 2, "--sensitivity belongs to --static"),
    "two modes": (("--static", "--dynamic"), 2, "got --dynamic and --static"),
    "a teacher without training": (("--static", "--distill"), 2, "--distill belongs to --qat"),
    "epochs without training": (("--static", "--epochs", 2), 2, "--epochs belongs to --qat"),
    "max-drop without static": (("--dynamic", "--max-drop", 1), 2, "--max-drop belongs to --static"),
    "unknown backend": (("--static", "--backend", "x87"), 2, "x87"),
    "other folder": (("--static", "-o", "/nowhere/at/all.pt"), 2, "no such folder"),
    "other ending": (("--static", "-o", "x.onnx"), 2, "a model file ends in .pt"),
    "missing config": (("--static", "--data", "nowhere.yaml"), 2, "nowhere.yaml"),
    "missing folder": (("--static", "--data", "imagefolder:/nowhere"), 3, "/nowhere"),
    "folder without a kind": (("--static", "--data", "."), 2, "--data imagefolder:."),
    "calibration of nothing": (("--dynamic", "--calib", 8), 2, "--calib belongs to --static and --qat"),
    "no epochs": (("--qat", "--epochs", 0), 2, "--epochs 0: expected a number greater than 0"),
    "no learning rate": (("--qat", "--lr", 0), 2, "--lr 0: expected a number greater than 0"),
    "learning rate of nan": (("--qat", "--lr", "nan"), 2, "--lr nan"),
    "a ranking with max-drop": (("--sensitivity", "--max-drop", 1), 2, "--max-drop makes a model"),
    "a ranking with export": (("--sensitivity", "--export", "onnx"), 2, "--export needs a model"),
    "a ranking into a model": (("--sensitivity", "-o", "x.pt"), 2, "a ranking is a .json file"),
    "unwritable folder": (("--static", "-o", "/proc/x.pt"), 2, "/proc cannot be written"),
    "unknown split": (("--static", "--split", "dev"), 2, "dev"),
    "arch of a model file": (("--static", "--arch", "resnet18"), 2, "leave --arch out"),
    "nothing to quantize": (("--static", "--keep-float", "*"), 2, "still float"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_options_write_nothing(dlkit, cnn, tmp_path, case):
    options, code, words = BAD[case]
    done = dlkit("quantize", cnn, "--no-latency", *options)
    assert (done.code, done.out) == (code, ""), done.err
    assert words in done.err and "Traceback" not in done.err and not written(tmp_path), done.err


@pytest.mark.parametrize("kind", ["truncated", "pickled", "text", "weights"])
def test_files_that_are_refused(dlkit, cnn, tmp_path, kind):
    path = tmp_path / "x.pt"
    words = {"truncated": "", "pickled": "dlkit convert", "text": "not a file", "weights": "--arch torchvision:NAME"}[
        kind
    ]
    if kind == "truncated":
        path.write_bytes(cnn.read_bytes()[:-300])
    elif kind == "pickled":
        torch.save(nn.Linear(2, 2), path)
    elif kind == "text":
        path.write_text("hello")
    else:
        torch.save(nn.Linear(2, 2).state_dict(), path)
    done = dlkit("quantize", path, "--static")
    assert done.code == 4 and str(path) in done.err and words in done.err and written(tmp_path) == {"x.pt"}


def test_samples_that_do_not_fit(dlkit, cnn, tmp_path):
    """Of another size, and of classes that the model does not know."""
    (tmp_path / "other.yaml").write_text("data: {name: fake, shape: [1, 16, 16], num_samples: 64, num_classes: 10}\n")
    done = dlkit("quantize", cnn, "--static", "--data", tmp_path / "other.yaml")
    assert done.code == 3 and "images of 1x8x8, these samples are 1x16x16" in done.err, done.err
    assert written(tmp_path) == {"other.yaml"}


def test_a_file_without_data(dlkit, cnn, quick, tmp_path):
    """Static needs to be told which; dynamic does without, but says so."""
    file = read_model_file(cnn)
    save_model_file(tmp_path / "bare.pt", replace(file.spec, config={}, data={}), file.state_dict)
    done = dlkit("quantize", tmp_path / "bare.pt", "--static")
    assert done.code == 2 and "name the data: --data CFG" in done.err and written(tmp_path) == {"bare.pt"}
    done = dlkit("quantize", tmp_path / "bare.pt", "--dynamic", "--no-latency")
    assert done.code == 0 and "not judged" in done.out and "name them with --data" in done.err


def test_files_that_are_there_stay(dlkit, cnn, quick, tmp_path):
    report = tmp_path / "model.static-int8.report.json"
    report.write_text("mine")
    done = dlkit("quantize", cnn, "--static", "--no-latency")
    assert done.code == 2 and "--force" in done.err and written(tmp_path) == {report.name}
    assert dlkit("quantize", cnn, "--static", "--no-latency", "--force").code == 0 and report.read_text() != "mine"


def test_the_name_tells_when_training_gave_nothing_better(dlkit, cnn, quick, tmp_path):
    train = (
        "quantize",
        cnn,
        "--qat",
        "--epochs",
        0.2,
        "--lr",
        3,
        "--calib",
        32,
        "--no-latency",
    )  # a rate that ruins it
    done = dlkit(*train)
    assert done.code == 0, done.err
    assert {name for name in written(tmp_path) if name.endswith(".pt")} == {"model.qat-kept-static-int8.pt"}
    again = dlkit(*train)
    assert again.code == 2 and "model.qat-kept-static-int8.pt is there already" in again.err
    trained = dlkit(*train, "--keep", "trained")
    assert trained.code == 0 and "model.qat-int8.pt" in written(tmp_path)
    assert dlkit("quantize", cnn, "--static", "--keep", "trained").code == 2


def test_photographs_without_labels_calibrate(dlkit, tmp_path):
    shapes = Path(__file__).parents[2] / "examples" / "shapes"
    config = {"data": {"name": "imagefolder", "path": str(shapes), "image_size": 16}, "model": "small_cnn"}
    model = package.train(
        {**config, "train": {"epochs": 1}, "log": {"tensorboard": False}}, out=tmp_path / "r"
    ).model_path
    (tmp_path / "photos").mkdir()
    for place, path in enumerate(sorted(shapes.rglob("*.png"))[::5]):
        shutil.copy(path, tmp_path / "photos" / f"{place}.png")
    (tmp_path / "photos" / "bad.png").write_text("no picture")
    data = ("--data", f"images:{tmp_path / 'photos'}")
    done = dlkit("quantize", model, "--static", *data, "--no-latency", "-o", tmp_path / "q.pt")
    assert done.code == 0 and "1 of 25 images cannot be read" in done.err, done.err
    assert "of the 24 images that calibrated" in done.err and "not judged" in done.out
    ranked = dlkit("quantize", model, "--sensitivity", *data)
    assert ranked.code == 0 and "--max-drop" not in ranked.out
    for options in (("--qat",), ("--static", "--max-drop", 1), ("--static", "--split", "val")):
        refused = dlkit("quantize", model, *options, *data, "-o", tmp_path / "other.pt")
        assert refused.code == 2 and "has no labels" in refused.err
    missing = dlkit("quantize", model, "--static", "--data", f"images:{tmp_path / 'none'}", "-o", tmp_path / "other.pt")
    assert missing.code == 3 and "no such file or folder" in missing.err


@pytest.mark.parametrize("ending", ["pt", "report.json", "png", "onnx"])
def test_all_that_training_would_write_is_looked_for_first(dlkit, cnn, tmp_path, ending):
    (tmp_path / f"model.qat-int8.{ending}").touch()
    done = dlkit("quantize", cnn, "--qat", "--export", "onnx", "--no-latency")
    assert done.code == 2 and f"model.qat-int8.{ending} is there already" in done.err, done.err


@pytest.mark.parametrize("broken, code", [("torch.onnx.export", 2), ("onnx.checker.check_model", 1)])
def test_an_export_that_fails_costs_nobody_the_model(dlkit, lstm, quick, tmp_path, monkeypatch, broken, code):
    def fail(*_, **__):
        raise OverflowError("too deep inside")

    monkeypatch.setattr(broken, fail)
    done = dlkit("quantize", lstm, "--dynamic", "--export", "onnx", "--no-latency")
    assert done.code == code and "too deep inside" in done.err, done.err
    assert f"not written: {tmp_path / 'model.dynamic-int8.onnx'}" in done.out
    assert written(tmp_path) == {f"model.dynamic-int8.{ending}" for ending in ("pt", "report.json", "png")}
    report = json.loads((tmp_path / "model.dynamic-int8.report.json").read_text())
    assert report["export"] is None and "too deep" in report["export_failure"] and len(report["files"]) == 3
    assert dlkit("eval", tmp_path / "model.dynamic-int8.pt").code == 0


def test_the_float_model_is_never_replaced(dlkit, cnn, quick, tmp_path):
    before = cnn.read_bytes()
    (tmp_path / "link.pt").symlink_to(cnn)
    for name in ("model.pt", "link.pt"):
        done = dlkit("quantize", cnn, "--static", "--no-latency", "--force", "-o", tmp_path / name)
        assert done.code == 2 and "is the float model itself" in done.err, done.err
    assert cnn.read_bytes() == before and written(tmp_path) == {"link.pt"}


@pytest.mark.parametrize("section", ["loss", "optimizer"])
def test_a_file_never_names_code_to_train_with(dlkit, cnn, quick, tmp_path, section):
    file = read_model_file(cnn)
    config = {**file.spec.config, section: {"name": "evil.module:Thing"}}
    save_model_file(cnn, replace(file.spec, config=config), file.state_dict)
    train = ("quantize", cnn, "--qat", "--epochs", 0.05, "--calib", 32, "--no-latency")
    done = dlkit(*train)
    assert done.code == 2 and "evil.module:Thing, which is your own code" in done.err and not written(tmp_path)
    (tmp_path / "cfg.yaml").write_text("data: digits\nmodel: small_cnn\nloss: cross_entropy\noptimizer: adamw\n")
    named = dlkit(*train, "--data", tmp_path / "cfg.yaml")
    assert named.code == 0, named.err


@pytest.mark.parametrize("options", [("--static",), ("--dynamic",), ("--qat",), ("--sensitivity",)], ids="".join)
def test_weights_that_are_not_finite(dlkit, cnn, tmp_path, options):
    file = read_model_file(cnn)
    file.state_dict["features.0.conv.weight"][0, 0] = float("nan")
    save_model_file(cnn, file.spec, file.state_dict)
    done = dlkit("quantize", cnn, "--no-latency", *options)
    assert done.code == 5 and f"{cnn}: features.0.conv.weight holds values that are not finite" in done.err, done.err
    assert not written(tmp_path)


NETS = """
from torch import nn, randn

class Product(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.weight = nn.Parameter(randn(64, num_classes))

    def forward(self, x):
        return x.flatten(1) @ self.weight

def net(num_classes):
    print("hello")
    return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))

def hidden(num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, num_classes))

class Summed(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.layers = hidden(num_classes)

    def forward(self, x):
        far = 1000 * x.flatten(1).sum(1, keepdim=True)
        return self.layers(x) + far - far
"""


@pytest.fixture
def own(tmp_path):
    """Trains `own("net")`, a class in a file of one's own, and gives the options that name it and the model file."""
    (tmp_path / "nets.py").write_text(NETS)

    def train(name):
        named = f"{tmp_path / 'nets.py'}:{name}"
        return ["--model", named], package.train(
            {**CNN, "model": named, "train": {"epochs": 1}}, out=tmp_path / name
        ).model_path

    return train


LAYERED = """
import os
import signal
from pathlib import Path
import torch
from torch import nn
from torch.nn import functional as F

FOLDER, LAYER = Path(__file__).parent, "layer"

class Layered(nn.Module):
    calls, is_training = 0, True

    def __init__(self, num_classes):
        super().__init__()
        self.add_module(LAYER, nn.Linear(64, num_classes))

    def forward(self, x):
        return self.after(getattr(self, LAYER)(x.flatten(1)))

class Net(Layered):
    def after(self, x):
"""


@pytest.fixture
def quantize_own(dlkit, tmp_path):
    """Quantizes `Net` of `LAYERED`: the lines are what it does behind its layer."""

    def quantize(lines, *options, layer="layer"):
        body = "".join(f"        {line}\n" for line in lines.splitlines())
        (tmp_path / "net.py").write_text(LAYERED.replace('"layer"', repr(layer)) + body)
        (tmp_path / "cfg.yaml").write_text("data: digits\n")
        torch.save(nn.ModuleDict({layer: nn.Linear(64, 10)}).state_dict(), tmp_path / "w.pt")
        named = ("--model", f"{tmp_path / 'net.py'}:Net", "--data", tmp_path / "cfg.yaml")
        done = dlkit("quantize", tmp_path / "w.pt", *named, "--no-latency", *(options or ("--static",)))
        assert "Traceback" not in done.err and (done.code == 0 or not done.out), done.err
        if done.code:
            assert written(tmp_path) - {"__pycache__"} == {"net.py", "cfg.yaml", "w.pt"}
        return done

    return quantize


COUNTING = "self.calls += 1\nreturn x * self.calls"
STRANGE = {
    "dropout that is always on": "return F.dropout(x, 0.5, self.is_training)",
    "noise": "return x + torch.randn_like(x)",
    "a number that counts calls": COUNTING,
    "a size that counts calls": "self.calls += 1\nreturn torch.cat([x] * self.calls, 1)",
}


@pytest.mark.parametrize("lines", STRANGE.values(), ids=STRANGE)
def test_a_graph_that_computes_something_else_than_its_network(quantize_own, lines):
    done = quantize_own(lines)
    assert done.code == 2 and "the network's graph gives other outputs than the network (they differ by" in done.err
    assert "is random, or depends on more than its input" in done.err and "--keep-float" in done.err


@pytest.mark.parametrize("options", [("--qat",), ("--sensitivity",), ("--static", "--max-drop", "1")], ids="".join)
def test_every_mode_with_a_graph_compares_it_with_the_network(quantize_own, options):
    done = quantize_own(COUNTING, *options)
    assert done.code == 2 and "the network's graph gives other outputs than the network" in done.err


def test_a_graph_that_would_depend_on_values(quantize_own):
    done = quantize_own("return x if x.sum() > 0 else -x")
    assert done.code == 2 and "torch.fx cannot follow `return x if x.sum() > 0 else -x`" in done.err


@pytest.mark.parametrize("options", [("--static",), ("--dynamic",), ("--qat",), ("--sensitivity",)], ids="".join)
def test_a_network_without_a_layer_for_int8(dlkit, own, options):
    """Said before anything is trained, and no empty ranking either."""
    named, model = own("Product")
    before = written(model.parent)
    done = dlkit("quantize", model, "--no-latency", *named, *options)
    assert done.code == 2 and ("still float" in done.err or "nothing to rank" in done.err), done.err
    assert "fine-tuning" not in done.err and written(model.parent) == before


def test_layers_that_cost_too_much_stay_in_float(dlkit, own, quick):
    """A weight as large as this leaves no codes for the others of its layer, and reads a pixel that is always the same."""
    named, model = own("hidden")
    file = read_model_file(model)
    corner = -file.spec.info.mean[0] / file.spec.info.std[0]
    file.state_dict["1.weight"][:, 0] += 300
    file.state_dict["1.bias"].sub_(300 * corner)
    save_model_file(model, file.spec, file.state_dict)
    done = dlkit("quantize", model, *named, "--static", "--calib", 64, "--no-latency", "--max-drop", 1, "--json")
    assert done.code == 0, done.err
    facts = json.loads(done.out)
    assert facts["fallback"]["kept"] == ["1"] and facts["fallback"]["drop_points"] <= 1
    assert facts["fallback"]["attempts"][0]["drop_points"] > 30
    assert facts["layers"]["reasons"] == {"kept in float by the accuracy search": 1}
    assert facts["recipe"]["keep_float"] == ["1"]
    network = package.load_model(model.with_name("model.static-int8.pt"), model=named[1])
    assert network(torch.zeros(1, 1, 8, 8)).shape == (1, 10)


def test_a_sum_of_small_and_large_values_loses_nothing(dlkit, own, quick):
    """What is added inside a layer is rounded once, with its sum."""
    named, model = own("Summed")
    done = dlkit("quantize", model, *named, "--static", "--calib", 64, "--no-latency", "--max-drop", 1, "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["fallback"]["kept"] == []


def test_dynamic_says_what_would_do_more_for_convolutions(dlkit, cnn, quick):
    shown = dlkit("quantize", cnn, "--dynamic", "--no-latency").out
    assert f"dlkit quantize {cnn} --static " in shown.partition("Next:")[2]


WHILE_WRITING = """
if isinstance(x, torch.Tensor) and list(FOLDER.glob("*/w.static-int8.pt")):
    {}
return x
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_nothing(quantize_own, quick, number):
    """In the middle of writing, when files of unknown names are beside the model."""
    handler = signal.getsignal(number)
    done = quantize_own(WHILE_WRITING.format(f"signal.raise_signal({number:d})"))
    assert done.code == 128 + number
    assert f"stopped by {number.name}; nothing was written" in done.err and "error" not in done.err
    assert signal.getsignal(number) is handler


def test_a_failure_in_the_comparison_leaves_nothing(quantize_own, quick):
    done = quantize_own(WHILE_WRITING.format("raise RuntimeError('on purpose')"))
    assert done.code == 3 and "the network does not run on samples of 1x8x8: on purpose" in done.err


@pytest.mark.parametrize("step", ["matplotlib.figure.Figure.savefig", "json.dumps"])
def test_a_failure_in_the_report_leaves_nothing(dlkit, cnn, quick, tmp_path, monkeypatch, step):
    def fail(*_, **__):
        raise RuntimeError("on purpose")

    monkeypatch.setattr(step, fail)
    done = dlkit("quantize", cnn, "--static", "--calib", 32, "--no-latency")
    assert done.code == 1 and "on purpose" in done.err and not written(tmp_path)


def test_a_file_that_gives_other_outputs_in_a_fresh_process_is_an_error(quantize_own):
    done = quantize_own("return x * (1 + os.getpid() / 1000)")
    assert done.code == 1 and "the reloaded network gives other outputs, off by up to" in done.err, done.err


@pytest.mark.slow
def test_a_fresh_process_gives_the_same_with_another_engine(dlkit, lstm, tmp_path):
    done = dlkit("quantize", lstm, "--dynamic", "--backend", "qnnpack", "--no-latency")
    assert done.code == 0 and (tmp_path / "model.dynamic-int8.pt").exists(), done.err


@pytest.mark.slow
def test_a_file_that_does_not_load_in_a_fresh_process_is_an_error(quantize_own):
    done = quantize_own(f"assert os.getpid() == {os.getpid()}, 'on purpose'\nreturn x")
    assert done.code == 1 and "it cannot be loaded in a fresh process: " in done.err and "on purpose" in done.err
