"""Pictures follow published weights through the commands. Fetching is replaced by files that are here."""

import json

import pytest
import timm
import torch
import torchvision
import yaml
from PIL import Image
from torchvision.transforms import InterpolationMode, v2

from dlkit import load_model

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture
def config(tmp_path, monkeypatch):
    """A config on pictures of two classes; what would be fetched is made of random weights."""
    generator = torch.Generator().manual_seed(0)
    for name, shade in (("dark", 60), ("light", 190)):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for index in range(8):
            pixels = torch.randint(shade - 50, shade + 50, (12, 9, 3), generator=generator, dtype=torch.uint8).numpy()
            Image.fromarray(pixels).resize((90, 120)).save(tmp_path / "pictures" / name / f"{index}.png")
    torch.manual_seed(1)
    weights = timm.create_model("test_vit").state_dict()
    monkeypatch.setattr(timm.models._builder, "load_state_dict_from_hf", lambda *args, **kwargs: dict(weights))
    monkeypatch.setattr(
        torchvision.models._api.WeightsEnum,
        "get_state_dict",
        lambda self, *args, **kwargs: torchvision.models.squeezenet1_1().state_dict(),
    )

    def write(model, **data):
        values = {
            "data": {"name": "imagefolder", "path": str(tmp_path / "pictures"), "val": 0.25, "batch_size": 4, **data},
            "model": model,
            "train": {"epochs": 1, "max_steps": 1},
            "log": {"tensorboard": False},
        }
        (tmp_path / "run.yaml").write_text(yaml.safe_dump(values))
        return tmp_path / "run.yaml"

    return write


TIMM = {"name": "timm/test_vit.r160_in1k", "weights": "DEFAULT"}


def test_what_is_taken_is_told_and_can_be_read(dlkit, config):
    shown = dlkit("train", config({"name": "squeezenet1_1", "weights": "DEFAULT"}), "--print-config")
    assert shown.code == 0, shown.err
    data = yaml.safe_load(shown.out)["data"]
    assert data["image_size"] == [224, 224] and data["normalize"] == {"mean": list(MEAN), "std": list(STD)}
    assert data["fitting"] == {"resize_size": [256, 256], "interpolation": "bilinear", "crop_mode": "center"}
    assert "pictures are prepared as those of SqueezeNet1_1_Weights.IMAGENET1K_V1 were" in " ".join(shown.err.split())


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (
            {"image_size": 80},
            "fitting bicubic at 84x84, center; normalize mean 0.500 0.500 0.500, std 0.500 0.500 0.500",
        ),
        ({"fitting": {"resize_size": 180}, "normalize": "none"}, "were: image_size 160x160"),
        ({"image_size": 80, "fitting": {"resize_size": 80}, "normalize": "data"}, ""),
        (
            {"name": "digits", "path": None},
            "image_size 160x160; fitting bicubic at 168x168, center; normalize mean 0.500, std 0.500",
        ),
    ],
)
def test_what_the_config_says_stays(dlkit, config, data, words):
    path = config(TIMM, **data)
    if data.get("name"):
        text = yaml.safe_load(path.read_text())
        del text["data"]["path"]
        path.write_text(yaml.safe_dump(text))
    shown = dlkit("train", path, "--print-config")
    assert shown.code == 0, shown.err
    told = " ".join(shown.err.split())
    assert words in told and ("pictures are prepared" in told) == bool(words)


@pytest.mark.parametrize("name", ["timm/test_vit.r160_in1k", "squeezenet1_1"])
def test_a_file_of_ones_own_says_nothing_whatever_the_name(dlkit, config, tmp_path, name):
    network = timm.create_model("test_vit") if name.startswith("timm/") else torchvision.models.squeezenet1_1()
    torch.save(network.state_dict(), tmp_path / "own.pth")
    shown = [
        dlkit("train", config({"name": name, **more}, image_size=64), "--print-config")
        for more in ({}, {"weights": str(tmp_path / "own.pth")})
    ]
    assert [one.code for one in shown] == [0, 0], shown[1].err
    plain, with_weights = (yaml.safe_load(one.out)["data"] for one in shown)
    assert with_weights == plain and plain["normalize"]["mean"] != list(MEAN)
    assert "pictures are prepared" not in shown[1].err


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"normalize": {"mean": [0.4], "std": [0.3]}}, "normalize mean 0.400 0.400 0.400, std 0.300 0.300 0.300"),
        ({"normalize": "none", "fitting": {"resize_size": 40}}, "fitting bilinear at 40x40, center; normalize none"),
    ],
)
def test_a_model_file_says_how_its_pictures_were_prepared(dlkit, config, tmp_path, data, words):
    made = dlkit("train", config("small_cnn", image_size=32, **data), "--out", tmp_path / "run", "--json")
    assert made.code == 0, made.err
    shown = dlkit(
        "train", config({"name": "small_cnn", "weights": str(tmp_path / "run" / "model.pt")}), "--print-config"
    )
    assert shown.code == 0, shown.err
    told = " ".join(shown.err.split())
    assert "model.pt were: image_size 32x32" in told and words in told
    before, after = (
        yaml.safe_load(text)["data"] for text in ((tmp_path / "run" / "config.resolved.yaml").read_text(), shown.out)
    )
    assert after["normalize"] == before["normalize"] and after["fitting"] == before["fitting"]


def test_eval_and_predict_prepare_pictures_alike(dlkit, config, tmp_path):
    path = config(TIMM)
    done = dlkit("train", path, "--out", tmp_path / "run", "--json")
    assert done.code == 0, done.err
    model, picture = tmp_path / "run" / "model.pt", tmp_path / "pictures" / "dark" / "3.png"
    figures = [
        json.loads(dlkit("eval", model, "--split", "val", "--json", *more).out)["metrics"]["loss"]
        for more in ((), ("--data", path))
    ]
    assert figures[0] == figures[1]
    network = load_model(model)
    prepare = v2.Compose(
        [
            v2.PILToTensor(),
            v2.Resize(168, interpolation=InterpolationMode.BICUBIC, antialias=True),
            v2.CenterCrop(160),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(network.dlkit_spec.info.mean, network.dlkit_spec.info.std),
        ]
    )
    assert network.dlkit_spec.info.mean == network.dlkit_spec.info.std == (0.5, 0.5, 0.5)
    with torch.no_grad():
        wanted = network(prepare(Image.open(picture))[None]).softmax(1)[0].sort(descending=True).values
    told = json.loads(dlkit("predict", model, picture, "--json").out.splitlines()[0])
    found = [entry["probability"] for entry in told["predictions"]]
    assert found == pytest.approx(wanted.tolist(), abs=1e-6)
    resumed = dlkit("train", tmp_path / "run" / "config.resolved.yaml", "--out", tmp_path / "again", "--json")
    assert resumed.code == 0 and "pictures are prepared" not in resumed.err
    again = load_model(tmp_path / "again" / "model.pt").state_dict()
    assert all(torch.equal(value, again[name]) for name, value in network.state_dict().items())
    refused = dlkit("export", model, "--format", "onnx", "--resize", "-o", tmp_path / "model.onnx")
    assert refused.code == 2 and "bicubic" in refused.err
