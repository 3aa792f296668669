"""Folders for timm of its own networks: loaded there, they give the same outputs."""

import json

import pytest
import timm
import torch

from dlkit.core.data import DataInfo, ImageFit
from dlkit.core.export import export_model
from dlkit.core.modelfile import ModelSpec, read_model_file, save_model_file
from dlkit.core.models import Arch, build_model


@pytest.mark.parametrize(
    ("name", "options", "channels"),
    [
        ("test_resnet.r160_in1k", {}, 1),
        ("test_resnet", {"drop_rate": 0.2}, 3),
        ("test_vit.r160_in1k", {"img_size": [32, 32]}, 3),
    ],
)
def test_timm_loads_its_own_networks(tmp_path, name, options, channels):
    arch = Arch("timm", name, {"num_classes": 5, "in_channels": channels, **options})
    info = DataInfo(
        *("classification", "image", (channels, 32, 32), 5, tuple("abcde"), (0.5,) * channels, (0.25,) * channels),
        fit=ImageFit((40, 40), "bicubic"),
    )
    network = build_model(arch).eval()
    save_model_file(tmp_path / "model.pt", ModelSpec(arch, info), network.state_dict())
    export_model(read_model_file(tmp_path / "model.pt"), "timm", tmp_path / "folder")
    there = timm.create_model(f"local-dir:{tmp_path / 'folder'}", pretrained=True).eval()
    x = torch.randn(2, channels, 32, 32)
    assert torch.equal(there(x), network(x))
    config = json.loads((tmp_path / "folder" / "config.json").read_text())["pretrained_cfg"]
    assert (config["crop_pct"], config["interpolation"], config["crop_mode"]) == (0.8, "bicubic", "center")
    assert timm.data.resolve_model_data_config(there)["crop_pct"] == 0.8
