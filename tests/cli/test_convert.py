import pickle
import re

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.optim.swa_utils import AveragedModel
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


def in_a_part(model):
    model.layer1 = nn.DataParallel(model.layer1)
    return model


WRAPPERS = {
    "DataParallel": nn.DataParallel,
    "compiled": torch.compile,
    "parallel and compiled": lambda model: nn.DataParallel(torch.compile(model)),
    "averaged": AveragedModel,
    "a parallel part": in_a_part,
    "in a checkpoint": lambda model: {"epoch": 3, "model": nn.DataParallel(model), "ema": None},
}


@pytest.mark.parametrize("wrap", WRAPPERS)
def test_wrapped_pickles_have_plain_names(dlkit, tmp_path, wrap):
    names = set(resnet18(num_classes=3).state_dict())
    torch.save(WRAPPERS[wrap](resnet18(num_classes=3)), tmp_path / "old.pt")
    assert dlkit("convert", tmp_path / "old.pt", tmp_path / "new.safetensors", "--trust-pickle").code == 0
    assert set(load_file(tmp_path / "new.safetensors")) == names
    done = dlkit("convert", tmp_path / "old.pt", tmp_path / "new.pt", "--trust-pickle", "--arch", "resnet18")
    assert done.code == 0 and "3 classes" in done.out


def test_prefixes_and_averages_are_said_and_taken_on_request(dlkit, tmp_path):
    state = resnet18(num_classes=3).state_dict()
    lightning = {f"model.{name}": tensor for name, tensor in state.items()}
    torch.save({"state_dict": lightning, "state_dict_ema": {"fc.bias": torch.ones(3)}}, tmp_path / "old.ckpt")
    done = dlkit("convert", tmp_path / "old.ckpt", tmp_path / "new.pt", "--arch", "resnet18")
    assert done.code == 0 and "'model.' taken off the names" in done.err and "'state_dict_ema' hold" in done.err
    done = dlkit("convert", tmp_path / "old.ckpt", tmp_path / "a.pth")
    assert done.code == 0 and "all names begin with 'model.'; --prefix model. takes it off" in done.err
    assert dlkit("convert", tmp_path / "old.ckpt", tmp_path / "b.pth", "--prefix", "model.").code == 0
    assert set(torch.load(tmp_path / "b.pth", weights_only=True)) == set(state)
    assert dlkit("convert", tmp_path / "old.ckpt", tmp_path / "c.pth", "--key", "state_dict_ema").code == 0
    assert set(torch.load(tmp_path / "c.pth", weights_only=True)) == {"fc.bias"}
    for options, words in (
        (("--prefix", "net."), "no name in .*old.ckpt begins so; they are model.conv1.weight"),
        (("--key", "ema"), "no weights under 'ema', only under 'state_dict', 'state_dict_ema'"),
    ):
        done = dlkit("convert", tmp_path / "old.ckpt", tmp_path / "d.pth", *options)
        assert done.code in (2, 4) and re.search(words, " ".join(done.err.split()))


def test_a_misfit_names_the_file_that_does_not_fit(dlkit, tmp_path):
    torch.save(resnet18(num_classes=3).state_dict(), tmp_path / "old.pth")
    done = dlkit("convert", tmp_path / "old.pth", tmp_path / "new.pt", "--arch", "resnet34")
    assert done.code == 4 and "old.pth: does not fit" in done.err and "new.pt" not in done.err


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
