import pickle

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torchvision.models import resnet18

import dlkit as package


@pytest.fixture
def pickled(tmp_path):
    model = resnet18(num_classes=7).eval()
    torch.save(model, tmp_path / "old.pt")
    return tmp_path / "old.pt", model


def test_pickled_model_to_a_model_file(dlkit, pickled, tmp_path):
    path, model = pickled
    refused = dlkit("convert", path, tmp_path / "new.pt", "--arch", "resnet18")
    assert refused.code == 4 and "--trust-pickle" in refused.err and not (tmp_path / "new.pt").exists()
    done = dlkit("convert", path, tmp_path / "new.pt", "--trust-pickle", "--arch", "torchvision:resnet18")
    assert done.code == 0 and "7 classes" in done.out
    inputs = torch.randn(2, 3, 64, 64)
    assert torch.equal(package.load_model(tmp_path / "new.pt")(inputs), model(inputs))


def test_pickled_model_to_safetensors(dlkit, pickled, tmp_path):
    path, model = pickled
    assert dlkit("convert", path, tmp_path / "new.safetensors", "--trust-pickle").code == 0
    found = load_file(tmp_path / "new.safetensors")
    assert all(torch.equal(found[name], tensor) for name, tensor in model.state_dict().items())


def test_wrapped_weights_need_no_trust(dlkit, tmp_path):
    net = nn.Linear(3, 2)
    torch.save(
        {"state_dict": {f"module.{name}": tensor for name, tensor in net.state_dict().items()}, "epoch": 3},
        tmp_path / "old.pth",
    )
    assert dlkit("convert", tmp_path / "old.pth", tmp_path / "new.pth").code == 0
    assert torch.equal(torch.load(tmp_path / "new.pth", weights_only=True)["weight"], net.weight)


def test_an_existing_file_stays(dlkit, pickled, tmp_path):
    (tmp_path / "new.pt").write_text("mine")
    done = dlkit("convert", pickled[0], tmp_path / "new.pt", "--trust-pickle", "--arch", "resnet18")
    assert done.code == 2 and (tmp_path / "new.pt").read_text() == "mine"


@pytest.mark.parametrize(("arch", "words"), [("resnet50", "does not fit"), ("resnet81", "no model 'resnet81'")])
def test_another_architecture(dlkit, pickled, tmp_path, arch, words):
    done = dlkit("convert", pickled[0], tmp_path / "new.pt", "--trust-pickle", "--arch", arch)
    assert done.code in (2, 4) and words in done.err and not (tmp_path / "new.pt").exists()


def test_not_a_model_at_all(dlkit, tmp_path):
    (tmp_path / "old.pkl").write_bytes(pickle.dumps([1, 2]))
    done = dlkit("convert", tmp_path / "old.pkl", tmp_path / "new.pth", "--trust-pickle")
    assert done.code == 4 and "cannot be converted" in done.err
