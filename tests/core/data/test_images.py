"""A corpus of good, odd and broken image files: each gives the right tensor, or one sentence that names it."""

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dlkit.core.data import (
    DataInfo,
    check_image_header,
    fit_image,
    load_image,
    mode_for,
    prepare_image,
    printable,
    run_on_all,
    scan_images,
)
from dlkit.errors import DataError

RED = (200, 30, 10)


def solid(mode: str = "RGB", color: object = RED, size: tuple[int, int] = (6, 4)) -> Image.Image:
    return Image.new(mode, size, color)  # type: ignore[arg-type]


def save_palette(path: Path) -> None:
    image = Image.new("P", (6, 4))
    image.putpalette([*RED, 0, 255, 0])
    image.putpixel((5, 3), 1)  # transparent, its own colour stays
    image.save(path, transparency=bytes([200, 0]))


def save_16_bit(path: Path) -> None:
    Image.fromarray(np.full((4, 6), 51400, dtype=np.uint16)).save(path)


def save_rotated(path: Path) -> None:
    image = solid(size=(4, 6))
    exif = Image.Exif()
    exif[0x0112] = 6  # shown a quarter turn to the right
    image.save(path, exif=exif, quality=100, subsampling=0)


def save_animation(path: Path) -> None:
    image = solid().convert("P", palette=Image.Palette.ADAPTIVE)
    image.save(path, save_all=True, append_images=[solid(color=(0, 0, 255)).convert("P")])


RIGHT: dict[str, tuple[Callable[[Path], None], tuple[int, int, int]]] = {
    "plain.png": (lambda path: solid().save(path), RED),
    "plain.ppm": (lambda path: solid().save(path), RED),
    "plain.jpg": (lambda path: solid().save(path, quality=100, subsampling=0), RED),
    "plain.webp": (lambda path: solid().save(path, lossless=True), RED),
    "grey.png": (lambda path: solid("L", 77).save(path), (77, 77, 77)),
    "grey_alpha.png": (lambda path: solid("LA", (77, 9)).save(path), (77, 77, 77)),
    "alpha.png": (lambda path: solid("RGBA", (*RED, 20)).save(path), RED),
    "one_bit.png": (lambda path: solid("1", 1).save(path), (255, 255, 255)),
    "palette.png": (lambda path: solid().convert("P", palette=Image.Palette.ADAPTIVE).save(path), RED),
    "palette_alpha.png": (save_palette, RED),
    "16_bit.png": (save_16_bit, (200, 200, 200)),
    "16_bit.tif": (save_16_bit, (200, 200, 200)),
    "cmyk.jpg": (lambda path: solid("CMYK", (0, 255, 255, 0)).save(path, quality=100), (255, 0, 0)),
    "rotated.jpg": (save_rotated, RED),
    "animated.gif": (save_animation, RED),
}


@pytest.mark.parametrize("name", RIGHT)
def test_every_kind_of_picture_becomes_rgb(name: str, tmp_path: Path) -> None:
    save, color = RIGHT[name]
    save(tmp_path / name)
    image = load_image(tmp_path / name)
    assert image.shape == (3, 4, 6) and image.dtype == torch.uint8
    assert (image.int() - torch.tensor(color)[:, None, None])[:, :, :5].abs().max() <= 3
    grey = load_image(tmp_path / name, mode="grey")
    assert grey.shape == (1, 4, 6)
    luma = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]
    assert (grey.float() - luma)[:, :, :5].abs().max() <= 3
    check_image_header(tmp_path / name)


