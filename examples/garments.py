"""Makes pictures for examples/garments.yaml: real FashionMNIST garments at random places, sizes and angles on a textured ground.

python examples/garments.py [FOLDER] [NUMBER OF PICTURES] [SEED]

Pictures are 64x64, grey. Masks are exact: a pixel has the kind of the garment that covers it, or 0 for the ground. Kinds are those that
shapes tell apart: tops (with dresses), trousers, shoes and bags. Four of five pictures are for training, with garments of FashionMNIST's
training images; the others have garments of its test images.
"""

import argparse
import gzip
from pathlib import Path

import numpy as np
from PIL import Image

DEBIAN = Path("/usr/share/datasets/fashion-mnist")  # apt install dataset-fashion-mnist
SIDE = 64
SIZES, ANGLES = (26, 44), (-30, 30)  # pixels, and degrees
MOST_GARMENTS = 3
KINDS = np.array([1, 2, 1, 1, 1, 3, 1, 3, 4, 3])  # of the ten classes of FashionMNIST
DARKEST = 16  # what is brighter in FashionMNIST is garment
COLORS = [0, 0, 0, 230, 25, 75, 60, 180, 75, 255, 225, 25, 0, 130, 200]


def read(name: str, num_header: int) -> np.ndarray:
    """The bytes of an idx file."""
    return np.frombuffer(gzip.decompress((DEBIAN / name).read_bytes())[num_header:], np.uint8)


def silhouettes(garments: np.ndarray) -> np.ndarray:
    """Where garments (N, 28, 28) are: what cannot be reached from the edge without crossing one."""
    is_dark = np.pad(garments <= DARKEST, ((0, 0), (1, 1), (1, 1)), constant_values=True)
    outside = np.zeros_like(is_dark)
    outside[:, 0] = True
    for _ in range(garments.shape[1] * 4):
        grown = outside.copy()
        for axis in (1, 2):
            for step in (1, -1):
                grown |= np.roll(outside, step, axis)
        outside = grown & is_dark
    return ~outside[:, 1:-1, 1:-1]


def texture(random: np.random.Generator) -> np.ndarray:
    """A ground of three waves and noise, (SIDE, SIDE)."""
    y, x = np.mgrid[:SIDE, :SIDE]
    ground = random.uniform(30, 110) + random.normal(0, 12, (SIDE, SIDE))
    for _ in range(3):
        down, along, start = random.uniform(-0.8, 0.8, 3)
        ground += random.uniform(5, 25) * np.sin(down * y + along * x + 3 * start)
    return ground


def paste(
    picture: np.ndarray,
    mask: np.ndarray,
    garment: np.ndarray,
    shape: np.ndarray,
    kind: int,
    random: np.random.Generator,
) -> None:
    """Lay a garment onto a picture, and its class into the mask."""
    size, angle = int(random.integers(*SIZES)), random.uniform(*ANGLES)
    turned = (
        Image.fromarray(garment)
        .resize((size, size), Image.Resampling.BILINEAR)
        .rotate(angle, Image.Resampling.BILINEAR, expand=True)
    )
    covered = Image.fromarray(shape).resize((size, size)).rotate(angle, expand=True)
    top, left = (int(random.integers(-size // 6, SIDE - size + size // 6)) for _ in range(2))
    grown = (turned.width - size) // 2
    top, left = top - grown, left - grown
    rows, columns = (slice(max(0, start), min(SIDE, start + turned.width)) for start in (top, left))
    inside = slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left)
    is_garment = np.asarray(covered)[inside]
    picture[rows, columns] = np.where(is_garment, np.asarray(turned)[inside], picture[rows, columns])
    mask[rows, columns] = np.where(is_garment, kind, mask[rows, columns])


def make(part: str, folder: Path, count: int, seed: int) -> None:
    """Write pictures and masks of one split."""
    garments = read(f"{part}-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28)
    kinds = KINDS[read(f"{part}-labels-idx1-ubyte.gz", 8)]
    random = np.random.default_rng([seed, len(garments)])
    chosen = random.permutation(len(garments))[: count * MOST_GARMENTS]
    shapes = silhouettes(garments[chosen])
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        picture, mask = texture(random), np.zeros((SIDE, SIDE), np.uint8)
        for place in range(random.integers(1, MOST_GARMENTS + 1)):
            one = number * MOST_GARMENTS + place
            paste(picture, mask, garments[chosen[one]], shapes[one], int(kinds[chosen[one]]), random)
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(folder / "images" / f"{number:05}.png")
        indexed = Image.fromarray(mask, "P")
        indexed.putpalette(COLORS)
        indexed.save(folder / "masks" / f"{number:05}.png")


def main(folder: Path, count: int, seed: int) -> None:
    """Write train/ and test/, images/ and masks/ in each."""
    num_test = count // 5
    make("train", folder / "train", count - num_test, seed)
    make("t10k", folder / "test", num_test, seed)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("garments"))
    parser.add_argument("count", type=int, nargs="?", default=4000, help="pictures, a fifth of them for test")
    parser.add_argument("seed", type=int, nargs="?", default=0)
    main(**vars(parser.parse_args()))
