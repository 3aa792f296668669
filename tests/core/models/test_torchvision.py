import copy
from urllib.error import URLError

import pytest
import torch
import torchvision
from torch import nn

from dlkit.config import Model
from dlkit.core.components import ComponentError
from dlkit.core.models import (
    Arch,
    build_model,
    build_on_meta,
    find_first_conv,
    fit_channels,
    output_shape,
    plan_arch,
    pretrained_state_dict,
    torchvision_options,
)
from dlkit.registry import entries

ALL = {name for name, entry in entries("models").items() if not entry.is_ours}
MAPS = set(torchvision.models.list_models(module=torchvision.models.segmentation))  # test_torchvision_maps.py has them
NAMES = sorted(ALL - MAPS)


def side_for(name):
    if name == "inception_v3":
        return 75
    return 28 if name == "vit_h_14" else 224 if name.startswith("maxvit") else 64


def test_all_classifiers_are_here():
    assert set(torchvision.models.list_models(module=torchvision.models)) == set(NAMES)
    assert len(NAMES) >= 80 and ALL >= MAPS


@pytest.mark.parametrize("name", NAMES)
def test_every_classifier_takes_one_channel_and_seven_classes(name):
    size = (1, side_for(name), side_for(name))
    model = build_on_meta(plan_arch(Model(name=name), input_size=size, num_outputs=7))
    assert output_shape(model, size) == (7,)


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "mobilenet_v3_small", "shufflenet_v2_x0_5"])
def test_keys_and_shapes_are_torchvisions(name):
    ours = build_model(plan_arch(Model(name=name), input_size=(3, 64, 64), num_outputs=7))
    theirs = torchvision.models.get_model(name, weights=None, num_classes=7)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    x = torch.randn(2, 3, 64, 64)
    assert torch.equal(ours.eval()(x), theirs.eval()(x))


@pytest.mark.parametrize("name", ["mnasnet0_5", "densenet121", "inception_v3", "googlenet"])
def test_tensors_without_versions_are_taken(name):
    """Model files and checkpoints hold plain mappings."""
    first, second = (build_model(Arch("torchvision", name, {"num_classes": 3, "in_channels": 1})) for _ in range(2))
    second.load_state_dict(dict(first.state_dict()))
    copied = copy.deepcopy(second)
    copied.load_state_dict(dict(first.state_dict()), strict=True)
    assert all(torch.equal(tensor, first.state_dict()[key]) for key, tensor in copied.state_dict().items())


def test_three_channels_change_nothing():
    torch.manual_seed(0)
    ours = build_model(plan_arch(Model(name="resnet18"), input_size=(3, 64, 64), num_outputs=7)).state_dict()
    torch.manual_seed(0)
    theirs = torchvision.models.resnet18(num_classes=7).state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


@pytest.mark.parametrize("channels", [1, 4])
def test_another_number_of_channels_keeps_the_rest(channels):
    model = build_model(plan_arch(Model(name="resnet18"), input_size=(channels, 64, 64), num_outputs=7))
    theirs = torchvision.models.resnet18(num_classes=7)
    differing = [key for key, value in model.state_dict().items() if value.shape != theirs.state_dict()[key].shape]
    assert differing == ["conv1.weight"]
    name, conv = find_first_conv(model)
    assert (name, conv.in_channels, conv.stride, conv.padding, conv.bias) == ("conv1", channels, (2, 2), (3, 3), None)
    # the output's variance stays: 64 * 49 * channels draws pin the deviation to a few percent
    expected = theirs.conv1.weight.std() * (3 / channels) ** 0.5
    assert (conv.weight.std() / expected).item() == pytest.approx(1, abs=0.05)


def test_summed_weights_see_a_grey_image_as_before():
    weight = torch.randn(4, 3, 3, 3, dtype=torch.float64)
    grey = torch.randn(2, 1, 8, 8, dtype=torch.float64)
    expected = nn.functional.conv2d(grey.expand(-1, 3, -1, -1), weight)
    for channels in (1, 2, 3, 6, 9):
        fitted = fit_channels(weight, channels)
        assert fitted.shape == (4, channels, 3, 3)
        if channels % 3 == 0 or channels == 1:
            torch.testing.assert_close(nn.functional.conv2d(grey.expand(-1, channels, -1, -1), fitted), expected)


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_auxiliary_heads_are_off_and_training_gives_one_tensor(name):
    arch = plan_arch(Model(name=name), input_size=(3, 96, 96), num_outputs=5)
    model = build_on_meta(arch).train()
    assert isinstance(model(torch.empty(2, 3, 96, 96, device="meta")), torch.Tensor)
    assert not any("aux" in key.lower() for key in model.state_dict())


@pytest.mark.parametrize(
    ("name", "size", "words"),
    [
        ("vit_b_16", (3, 50, 50), "multiple of 16, gets 50x50: set data.image_size"),
        ("vit_b_16", (3, 32, 64), "square"),
        ("maxvit_t", (3, 64, 64), "multiples of 224"),
        ("inception_v3", (3, 32, 32), "75x75 or larger"),
    ],
)
def test_sizes_that_do_not_fit(name, size, words):
    with pytest.raises(ComponentError, match=words):
        plan_arch(Model(name=name), input_size=size, num_outputs=5)


def test_options_reach_the_class():
    arch = plan_arch(
        Model(name="mobilenet_v3_small", width_mult=0.5, dropout=0.3), input_size=(3, 64, 64), num_outputs=5
    )
    model = build_on_meta(arch)
    assert model.classifier[2].p == 0.3
    assert find_first_conv(model)[1].out_channels == 8


@pytest.mark.parametrize("name", NAMES)
def test_no_listed_option_is_an_object_or_decided(name):
    assert not {"weights", "progress", "aux_logits", "norm_layer", "block", "layers"} & set(torchvision_options(name))


@pytest.mark.parametrize(("weights", "expected"), [("DEFAULT", True), ("./w.pth", None), (None, None)])
def test_published_weights_of_googlenet_bring_their_input_transform(weights, expected):
    arch = plan_arch(Model(name="googlenet", weights=weights), input_size=(3, 64, 64), num_outputs=5)
    assert arch.options.get("transform_input") is expected
    grey = plan_arch(Model(name="googlenet", weights=weights), input_size=(1, 64, 64), num_outputs=5)
    assert "transform_input" not in grey.options


def test_weights_that_cannot_be_fetched_say_where_they_are(monkeypatch):
    def refuse(*_, **__):
        raise URLError("Name or service not known")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", refuse)
    with pytest.raises(ComponentError, match=r"cannot be fetched: Name or service not known.*https://.*resnet18"):
        pretrained_state_dict("resnet18", "DEFAULT")