def truncate(path: Path, source: Callable[[Path], None], share: float) -> None:
    source(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def noise(path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)


def huge_png(path: Path) -> None:
    """A PNG whose header promises 20,000 x 20,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    )


def flipped_bits(path: Path) -> None:
    noise(path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "short.jpg": (lambda path: truncate(path, noise, 0.5), "truncated"),
    "short.png": (lambda path: truncate(path, noise, 0.5), "truncated|broken"),
    "shorter.png": (lambda path: truncate(path, noise, 0.005), "not a readable image"),
    "empty.jpg": (lambda path: path.write_bytes(b""), "the file is empty"),
    "page.jpg": (lambda path: path.write_text("<!doctype html><html>404</html>"), "no known image format"),
    "flipped.png": (flipped_bits, "broken|not a readable image"),
    "bomb.png": (huge_png, "too many pixels"),
    "folder.jpg": (lambda path: path.mkdir(), "is a directory"),
    "dangling.jpg": (lambda path: path.symlink_to("nowhere.jpg"), "no such file"),
    "loop.jpg": (lambda path: path.symlink_to(path.name), "symbolic links"),
    "float.tif": (lambda path: Image.new("F", (4, 4), 0.5).save(path), "32-bit float"),
}


@pytest.mark.parametrize("name", WRONG)
def test_every_broken_file_is_named_in_one_sentence(name: str, tmp_path: Path) -> None:
    make, reason = WRONG[name]
    make(tmp_path / name)
    with pytest.raises(DataError, match=reason) as caught:
        load_image(tmp_path / name)
    assert str(caught.value).startswith(str(tmp_path / name))
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 3


def test_a_name_that_is_no_utf_8_can_be_read_and_printed(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/caf\xe9.png"
    solid().save(os.fsdecode(path))
    assert load_image(os.fsdecode(path)).shape == (3, 4, 6)
    printable(os.fsdecode(path)).encode("utf-8")
    assert "caf\\xe9.png" in printable(os.fsdecode(path))


def test_the_rotation_in_exif_is_applied(tmp_path: Path) -> None:
    pixels = np.zeros((4, 8, 3), dtype=np.uint8)
    pixels[:, :4] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    image = load_image(tmp_path / "turned.png")
    assert image.shape == (3, 8, 4)
    assert (image[:, :4] == 255).all() and (image[:, 4:] == 0).all()


@pytest.mark.parametrize("how", ["auto", "full"])
def test_a_full_scan_names_all_broken_files(how: str, tmp_path: Path) -> None:
    noise(tmp_path / "good.png")
    for name in ("short.jpg", "empty.jpg", "page.jpg", "flipped.png"):
        WRONG[name][0](tmp_path / name)
    with pytest.raises(DataError, match="4 samples cannot be used") as caught:
        scan_images(map(str, sorted(tmp_path.iterdir())), how)  # type: ignore[arg-type]
    for name in ("short.jpg", "empty.jpg", "page.jpg", "flipped.png"):
        assert name in str(caught.value)
    assert "good.png" not in str(caught.value)


def test_a_quick_scan_reads_headers_and_off_reads_nothing(tmp_path: Path) -> None:
    WRONG["short.jpg"][0](tmp_path / "short.jpg")
    scan_images([str(tmp_path / "short.jpg")], "quick")
    WRONG["page.jpg"][0](tmp_path / "page.jpg")
    with pytest.raises(DataError, match=r"page\.jpg: not a readable image"):
        scan_images([str(tmp_path / name) for name in ("short.jpg", "page.jpg")], "quick")
    scan_images([str(tmp_path / "page.jpg")], "off")


def test_many_failures_are_counted_and_some_are_listed() -> None:
    def fail(number: int) -> None:
        raise DataError(f"number {number:03}")

    with pytest.raises(DataError, match="40 samples cannot be used") as caught:
        run_on_all(fail, range(40))
    assert str(caught.value).splitlines()[1:] == [f"number {number:03}" for number in range(5)] + ["... and 35 more"]
    assert run_on_all(lambda number: number * 2, range(5)) == [0, 2, 4, 6, 8]


@pytest.mark.parametrize("shape", [(3, 40, 60), (3, 60, 40), (1, 10, 10), (3, 33, 97), (1, 8, 8)])
@pytest.mark.parametrize("size", [(8, 8), (16, 12), (5, 30)])
def test_fitting_covers_the_size_and_keeps_the_middle(shape: tuple[int, int, int], size: tuple[int, int]) -> None:
    image = torch.full(shape, 9, dtype=torch.uint8)
    fitted = fit_image(image, size)
    assert fitted.shape == (shape[0], *size)
    assert (fitted == 9).all()
    assert torch.equal(fit_image(image[None], size)[0], fitted)


def test_fitting_keeps_the_shape_of_things() -> None:
    # a white square in the middle of a black strip stays a square in the middle
    strip = torch.zeros(1, 20, 60, dtype=torch.uint8)
    strip[:, 5:15, 25:35] = 255
    fitted = fit_image(strip, (10, 10))
    assert (fitted[0, 3:7, 3:7] == 255).all()
    assert (fitted[0, [0, 1, -1, -2]] == 0).all() and (fitted[0, :, [0, 1, -1, -2]] == 0).all()


def info(
    size: tuple[int, ...], mean: tuple[float, ...] | None = None, std: tuple[float, ...] | None = None
) -> DataInfo:
    return DataInfo("classification", "image", size, 2, None, mean, std)


def test_prepared_images_are_normalized_as_written() -> None:
    image = torch.randint(0, 256, (3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    prepared = prepare_image(image, info((3, 8, 8), (0.5, 0.25, 0.125), (0.5, 0.25, 1.0)))
    mean, std = torch.tensor([0.5, 0.25, 0.125]).view(3, 1, 1), torch.tensor([0.5, 0.25, 1.0]).view(3, 1, 1)
    torch.testing.assert_close(prepared, (image / 255 - mean) / std)
    torch.testing.assert_close(prepare_image(image, info((3, 8, 8))), image / 255)


def test_the_model_says_how_images_are_read() -> None:
    assert mode_for(info((1, 8, 8))) == "grey"
    assert mode_for(info((3, 8, 8))) == "rgb"
    with pytest.raises(DataError, match="1 or 3 channels"):
        mode_for(info((4, 8, 8)))
    with pytest.raises(DataError, match="takes features input of size 4"):
        mode_for(DataInfo("regression", "features", (4,), 1, None, None, None))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(3, 33, 47), (1, 100, 31), (2, 3, 64, 65)], ids=str)
@pytest.mark.parametrize("is_channels_last", [False, True])
def test_scaling_is_torchvisions_to_the_bit(dtype, shape, is_channels_last):
    from torchvision.transforms.v2 import functional

    images = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    if is_channels_last:
        images = images.movedim(-3, -1).contiguous().movedim(-1, -3)
    for height, width in ((32, 32), (28, 20), (65, 64), (7, 9)):
        scale = max(height / shape[-2], width / shape[-1])
        covering = [max(height, round(shape[-2] * scale)), max(width, round(shape[-1] * scale))]
        expected = functional.center_crop(functional.resize(images, covering, antialias=True), [height, width])
        assert torch.equal(fit_image(images, (height, width)), expected)
