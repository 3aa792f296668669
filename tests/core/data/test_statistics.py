import pytest
import torch

from dlkit.core.data import DataInfo, measure_statistics, normalize_inputs


def random_bytes(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("chunk", [1, 7, 50])
def test_byte_images_are_measured_per_channel(chunk: int) -> None:
    images = random_bytes(50, 3, 6, 5)
    images[:, 1] //= 4
    mean, std = measure_statistics(images.split(chunk), is_image=True)
    scaled = images.double() / 255
    torch.testing.assert_close(torch.tensor(mean, dtype=torch.float64), scaled.mean((0, 2, 3)), rtol=1e-14, atol=0)
    expected = scaled.std((0, 2, 3), correction=0)
    torch.testing.assert_close(torch.tensor(std, dtype=torch.float64), expected, rtol=1e-12, atol=0)
    assert (mean, std) == measure_statistics([images], is_image=True)


@pytest.mark.parametrize("shape", [(40, 3), (40, 5, 3)])
def test_features_are_measured_per_feature_without_losing_digits(shape: tuple[int, ...]) -> None:
    values = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    values = values * torch.tensor([1.0, 1e-3, 1e6]) + torch.tensor([0.0, 1e6, -1e9])
    mean, std = measure_statistics(values.split(9), is_image=False)
    flat = values.reshape(-1, 3)
    torch.testing.assert_close(torch.tensor(mean, dtype=torch.float64), flat.mean(0), rtol=1e-12, atol=1e-12)
    expected = flat.std(0, correction=0)
    torch.testing.assert_close(torch.tensor(std, dtype=torch.float64), expected, rtol=1e-6, atol=0)


def test_float_images_are_taken_as_scaled() -> None:
    images = torch.rand(10, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    mean, std = measure_statistics(images.split(3), is_image=True)
    torch.testing.assert_close(torch.tensor(mean), images.mean((0, 2, 3)))
    torch.testing.assert_close(torch.tensor(std), images.std((0, 2, 3), correction=0))


def test_what_never_varies_becomes_zero() -> None:
    images = torch.full((4, 2, 3, 3), 128, dtype=torch.uint8)
    images[0, 1, 0, 0] = 129
    mean, std = measure_statistics([images], is_image=True)
    assert std[0] == 1.0 and 0 < std[1] < 0.01
    info = DataInfo("classification", "image", (2, 3, 3), 2, None, mean, std)
    assert normalize_inputs(images, info)[:, 0].abs().max() < 1e-6
    years = torch.full((4, 1), 2024.0, dtype=torch.float64)
    assert measure_statistics([years], is_image=False) == ((2024.0,), (1.0,))


def test_normalized_training_inputs_have_mean_0_and_deviation_1() -> None:
    images = random_bytes(60, 3, 8, 8)
    mean, std = measure_statistics([images], is_image=True)
    info = DataInfo("classification", "image", (3, 8, 8), 2, None, mean, std)
    inputs = normalize_inputs(images, info)
    assert inputs.dtype == torch.float32
    torch.testing.assert_close(inputs.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(inputs.std((0, 2, 3), correction=0), torch.ones(3))
    reference = (images.double() / 255 - torch.tensor(mean).view(-1, 1, 1)) / torch.tensor(std).view(-1, 1, 1)
    torch.testing.assert_close(inputs.double(), reference, atol=1e-6, rtol=0)


def test_features_keep_their_digits_until_the_mean_is_off() -> None:
    seconds = torch.tensor([[1.7e9], [1.7e9 + 1], [1.7e9 + 2]], dtype=torch.float64)
    mean, std = measure_statistics([seconds], is_image=False)
    info = DataInfo("regression", "features", (1,), 1, None, mean, std)
    expected = torch.tensor([[-1.0], [0.0], [1.0]]) * (3 / 2) ** 0.5
    torch.testing.assert_close(normalize_inputs(seconds, info), expected)


def test_without_statistics_bytes_are_scaled_and_floats_kept() -> None:
    info = DataInfo("classification", "image", (3, 4, 4), 2, None, None, None)
    images = random_bytes(5, 3, 4, 4)
    torch.testing.assert_close(normalize_inputs(images, info), images / 255)
    floats = torch.rand(5, 3, 4, 4)
    assert torch.equal(normalize_inputs(floats, info), floats)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_inputs_are_not_changed_in_place(dtype: torch.dtype) -> None:
    images = random_bytes(5, 3, 4, 4).to(dtype)
    kept = images.clone()
    for mean, std in ((None, None), ((0.5,) * 3, (0.25,) * 3)):
        normalize_inputs(images, DataInfo("classification", "image", (3, 4, 4), 2, None, mean, std))
        assert torch.equal(images, kept)
