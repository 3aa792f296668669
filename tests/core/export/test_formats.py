"""Files for other programs: that they compute or hold what the model file does, load as their docs say, and say no clearly."""

import json
import sys
import zipfile
from dataclasses import replace

import onnx
import onnxruntime
import pytest
import torch
import torchvision
from safetensors import safe_open
from torch import nn

from dlkit.core.data import DataInfo
from dlkit.core.export import FORMATS, ExportOptions, check_onnx, export_model, export_onnx
from dlkit.core.modelfile import ModelSpec, build_from_file, read_model_file, save_model_file
from dlkit.core.models import Arch, build_model
from dlkit.errors import DlkitError, OutputError, UsageError

CLASSES = ("ant", "bee", "cat")
SMALL = Arch("dlkit", "small_cnn", {"in_channels": 2, "num_classes": 3, "input_size": [2, 16, 16], "width": 4})
RESNET = Arch("torchvision", "resnet18", {"num_classes": 3, "in_channels": 3})


def model_file(folder, arch, size, **changes):
    torch.manual_seed(0)
    channels = size[0]
    info = DataInfo("classification", "image", size, 3, CLASSES, (0.5,) * channels, (0.25,) * channels)
    save_model_file(folder / "model.pt", ModelSpec(arch, info, **changes), build_model(arch).state_dict())
    return read_model_file(folder / "model.pt")


@pytest.fixture
def small(tmp_path):
    return model_file(tmp_path, SMALL, (2, 16, 16))


@pytest.fixture
def resnet(tmp_path):
    return model_file(tmp_path, RESNET, (3, 32, 32))


def test_onnx(small, tmp_path, capfd):
    exported = export_model(small, "onnx", tmp_path / "net.onnx")
    assert capfd.readouterr() == ("", ""), "the exporter must not talk to users"
    assert exported.parity.max_abs < 1e-4 and exported.bytes == (tmp_path / "net.onnx").stat().st_size
    network = build_from_file(small)
    for count in (1, 5):
        assert check_onnx(tmp_path / "net.onnx", network, torch.randn(count, 2, 16, 16)).max_abs < 1e-4
    model = onnx.load(tmp_path / "net.onnx")
    said = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(said["classes"]) == list(CLASSES) and json.loads(said["mean"]) == [0.5, 0.5]
    assert json.loads(said["arch"])["name"] == "small_cnn" and said["task"] == "classification"
    assert [value.name for value in (*model.graph.input, *model.graph.output)] == ["input", "logits"]
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert not any(node.metadata_props for node in model.graph.node)


@pytest.mark.parametrize("kind", ["image", "sequence"])
def test_onnx_that_normalizes_itself(kind, tmp_path):
    if kind == "image":
        file, size = model_file(tmp_path, SMALL, (2, 16, 16)), (2, 1, 1)
    else:
        arch, size = Arch("dlkit", "lstm", {"input_size": [6, 4], "num_classes": 3, "hidden_size": 8}), (4,)
        info = DataInfo("classification", "sequence", (6, 4), 3, CLASSES, (0.5, 1.0, 2.0, -3.0), (0.25, 1.0, 2.0, 4.0))
        save_model_file(tmp_path / "model.pt", ModelSpec(arch, info), build_model(arch).state_dict())
        file = read_model_file(tmp_path / "model.pt")
    exported = export_model(file, "onnx", tmp_path / "net.onnx", options=ExportOptions(normalizes=True))
    info = file.spec.info
    mean, std = (torch.tensor(values).view(size) for values in (info.mean, info.std))
    raw = torch.rand(5, *info.input_size)
    (found,) = onnxruntime.InferenceSession(tmp_path / "net.onnx").run(None, {"input": raw.numpy()})
    expected = build_from_file(file)((raw - mean) / std)
    torch.testing.assert_close(torch.from_numpy(found), expected, rtol=1e-4, atol=1e-4)
    said = {entry.key for entry in onnx.load(tmp_path / "net.onnx").metadata_props}
    assert "mean" not in said and "normalized" not in exported.loading[-1]


def test_normalizing_that_cannot_be_had_is_refused(small, tmp_path):
    with pytest.raises(UsageError, match="--normalize belongs to --format onnx"):
        export_model(small, "pt2", tmp_path / "net.pt2", options=ExportOptions(normalizes=True))
    plain = replace(small, spec=replace(small.spec, info=replace(small.spec.info, mean=None, std=None)))
    with pytest.raises(UsageError, match="are not normalized"):
        export_model(plain, "onnx", tmp_path / "net.onnx", options=ExportOptions(normalizes=True))
    assert {path.name for path in tmp_path.iterdir()} == {"model.pt"}


def test_onnx_of_vectors_and_sequences(tmp_path):
    lstm = Arch("dlkit", "lstm", {"input_size": [6, 4], "num_classes": 3, "hidden_size": 8})
    network = build_model(lstm).eval()
    assert export_onnx(network, tmp_path / "lstm.onnx", torch.randn(2, 6, 4)).max_abs < 1e-5
    mlp = build_model(Arch("dlkit", "mlp", {"input_size": [6], "num_classes": 3})).eval()
    assert export_onnx(mlp, tmp_path / "mlp.onnx", torch.randn(1, 6)).max_abs < 1e-5


