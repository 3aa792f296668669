"""Batched transforms against torchvision's v2 objects, which are called once per sample on tensors."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchvision.transforms.v2 as v2
import torchvision.transforms.v2.functional as F
from torch import Tensor

from dlkit.core.data import Draws
from dlkit.core.data.augment import (
    DETERMINISTIC,
    RANDOM,
    AlternatingFlip,
    batched_version,
    flip_where,
    plain_version,
    take_windows,
)
from dlkit.core.random_state import seeded_generators

Same = Callable[[Tensor, Tensor], bool]


def draws(count: int, *, epoch: int = 0, seed: int = 0) -> Draws:
    return Draws(seed, epoch, torch.arange(count))


def one_by_one(transform: Any, image: Tensor, count: int) -> Tensor:
    with seeded_generators(1):
        return torch.stack([transform(image) for _ in range(count)])


def in_a_batch(transform: Any, image: Tensor, count: int) -> Tensor:
    batched = batched_version(transform)
    assert batched is not None
    return batched(image.expand(count, *image.shape), draws(count))


def numbered(*shape: int) -> Tensor:
    """An image whose pixels all differ, none of them 0, so that each result tells how it was made."""
    count = int(torch.tensor(shape).prod())
    assert count < 255
    return torch.arange(1, count + 1, dtype=torch.uint8).view(shape)


def fingerprints(images: Tensor) -> Tensor:
    """One whole number per image."""
    weights = torch.arange(1, images[0].numel() + 1) ** 3
    return (images.flatten(1).long() * weights).sum(1)


CASES = {
    "crop": v2.RandomCrop(6),
    "crop to another shape": v2.RandomCrop((3, 7)),
    "crop with padding": v2.RandomCrop(8, padding=2),
    "crop with uneven padding": v2.RandomCrop((7, 8), padding=[1, 0, 2, 3], fill=9),
    "crop of reflected padding": v2.RandomCrop(8, padding=3, padding_mode="reflect"),
    "crop of edge padding": v2.RandomCrop(8, padding=2, padding_mode="edge"),
    "crop of symmetric padding": v2.RandomCrop(8, padding=2, padding_mode="symmetric"),
    "crop padded only if needed": v2.RandomCrop((9, 6), pad_if_needed=True),
    "horizontal flip": v2.RandomHorizontalFlip(0.3),
    "vertical flip": v2.RandomVerticalFlip(0.8),
}


@pytest.mark.parametrize("name", CASES)
def test_crops_and_flips_come_up_as_often_as_in_torchvision(name: str, same_distribution: Same) -> None:
    image = numbered(1, 8, 8)
    ours, theirs = in_a_batch(CASES[name], image, 3000), one_by_one(CASES[name], image, 1500)
    assert ours.shape[1:] == theirs.shape[1:] and ours.dtype == theirs.dtype
    assert set(fingerprints(ours).tolist()) == set(fingerprints(theirs).tolist())
    assert same_distribution(fingerprints(ours), fingerprints(theirs))


def test_the_comparison_notices_a_wrong_probability(same_distribution: Same) -> None:
    image = numbered(1, 8, 8)
    ours = in_a_batch(v2.RandomHorizontalFlip(0.3), image, 3000)
    theirs = one_by_one(v2.RandomHorizontalFlip(0.4), image, 1500)
    assert not same_distribution(fingerprints(ours), fingerprints(theirs))


@pytest.mark.parametrize("channels", [1, 3])
def test_windows_are_slices(channels: int) -> None:
    images = torch.randint(0, 256, (5, channels, 9, 11), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    tops, lefts = torch.tensor([0, 3, 5, 1, 2]), torch.tensor([4, 0, 7, 2, 3])
    windows = take_windows(images, tops, lefts, size=(4, 4))
    for image, top, left, window in zip(images, tops.tolist(), lefts.tolist(), windows, strict=True):
        assert torch.equal(window, image[:, top : top + 4, left : left + 4])
    turned = take_windows(images.transpose(2, 3), lefts, tops, size=(4, 4))
    assert torch.equal(turned, windows.transpose(2, 3))


def test_every_sample_has_a_crop_of_its_own_whatever_the_batch() -> None:
    images = torch.randint(0, 256, (50, 3, 12, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    batched = batched_version(v2.RandomCrop(12, padding=4))
    assert batched is not None
    whole = batched(images, draws(50))
    parts = [batched(images[rows], Draws(0, 0, rows)) for rows in torch.arange(50).split(7)]
    assert torch.equal(torch.cat(parts), whole)
    assert not torch.equal(batched(images, draws(50, epoch=1)), whole)
    assert not torch.equal(batched(images, draws(50, seed=1)), whole)


def test_a_crop_that_cannot_fit_says_so() -> None:
    with pytest.raises(ValueError, match="10x10 is larger than the 8x8 image"):
        in_a_batch(v2.RandomCrop(10), numbered(1, 8, 8), 2)


def test_flip_where_reverses_only_the_masked() -> None:
    images = torch.arange(24).view(4, 1, 2, 3)
    mask = torch.tensor([True, False, False, True])
    flipped = flip_where(images, mask, -1)
    assert torch.equal(flipped[[0, 3]], images[[0, 3]].flip(-1))
    assert torch.equal(flipped[[1, 2]], images[[1, 2]])


def test_alternating_flip_shows_both_sides_in_any_two_epochs() -> None:
    images = numbered(1, 4, 4).expand(400, 1, 4, 4)
    batched = batched_version(AlternatingFlip())
    assert batched is not None
    epochs = [batched(images, draws(400, epoch=epoch)) for epoch in range(4)]
    mirrored = torch.stack([(images != epoch).flatten(1).any(1) for epoch in epochs])
    assert (mirrored[0] ^ mirrored[1]).all()
    assert torch.equal(mirrored[0], mirrored[2]) and torch.equal(mirrored[1], mirrored[3])
    assert 150 < int(mirrored[0].sum()) < 250


@pytest.mark.parametrize(
    "transform", [v2.CenterCrop(5), v2.Pad(2), v2.Resize(6, antialias=True), v2.Grayscale(), v2.RGB()], ids=repr
)
def test_transforms_without_chance_do_to_a_batch_what_they_do_to_each(transform: Any) -> None:
    images = torch.randint(0, 256, (5, 3, 8, 9), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    batched = batched_version(transform)
    assert batched is not None and not batched.is_random
    assert torch.equal(batched(images, draws(5)), torch.stack([transform(image) for image in images]))


PLAIN: list[tuple[str, dict[str, Any]]] = [
    ("RandomCrop", {"size": 6}),
    ("RandomCrop", {"size": [5], "padding": 0}),
    ("RandomCrop", {"size": [3, 7], "padding": [1, 2], "fill": [1, 2.5, 3], "padding_mode": "reflect"}),
    ("RandomCrop", {"size": 8, "padding": [1, 0, 2, 3], "pad_if_needed": True}),
    ("RandomHorizontalFlip", {}),
    ("RandomVerticalFlip", {"p": 0.2}),
    ("RandomRotation", {"degrees": 10}),
    ("RandomRotation", {"degrees": [-3, 5.5], "interpolation": "bilinear", "center": [2, 3], "fill": None}),
    ("RandomAffine", {"degrees": 10, "translate": [0.1, 0.1], "scale": [0.9, 1.1], "shear": 4}),
    ("RandomAffine", {"degrees": 0, "shear": [1, 2, 3, 4]}),
    ("RandomErasing", {"p": 1, "value": 3}),
    ("RandomErasing", {"scale": [0.1, 0.2], "ratio": [1, 2], "value": [0.1, 0.2, 0.3]}),
]


@pytest.mark.parametrize(("name", "options"), PLAIN, ids=str)
def test_plain_options_come_to_what_torchvision_makes_of_them(name: str, options: dict[str, Any]) -> None:
    plain, theirs = plain_version(name, options), getattr(v2, name)(**options)
    assert plain is not None
    made = {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in vars(theirs).items()
        if key in vars(plain.transform)
    }
    assert made == {
        key: list(value) if isinstance(value, tuple) else value for key, value in vars(plain.transform).items()
    }


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("RandomCrop", {"size": [1, 2, 3]}),
        ("RandomCrop", {"size": 8, "padding": [1, 2, 3]}),
        ("RandomCrop", {"size": 8, "padding": 1, "padding_mode": "wrap"}),
        ("RandomHorizontalFlip", {"p": 1.5}),
        ("RandomHorizontalFlip", {"q": 0.5}),
        ("RandomRotation", {"degrees": -1}),
        ("RandomRotation", {"degrees": 5, "expand": True}),
        ("RandomRotation", {"degrees": 5, "interpolation": "bicubic"}),
        ("RandomAffine", {"degrees": 5, "translate": [0.1, 1.1]}),
        ("RandomAffine", {"degrees": 5, "scale": 2}),
        ("RandomAffine", {"degrees": 5, "shear": [1, 2, 3]}),
        ("RandomAffine", {}),
        ("RandomErasing", {"value": "random"}),
        ("RandomErasing", {"scale": [0.5, 0.1]}),
        ("ColorJitter", {}),
    ],
    ids=str,
)
def test_options_that_are_not_plain_are_left_to_torchvision(name: str, options: dict[str, Any]) -> None:
    assert plain_version(name, options) is None


def test_every_kind_with_a_batched_form_is_tested_here() -> None:
    assert {type(transform).__name__ for transform in CASES.values()} | {
        "AlternatingFlip",
        "RandomRotation",
        "RandomAffine",
        "RandomErasing",
    } == {*RANDOM, "AlternatingFlip"}
    assert all(hasattr(v2, name) for name in (*RANDOM, *DETERMINISTIC))
    assert {"CenterCrop", "Pad", "Resize", "Grayscale", "RGB"} == DETERMINISTIC


@pytest.mark.parametrize(
    "transform",
    [
        v2.ColorJitter(0.2),
        v2.RandomRotation(10, expand=True),
        v2.RandomErasing(value="random"),
        v2.RandomResizedCrop(8, antialias=True),
    ],
    ids=repr,
)
def test_what_has_no_batched_form_is_told(transform: Any) -> None:
    assert batched_version(transform) is None


# --- rotation and affine maps


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
@pytest.mark.parametrize("fill", [0, 7, [10, 20, 30], None])
@pytest.mark.parametrize("size", [(9, 9), (8, 13)])
def test_rotation_gives_torchvisions_pixels(interpolation: str, fill: Any, size: tuple[int, int]) -> None:
    images = torch.rand(6, 3, *size, generator=torch.Generator().manual_seed(0))
    transform = v2.RandomRotation((5, 85), interpolation=v2.InterpolationMode(interpolation), fill=fill)
    batched = batched_version(transform)
    assert batched is not None
    rotated = batched(images, draws(6))
    angles = 5 + 80 * draws(6).uniforms(1)[:, 0]
    for image, angle, ours in zip(images, angles.tolist(), rotated, strict=True):
        theirs = F.rotate(image, angle, interpolation=transform.interpolation, fill=fill)
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
@pytest.mark.parametrize("center", [None, [2.0, 5.0]])
def test_affine_maps_give_torchvisions_pixels(interpolation: str, center: Any) -> None:
    images = torch.rand(8, 1, 11, 9, generator=torch.Generator().manual_seed(0))
    mode = v2.InterpolationMode(interpolation)
    transform = v2.RandomAffine(
        30, translate=(0.2, 0.3), scale=(0.7, 1.4), shear=[-10, 10, -5, 15], interpolation=mode, fill=3, center=center
    )
    batched = batched_version(transform)
    assert batched is not None
    warped = batched(images, draws(8))
    u = draws(8).uniforms(6)
    for row, image in enumerate(images):
        angle, x, y, scale, shear_x, shear_y = u[row].tolist()
        theirs = F.affine(
            image,
            angle=-30 + 60 * angle,
            translate=[round((2 * x - 1) * 0.2 * 9), round((2 * y - 1) * 0.3 * 11)],
            scale=0.7 + 0.7 * scale,
            shear=[-10 + 20 * shear_x, -5 + 20 * shear_y],
            interpolation=mode,
            fill=[3.0],
            center=center,
        )
        torch.testing.assert_close(warped[row], theirs, atol=1e-4, rtol=0)


def test_byte_images_are_rounded_as_in_torchvision() -> None:
    images = torch.randint(0, 256, (4, 1, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    transform = v2.RandomRotation((10, 40), interpolation=v2.InterpolationMode.BILINEAR)
    batched = batched_version(transform)
    assert batched is not None
    angles = 10 + 30 * draws(4).uniforms(1)[:, 0]
    theirs = torch.stack(
        [
            F.rotate(image, angle, interpolation=transform.interpolation, fill=0)
            for image, angle in zip(images, angles.tolist(), strict=True)
        ]
    )
    ours = batched(images, draws(4))
    assert ours.dtype == torch.uint8
    # the last bit of a float32 may fall on either side of a half
    assert int((ours.int() - theirs.int()).abs().max()) <= 1
    assert float((ours != theirs).float().mean()) < 0.01


def test_translations_are_whole_pixels_as_often_as_in_torchvision(same_distribution: Same) -> None:
    image = numbered(1, 10, 10)
    transform = v2.RandomAffine(0, translate=(0.2, 0.1))
    ours, theirs = in_a_batch(transform, image, 3000), one_by_one(transform, image, 1500)
    assert set(fingerprints(ours).tolist()) == set(fingerprints(theirs).tolist())
    assert same_distribution(fingerprints(ours), fingerprints(theirs))


@pytest.mark.parametrize("seed", range(3))
def test_angles_scales_and_shears_spread_as_in_torchvision(seed: int, same_distribution: Same) -> None:
    # the centre of mass of one bright pixel off the middle tells angle and scale apart; binned, the samples compare
    image = torch.zeros(1, 21, 21)
    image[0, 10, 16] = 1
    transform = v2.RandomAffine(
        40, scale=(0.8, 1.2), shear=[-10, 10, -8, 8], interpolation=v2.InterpolationMode.BILINEAR
    )
    batched = batched_version(transform)
    assert batched is not None
    ours = batched(image.expand(3000, 1, 21, 21), draws(3000, seed=seed))
    theirs = one_by_one(transform, image, 1500)

    def bins(images: Tensor) -> Tensor:
        mass = images.sum((1, 2, 3)).clamp(min=1e-6)
        y = (images.sum((1, 3)) * torch.arange(21)).sum(1) / mass
        x = (images.sum((1, 2)) * torch.arange(21)).sum(1) / mass
        return (y / 2).long() * 11 + x.long()

    assert same_distribution(bins(ours), bins(theirs))


# --- erasing


def boxes(images: Tensor, value: int) -> Tensor:
    """Top, left, height and width of the erased box of each image (zeros for none): (N, 4)."""
    erased = (images == value).all(1)
    rows, columns = erased.any(2), erased.any(1)
    found = torch.stack([rows.int().argmax(1), columns.int().argmax(1), rows.sum(1), columns.sum(1)], 1)
    assert torch.equal(erased.sum((1, 2)), found[:, 2] * found[:, 3])  # a full box, nothing else
    return found


@pytest.mark.parametrize(
    "options",
    [{}, {"p": 0.9, "scale": (0.1, 0.5), "ratio": (0.5, 2.0)}, {"p": 1.0, "scale": (0.6, 1.0), "ratio": (0.2, 5.0)}],
    ids=str,
)
def test_erased_boxes_are_distributed_as_in_torchvision(options: dict[str, Any], same_distribution: Same) -> None:
    image = numbered(2, 9, 11)
    transform = v2.RandomErasing(value=255, **options)
    ours = boxes(in_a_batch(transform, image, 6000), 255)
    theirs = boxes(one_by_one(transform, image, 2000), 255)
    assert same_distribution(ours[:, 2] * 100 + ours[:, 3], theirs[:, 2] * 100 + theirs[:, 3])
    assert same_distribution(ours[:, 0] * 100 + ours[:, 2], theirs[:, 0] * 100 + theirs[:, 2])
    assert same_distribution(ours[:, 1] * 100 + ours[:, 3], theirs[:, 1] * 100 + theirs[:, 3])


def test_erasing_takes_a_colour_per_channel() -> None:
    image = numbered(3, 8, 8)
    erased = in_a_batch(v2.RandomErasing(1.0, value=[250, 251, 252]), image, 20)
    changed = (erased != image).any(1)
    assert changed.flatten(1).any(1).all()
    for channel in range(3):
        assert (erased[:, channel][changed] == 250 + channel).all()
    with pytest.raises(ValueError, match="3 channels"):
        in_a_batch(v2.RandomErasing(1.0, value=[1, 2]), image, 2)
