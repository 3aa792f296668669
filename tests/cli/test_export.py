"""`dlkit export` as people call it."""

import json
import shutil

import onnx
import pytest
import torch

import dlkit as package
from dlkit.core.data import DataInfo
from dlkit.core.modelfile import ModelSpec, save_model_file
from dlkit.core.models import Arch, build_model
from dlkit.quantize import Recipe, save_quantized
from dlkit.quantize.graph import convert
from dlkit.quantize.ptq import observe_network

ARCH = Arch("dlkit", "small_cnn", {"in_channels": 1, "num_classes": 2, "input_size": [1, 8, 8], "width": 4})
SPEC = ModelSpec(ARCH, DataInfo("classification", "image", (1, 8, 8), 2, ("no", "yes"), (0.5,), (0.5,)))


@pytest.fixture
def model(tmp_path):
    torch.manual_seed(0)
    save_model_file(tmp_path / "model.pt", SPEC, build_model(ARCH).state_dict())
    return tmp_path / "model.pt"


@pytest.fixture
def int8_model(tmp_path):
    torch.manual_seed(0)
    network, batch = build_model(ARCH).eval(), torch.randn(8, 1, 8, 8)
    recipe = Recipe("static", "x86", reduce="weights")
    int8 = convert(observe_network(network, recipe, [batch]), recipe)
    save_quantized(tmp_path / "int8.pt", SPEC, int8, recipe=recipe, example=batch)
    return tmp_path / "int8.pt"


def test_what_it_says(dlkit, model, tmp_path):
    done = dlkit("export", model, "--format", "onnx", "-o", tmp_path / "net.onnx")
    assert done.code == 0 and done.err == ""
    assert "net.onnx  onnx, " in done.out and "same class for 100%" in done.out
    assert "onnxruntime.InferenceSession(" in done.out and "float32 (N, 1, 8, 8), normalized" in done.out


def test_int8_to_onnx(dlkit, int8_model, tmp_path):
    done = dlkit("export", int8_model, "--format", "onnx", "-o", tmp_path / "net.onnx", "--json")
    result = json.loads(done.out)
    assert done.code == 0 and result["schema"] == "dlkit.export/1" and result["format"] == "onnx"
    assert result["parity"]["layer_steps"] <= 1 and result["bytes"] == (tmp_path / "net.onnx").stat().st_size
    model = onnx.load(tmp_path / "net.onnx")
    assert any(node.op_type == "QuantizeLinear" for node in model.graph.node)
    transforms = json.loads({entry.key: entry.value for entry in model.metadata_props}["transforms"])
    assert transforms[0]["op"] == "quantize" and transforms[0]["backend"] == "x86"


@pytest.mark.parametrize("name", ["pt2", "state-dict", "safetensors"])
def test_int8_to_other_formats(dlkit, int8_model, tmp_path, name):
    done = dlkit("export", int8_model, "--format", name, "-o", tmp_path / "net")
    assert done.code == 2 and "is int8" in done.err and "--format onnx" in done.err and not (tmp_path / "net").exists()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_compiled_ahead_of_time(dlkit, model, tmp_path):
    target = tmp_path / "net.pt2"
    done = dlkit("export", model, "--format", "aoti", "-o", target, "--json")
    assert done.code == 0 and done.err == "", done.err
    result, names = json.loads(done.out), {}
    assert result["parity"]["agreement"] == 1.0 and result["bytes"] == target.stat().st_size
    assert "native code" in result["notes"][0] and "trust" in result["notes"][0]
    for batch in (1, 2, 7):
        names["inputs"] = torch.randn(batch, 1, 8, 8)
        exec("\n".join(result["loading"]), names)
        torch.testing.assert_close(names["logits"], package.load_model(model)(names["inputs"]), rtol=1e-4, atol=1e-5)
    assert names["network"].get_metadata()["task"] == "classification"


def test_compiling_without_a_compiler(dlkit, model, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    done = dlkit("export", model, "--format", "aoti", "-o", tmp_path / "net.pt2")
    assert done.code == 2 and "needs a C++ compiler; none is here" in done.err and not list(tmp_path.glob("*.pt2"))


def test_compiled_packages_have_an_ending(dlkit, model, tmp_path):
    done = dlkit("export", model, "--format", "aoti", "-o", tmp_path / "net.so")
    assert done.code == 2 and "net.so: torch loads packages that end with .pt2 alone" in done.err


def test_json_of_weights(dlkit, model, tmp_path):
    done = dlkit("export", model, "--format", "state-dict", "-o", tmp_path / "net.pth", "--json")
    result = json.loads(done.out)
    assert result["parity"] is None and result["path"] == str(tmp_path / "net.pth") and len(result["loading"]) == 3
    assert result["bytes"] == (tmp_path / "net.pth").stat().st_size


def test_writing_over(dlkit, model, tmp_path):
    target = tmp_path / "net.safetensors"
    target.write_text("mine")
    arguments = ("export", model, "--format", "safetensors", "-o", target)
    refused = dlkit(*arguments)
    assert refused.code == 2 and "--force" in refused.err and target.read_text() == "mine"
    done = dlkit(*arguments, "--force")
    assert done.code == 0 and "every tensor is equal" in done.out and target.stat().st_size > 1000


def test_a_class_of_ones_own(dlkit, tmp_path, monkeypatch):
    (tmp_path / "my_net.py").write_text(
        "from torch import nn\n\n\ndef Net(num_classes):\n    return nn.Linear(4, num_classes)\n"
    )
    info = DataInfo("classification", "features", (4,), 2, None, None, None)
    state = torch.nn.Linear(4, 2).state_dict()
    save_model_file(tmp_path / "own.pt", ModelSpec(Arch("user", "my_net:Net", {"num_classes": 2}), info), state)
    arguments = ("export", tmp_path / "own.pt", "--format", "state-dict", "-o", tmp_path / "net.pth")
    assert dlkit(*arguments).code == 4
    assert dlkit(*arguments, "--model", f"{tmp_path}/my_net.py:Net").code == 0


def test_wrong_arguments(dlkit, model, tmp_path):
    assert dlkit("export", model, "--format", "tflite", "-o", tmp_path / "net").code == 2
    assert dlkit("export", model, "--format", "onnx").code == 2
    assert dlkit("export", tmp_path / "nothing.pt", "--format", "onnx", "-o", tmp_path / "net").code == 4
