"""Weights from elsewhere beside the name of their network, and what is said of those that do not fit."""

import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from torchvision.models import mobilenet_v2, resnet18
from torchvision.models.segmentation import lraspp_mobilenet_v3_large

from dlkit.config import load_data_option, load_mapping
from dlkit.core.data import DataInfo, ImageFit
from dlkit.core.evaluation import EvalRequest, predict_maps, run_evaluation
from dlkit.core.modelfile import ModelSpec, build_from_file, save_model_file
from dlkit.core.models import Arch, guess_classifiers, mlp
from dlkit.core.opening import IMAGENET_MEAN, IMAGENET_STD, Naming, open_model
from dlkit.errors import ConfigError, DataError, FileRefused, UsageError

NET = """
from torch import nn


class Net(nn.Module):
    def __init__(self, num_classes, in_channels=1, width=4):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, width, 3)
        self.fc = nn.Linear(width, num_classes)

    def forward(self, x):
        return self.fc(self.conv(x).mean((2, 3)))
"""


@pytest.fixture
def images(tmp_path):
    for name in ("cats", "dogs", "owls"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for index in range(4):
            Image.new("RGB", (40, 30), (index * 20, 30, 200)).save(tmp_path / "images" / name / f"{index}.png")
    return load_data_option(f"imagefolder:{tmp_path / 'images'}")


@pytest.fixture
def weights(tmp_path):
    network = resnet18(num_classes=3).eval()
    torch.save(
        {"state_dict": {f"module.{k}": v for k, v in network.state_dict().items()}, "epoch": 3}, tmp_path / "w.pth"
    )
    return tmp_path / "w.pth", network


def test_weights_of_a_network_of_timm_are_prepared_for_as_timm_says(tmp_path, images):
    network = timm.create_model("test_vit", num_classes=3).eval()
    torch.save({"state_dict_ema": network.state_dict()}, tmp_path / "w.pth")
    file = open_model(tmp_path / "w.pth", Naming(arch="timm/test_vit.r160_in1k"), data=images)
    info = file.spec.info
    assert (info.input_size, info.classes) == ((3, 160, 160), ("cats", "dogs", "owls"))
    assert info.mean == info.std == (0.5, 0.5, 0.5)
    assert info.fit == ImageFit((168, 168), "bicubic", "center")
    inputs = torch.randn(2, 3, 160, 160)
    assert torch.equal(build_from_file(file)(inputs), network(inputs))
    alone = open_model(tmp_path / "w.pth", Naming(arch="timm/test_vit.r160_in1k"))
    assert (alone.spec.info.num_outputs, alone.spec.info.classes) == (3, None)
    with pytest.raises(UsageError, match="Did you mean 'test_vit"):
        open_model(tmp_path / "w.pth", Naming(arch="timm/test_vitt"), data=images)


def test_torchvision_weights_with_a_folder(weights, images):
    path, network = weights
    file = open_model(path, Naming(arch="torchvision:resnet18"), data=images)
    info = file.spec.info
    assert (info.input_size, info.num_outputs, info.classes) == ((3, 224, 224), 3, ("cats", "dogs", "owls"))
    assert (info.mean, info.std) == (IMAGENET_MEAN, IMAGENET_STD)
    inputs = torch.randn(2, 3, 64, 64)
    assert torch.equal(build_from_file(file)(inputs), network(inputs))
    assert file.spec.config["model"]["name"] == "resnet18" and file.spec.data["name"] == "imagefolder"


def test_sorted_names_and_other_channels(tmp_path):
    """safetensors sorts its names, so that the head is not the last tensor; channels are told by the first convolution."""
    network = mobilenet_v2(num_classes=7)
    network.features[0][0] = nn.Conv2d(1, 32, 3, stride=2, padding=1, bias=False)
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    info = open_model(tmp_path / "w.safetensors", Naming(arch="mobilenet_v2", image_size=96)).spec.info
    assert (info.input_size, info.num_outputs, info.classes, info.mean) == ((1, 96, 96), 7, None, None)


def test_normalization_of_the_config_counts(weights, images, tmp_path):
    data = load_mapping({
        "data": {**images.values["data"], "image_size": 64, "normalize": {"mean": [0.5], "std": [0.25]}}, "model": "mlp"
    })  # fmt: skip
    info = open_model(weights[0], Naming(arch="resnet18"), data=data).spec.info
    assert (info.input_size, info.mean, info.std) == ((3, 64, 64), (0.5,) * 3, (0.25,) * 3)
    measured = load_mapping({"data": {**images.values["data"], "normalize": "data"}, "model": "mlp"})
    with pytest.raises(ConfigError, match=r"data\.normalize: these weights were trained with statistics of their own"):
        open_model(weights[0], Naming(arch="resnet18"), data=measured)


def test_a_class_of_ones_own(tmp_path):
    (tmp_path / "net.py").write_text(NET)
    target = f"{tmp_path / 'net.py'}:Net"
    data = load_mapping({"data": "digits", "model": {"name": target, "width": 6}})
    namespace: dict = {}
    exec(NET, namespace)
    network = namespace["Net"](10, 1, 6).eval()
    torch.save(network.state_dict(), tmp_path / "w.pt")
    file = open_model(tmp_path / "w.pt", Naming(model=target), data=data)
    assert file.spec.info.input_size == (1, 8, 8) and file.spec.info.mean is not None
    inputs = torch.randn(2, 1, 8, 8)
    assert torch.equal(build_from_file(file, model=target)(inputs), network(inputs))
    with pytest.raises(UsageError, match="name data"):
        open_model(tmp_path / "w.pt", Naming(model=target))
    with pytest.raises(FileRefused, match=r"conv.weight +4x1x3x3 +6x1x3x3"):
        open_model(tmp_path / "w.pt", Naming(model=target), data=load_mapping({"data": "digits", "model": "mlp"}))


def test_another_network_is_told_in_a_table(weights):
    with pytest.raises(FileRefused, match="does not fit ResNet") as refused:
        open_model(weights[0], Naming(arch="resnet50"))
    assert "missing" in str(refused.value) and "layer1.0.conv3.weight" in str(refused.value)


def test_weights_alone_ask_for_their_network_and_it_is_guessed(weights, tmp_path):
    with pytest.raises(FileRefused, match="fit resnet18: name it with --arch torchvision:resnet18"):
        open_model(weights[0])
    torch.save({"a": torch.zeros(3, 2)}, tmp_path / "other.pt")
    with pytest.raises(FileRefused, match="--model"):
        open_model(tmp_path / "other.pt")
    assert guess_classifiers(mobilenet_v2(num_classes=5).state_dict()) == ["mobilenet_v2"]


def test_a_model_file_needs_no_second_description(tmp_path):
    arch = Arch("dlkit", "mlp", {"input_size": [4], "num_classes": 2})
    save_model_file(
        tmp_path / "m.pt",
        ModelSpec(arch, DataInfo("classification", "features", (4,), 2, None, None, None)),
        mlp([4], 2).state_dict(),
    )
    assert open_model(tmp_path / "m.pt").spec.arch == arch
    with pytest.raises(UsageError, match="leave --num-classes out"):
        open_model(tmp_path / "m.pt", Naming(num_classes=3))


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"arch": "resnet18", "model": "./net.py:Net"}, UsageError, "give one of them"),
        ({"arch": "resnet81"}, UsageError, "no model 'resnet81'"),
        ({"arch": "./net.py:Net"}, UsageError, "named with --model"),
        ({"arch": "resnet18", "num_classes": 5}, FileRefused, "fc.weight"),
        ({"arch": "small_cnn"}, UsageError, "name data"),
        ({"arch": "small_cnn", "image_size": 8}, UsageError, "--image-size"),
    ],
)
def test_descriptions_that_do_not_fit(weights, options, error, words):
    with pytest.raises(error, match=words):
        open_model(weights[0], Naming(**options))


