"""How pictures are brought to a size: as published weights ask for, as the config says, and as ever where nothing is said."""

import pytest
import torch
import torchvision
from PIL import Image
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms import functional as TF

from dlkit.core.data import DataInfo, ImageFit, build_data, fit_image, prepare_image
from dlkit.errors import ConfigError, DataError

CPU = torch.device("cpu")
SIZES = [(3, 300, 411), (3, 200, 101), (1, 64, 64), (3, 17, 400), (3, 224, 224), (3, 256, 256)]


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_it_is_what_torchvision_does_to_tensors(size, mode):
    image = torch.randint(0, 256, size, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for pixels in (image, image.float() / 255):
        wanted = v2.functional.resize(pixels, [256], interpolation=InterpolationMode(mode), antialias=True)
        wanted = v2.functional.center_crop(wanted, [224])
        assert torch.equal(fit_image(pixels, (224, 224), ImageFit((256, 256), mode)), wanted)
        squashed = v2.functional.resize(pixels, [256, 240], interpolation=InterpolationMode(mode), antialias=True)
        wanted = v2.functional.center_crop(squashed, [224, 224])
        assert torch.equal(fit_image(pixels, (224, 224), ImageFit((256, 240), mode, "squash")), wanted)


@pytest.mark.parametrize("weights", ["ResNet50_Weights.IMAGENET1K_V1", "EfficientNet_B0_Weights.DEFAULT"])
def test_pictures_are_those_of_torchvisions_preset(weights):
    preset = torchvision.models.get_weight(weights).transforms()
    pixels = torch.randint(0, 256, (3, 280, 333), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    pixels = TF.resize(
        TF.resize(pixels, [70]), [280]
    )  # smooth, as photographs are: Pillow rounds between its two passes
    wanted = preset(Image.fromarray(pixels.permute(1, 2, 0).numpy()))
    fit = ImageFit((preset.resize_size[0],) * 2, preset.interpolation.value)
    size = (3, preset.crop_size[0], preset.crop_size[0])
    info = DataInfo("classification", "image", size, 2, None, tuple(preset.mean), tuple(preset.std), fit=fit)
    assert torch.allclose(prepare_image(pixels, info), wanted, atol=2.01 / 255 / min(preset.std))


def test_another_size_keeps_the_share_that_is_cut_off():
    assert ImageFit((256, 256)).at((160, 160), (224, 224)).resize_size == (182, 182)
    assert ImageFit((232, 232), "bicubic").at((224, 224), (224, 224)) == ImageFit((232, 232), "bicubic")


def test_a_description_keeps_it_and_old_ones_have_none():
    plain = DataInfo("classification", "image", (3, 8, 8), 2, None, None, None)
    fitted = DataInfo(
        "classification", "image", (3, 8, 8), 2, None, None, None, fit=ImageFit((9, 10), "bicubic", "squash")
    )
    assert DataInfo.from_dict(fitted.to_dict()) == fitted
    old = {key: value for key, value in plain.to_dict().items() if key != "fit"}
    assert DataInfo.from_dict(old) == plain


@pytest.mark.parametrize(
    "fit",
    [
        {"resize_size": [7, 8], "interpolation": "bilinear", "crop_mode": "center"},
        {"resize_size": [2**20, 2**20], "interpolation": "bilinear", "crop_mode": "center"},
        {"resize_size": [8], "interpolation": "bilinear", "crop_mode": "center"},
        {"resize_size": [8, 8, 8], "interpolation": "bilinear", "crop_mode": "center"},
        {"resize_size": [8, 8], "interpolation": "lanczos", "crop_mode": "center"},
        {"resize_size": [8, 8], "interpolation": "bilinear", "crop_mode": "pad"},
        {"resize_size": [8, 8], "interpolation": "bilinear"},
        [8, 8],
        3,
    ],
)
def test_a_damaged_description_is_refused(fit):
    plain = DataInfo("classification", "image", (3, 8, 8), 2, None, None, None)
    with pytest.raises(DataError, match="data info"):
        DataInfo.from_dict({**plain.to_dict(), "fit": fit})


def test_the_config_may_say_it(load):
    section = {"name": "digits", "image_size": 12, "fitting": {"resize_size": [14, 13], "interpolation": "bicubic"}}
    data = build_data(load(section), device=CPU, seed=0)
    assert data.info.fit == ImageFit((14, 13), "bicubic") and data.info.input_size == (1, 12, 12)
    plain = build_data(load({"name": "digits"}), device=CPU, seed=0)
    raw = plain.train.first_batch()
    fitted = data.train.first_batch()
    pixels = (raw.inputs * plain.info.std[0] + plain.info.mean[0]).mul(255).round().to(torch.uint8)
    wanted = fit_image(pixels, (12, 12), data.info.fit).float() / 255
    assert torch.allclose(fitted.inputs, (wanted - data.info.mean[0]) / data.info.std[0], atol=1e-5)
    assert build_data(load({"name": "digits", "normalize": "data"}), device=CPU, seed=0).info == plain.info


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"name": "digits", "fitting": {"resize_size": 9}}, "set data.image_size"),
        ({"name": "digits", "image_size": 12, "fitting": {"resize_size": 10}}, "smaller than image_size"),
    ],
)
def test_what_does_not_go_together(load, section, words):
    with pytest.raises(ConfigError, match=words):
        build_data(load(section), device=CPU, seed=0)