class Shy(nn.Module):
    """Something else when it is captured, as networks are that take a short way for exporters and get it wrong."""

    def forward(self, x):
        return x.flatten(1) * (2 if torch.compiler.is_exporting() else 1)


class Deciding(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


def test_a_file_that_computes_something_else_is_not_written(tmp_path):
    with pytest.raises(DlkitError, match="not written: the file differs from the network by"):
        export_onnx(Shy(), tmp_path / "net.onnx", torch.randn(2, 3))
    assert not list(tmp_path.iterdir())


def test_a_network_that_cannot_be_captured(tmp_path):
    with pytest.raises(UsageError, match="torch.export cannot capture this network"):
        export_onnx(Deciding(), tmp_path / "net.onnx", torch.randn(2, 3))
    assert not list(tmp_path.iterdir())


def test_without_the_extra(small, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(UsageError, match=r"onnxscript.*pip install 'dlkit\[onnx\]'"):
        export_model(small, "onnx", tmp_path / "net.onnx")
    assert not (tmp_path / "net.onnx").exists()


def test_pt2(small, tmp_path):
    exported = export_model(small, "pt2", tmp_path / "net.pt2")
    loaded, inputs = torch.export.load(tmp_path / "net.pt2").module(), torch.randn(5, 2, 16, 16)
    torch.testing.assert_close(loaded(inputs), build_from_file(small)(inputs))
    assert any("only" in note and "trust" in note for note in exported.notes)
    with zipfile.ZipFile(tmp_path / "net.pt2") as archive:
        configs = [name for name in archive.namelist() if name.endswith("weights_config.json")]
        entries = json.loads(archive.read(configs[0]))["config"].values()
        assert entries and not any(entry["use_pickle"] for entry in entries)
        assert not [name for name in archive.namelist() if "sample_inputs" in name and archive.getinfo(name).file_size]


def test_state_dict_goes_into_torchvisions_network(resnet, tmp_path):
    exported = export_model(resnet, "state-dict", tmp_path / "net.pth")
    names = {"torch": torch, "torchvision": torchvision}
    exec("\n".join(exported.loading), names)
    inputs = torch.randn(2, 3, 32, 32)
    assert torch.equal(names["network"].eval()(inputs), build_from_file(resnet)(inputs))


def test_safetensors(resnet, tmp_path):
    exported = export_model(resnet, "safetensors", tmp_path / "net.safetensors")
    names = {}
    exec("\n".join(exported.loading), names)
    inputs = torch.randn(2, 3, 32, 32)
    assert torch.equal(names["network"].eval()(inputs), build_from_file(resnet)(inputs))
    with safe_open(tmp_path / "net.safetensors", "pt") as file:
        assert json.loads(file.metadata()["classes"]) == list(CLASSES) and file.metadata()["format"] == "pt"


def test_timm_folder(resnet, tmp_path):
    exported = export_model(resnet, "timm", tmp_path / "folder")
    config = json.loads((tmp_path / "folder" / "config.json").read_text())
    assert (
        config["architecture"] == "resnet18" and config["num_classes"] == 3 and config["label_names"] == list(CLASSES)
    )
    assert config["pretrained_cfg"]["input_size"] == [3, 32, 32] and config["pretrained_cfg"]["mean"] == [0.5] * 3
    with safe_open(tmp_path / "folder" / "model.safetensors", "pt") as file:
        assert set(file.keys()) == set(torchvision.models.resnet18().state_dict())
    assert "local-dir:" in exported.loading[-1] and any("not loaded in timm" in note for note in exported.notes)


@pytest.mark.parametrize(
    ("arch", "transforms", "words"),
    [(SMALL, (), "no network with the parameter names of small_cnn"),
     (RESNET, ({"op": "prune"},), "full size"),
     (Arch("torchvision", "resnet18", {"num_classes": 3, "in_channels": 3, "zero_init_residual": True}), (), "zero_init")],
)  # fmt: skip
def test_what_timm_does_not_have(tmp_path, arch, transforms, words):
    size = (arch.options["in_channels"], 16, 16)
    with pytest.raises(UsageError, match=words):
        export_model(model_file(tmp_path, arch, size, transforms=transforms), "timm", tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_what_is_there_stays(resnet, tmp_path, name):
    taken = tmp_path / "taken"
    taken.write_text("mine")
    with pytest.raises(OutputError, match="taken is there already.*--force"):
        export_model(resnet, name, taken)
    with pytest.raises(OutputError, match="there is no folder"):
        export_model(resnet, name, tmp_path / "nowhere" / "net")
    assert taken.read_text() == "mine"


def test_force(small, tmp_path):
    (tmp_path / "net.pth").write_text("old")
    export_model(small, "state-dict", tmp_path / "net.pth", force=True)
    assert torch.load(tmp_path / "net.pth", weights_only=True).keys() == small.state_dict.keys()