def test_data_of_other_classes(weights, images, tmp_path):
    network = resnet18(num_classes=5)
    torch.save(network.state_dict(), tmp_path / "five.pth")
    with pytest.raises(DataError, match="tell 5 classes apart.*holds 3"):
        open_model(tmp_path / "five.pth", Naming(arch="resnet18"), data=images)


def test_weights_of_a_network_for_segmentation_say_a_class_for_each_pixel(tmp_path):
    torch.manual_seed(0)
    network = lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=4).eval()
    torch.save(network.state_dict(), tmp_path / "w.pth")
    file = open_model(tmp_path / "w.pth", Naming(arch="torchvision:lraspp_mobilenet_v3_large"))
    info = file.spec.info
    assert (info.task, info.num_outputs, info.input_size) == ("segmentation", 4, (3, 520, 520))
    Image.effect_noise((70, 50), 90).convert("RGB").save(tmp_path / "photo.png")
    found = next(predict_maps(file, [tmp_path / "photo.png"]))
    assert found.mask.shape == (50, 70) and sum(share for _, share in found.answer.pixels) == pytest.approx(1)


def test_judging_such_weights_takes_masks(tmp_path):
    for folder, image in (("images", Image.new("RGB", (40, 30))), ("masks", Image.new("L", (40, 30), 2))):
        (tmp_path / folder).mkdir()
        image.save(tmp_path / folder / "a.png")
    network = lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=3).eval()
    torch.save(network.state_dict(), tmp_path / "w.pth")
    data = {"name": "maskfolder", "path": str(tmp_path), "classes": ["a", "b", "c"], "val": "none"}
    loaded = load_mapping({"data": data, "model": "lraspp_mobilenet_v3_large"})
    file = open_model(tmp_path / "w.pth", Naming(arch="lraspp_mobilenet_v3_large"), data=loaded)
    result = run_evaluation(file, EvalRequest(data=loaded))
    assert file.spec.info.classes == ("a", "b", "c") and sum(result.confusion[2]) == 40 * 30
