import json
import pickle
import re

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from torch.optim.swa_utils import AveragedModel
from torchvision.models import ResNet18_Weights, resnet18

import dlkit as package
from dlkit.core.modelfile import read_model_file
from dlkit.core.models import unet


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


@pytest.fixture
def image(tmp_path):
    Image.new("RGB", (40, 30), (200, 30, 60)).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def test_weights_alone_are_predicted_with_and_exported(dlkit, image, tmp_path):
    """As they are, and by the names of ImageNet's classes, which the converted file has too."""
    state = resnet18().state_dict()
    torch.save(state, tmp_path / "w.pth")
    named = ("--arch", "torchvision:resnet18", "--image-size", "64")
    said = [dlkit("predict", tmp_path / "w.pth", image, *named, "--json")]
    assert dlkit("convert", tmp_path / "w.pth", tmp_path / "m.pt", *named).code == 0
    said.append(dlkit("predict", tmp_path / "m.pt", image, "--json"))
    assert [one.code for one in said] == [0, 0] and said[0].out == said[1].out
    known = ResNet18_Weights.DEFAULT.meta["categories"]
    assert {row["class"] for row in json.loads(said[0].out)["predictions"]} <= set(known)
    done = dlkit("export", tmp_path / "w.pth", *named, "--format", "safetensors", "-o", tmp_path / "w.safetensors")
    found = load_file(tmp_path / "w.safetensors")
    assert done.code == 0 and all(torch.equal(found[name], tensor) for name, tensor in state.items())


def test_weights_of_ones_own_class_are_exported(dlkit, tmp_path):
    (tmp_path / "net.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Sequential):\n"
        "    def __init__(self, num_classes):\n"
        "        super().__init__(nn.Flatten(), nn.Linear(64, num_classes))\n"
    )
    (tmp_path / "cfg.yaml").write_text(
        "data: {name: fake, num_samples: 20, shape: [1, 8, 8], num_classes: 4}\nmodel: mlp\n"
    )
    torch.save({"1.weight": torch.rand(4, 64), "1.bias": torch.rand(4)}, tmp_path / "w.pth")
    named = ("--model", f"{tmp_path / 'net.py'}:Net", "--format", "state-dict", "-o", tmp_path / "o.pth")
    assert dlkit("export", tmp_path / "w.pth", *named, "--data", tmp_path / "cfg.yaml").code == 0
    refused = dlkit("export", tmp_path / "w.pth", "--format", "state-dict", "-o", tmp_path / "p.pth")
    assert refused.code == 4 and "--arch" in refused.err


def test_data_beside_a_model_file_mean_nothing_here(dlkit, image, tmp_path):
    torch.save(resnet18(num_classes=3).state_dict(), tmp_path / "w.pth")
    assert dlkit("convert", tmp_path / "w.pth", tmp_path / "m.pt", "--arch", "resnet18").code == 0
    for command in (
        ("predict", tmp_path / "m.pt", image),
        ("export", tmp_path / "m.pt", "--format", "timm", "-o", "x"),
    ):
        refused = dlkit(*command, "--data", f"imagefolder:{tmp_path}")
        assert refused.code == 2 and "leave --data out" in refused.err


IMAGES = """
import torch


class Images:
    def __init__(self, train, count=1000):
        self.classes = [f"n{number:08d}" for number in range(count)]

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return torch.zeros(3, 32, 32), index
"""


def test_folders_of_imagenet_go_with_its_names(dlkit, write_config, tmp_path):
    torch.save(resnet18().state_dict(), tmp_path / "w.pth")
    assert dlkit("convert", tmp_path / "w.pth", tmp_path / "m.pt", "--arch", "resnet18", "--image-size", "32").code == 0
    (tmp_path / "ds.py").write_text(IMAGES)
    config = write_config("data: {name: './ds.py:Images', val: test}\nmodel: resnet18\n")
    done = dlkit("eval", tmp_path / "m.pt", "--data", config, "--json")
    assert done.code == 0 and json.loads(done.out)["classes"][0] == "tench", done.err
    config.write_text(config.read_text().replace("Images'", "Images', count: 10"))
    refused = dlkit("eval", tmp_path / "m.pt", "--data", config)
    assert refused.code == 3 and "class 'n00000000' is unknown to the model" in refused.err


def test_a_unet_becomes_a_model_of_maps(dlkit, tmp_path):
    torch.save(unet(3, 4, input_size=(3, 32, 32)).state_dict(), tmp_path / "w.pth")
    done = dlkit("convert", tmp_path / "w.pth", tmp_path / "new.pt", "--arch", "unet", "--image-size", 32)
    assert done.code == 0, done.err
    assert read_model_file(tmp_path / "new.pt").spec.info.task == "segmentation"
    Image.new("RGB", (50, 40)).save(tmp_path / "photo.png")
    assert dlkit("predict", tmp_path / "new.pt", tmp_path / "photo.png", "--masks", tmp_path / "masks").code == 0
    with Image.open(tmp_path / "masks" / "photo.png") as mask:
        assert mask.size == (50, 40)
