"""Makes pictures and a table for examples/turned_clothes.yaml: FashionMNIST's clothes, each turned by an angle that is to be found.

python examples/turned_clothes.py [FOLDER] [NUMBER OF PICTURES]
"""

import argparse
import csv
import gzip
import random
from pathlib import Path

import numpy as np
from PIL import Image

SOURCE = Path(
    "/usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz"
)  # Debian: apt install dataset-fashion-mnist
SIDE, LIMIT = 40, 40  # pixels of a picture, and the largest angle in degrees


def main(folder: Path, number: int) -> None:
    """Write the pictures, and a row for each: its file, its angle, the picture that it was made of."""
    pixels = np.frombuffer(gzip.decompress(SOURCE.read_bytes()), np.uint8, offset=16).reshape(-1, 28, 28)
    draw = random.Random(0)
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    with (folder / "turned_clothes.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["file", "angle", "garment"])
        for row in range(number):
            garment, angle = row // 2, round(draw.uniform(-LIMIT, LIMIT), 2)  # each is turned twice
            canvas = Image.new("L", (SIDE, SIDE))
            canvas.paste(Image.fromarray(pixels[garment]), ((SIDE - 28) // 2, (SIDE - 28) // 2))
            name = f"pictures/{row:05}.png"
            canvas.rotate(angle, Image.Resampling.BILINEAR).save(folder / name)
            table.writerow([name, angle, garment])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("turned_clothes"))
    parser.add_argument("number", type=int, nargs="?", default=12_000, help="pictures")
    main(**vars(parser.parse_args()))
