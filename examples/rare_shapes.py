"""Makes arrays for examples/rare_shapes.yaml: noisy pictures of circles, of few squares and of very few triangles.

python examples/rare_shapes.py [FOLDER] [NUMBER OF CIRCLES]
"""

import argparse
import random
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

SIDE = 24
SHARES = (1, 0.1, 0.04)  # of each class, in training
NUM_TEST = 100  # of each class


def draw_shape(kind: int, draw: random.Random) -> np.ndarray:
    """A picture (SIDE, SIDE) of a shape somewhere, under noise."""
    picture = Image.new("L", (SIDE, SIDE), 40)
    radius, x, y = draw.uniform(4, 7), draw.uniform(8, SIDE - 8), draw.uniform(8, SIDE - 8)
    if kind == 0:
        ImageDraw.Draw(picture).ellipse((x - radius, y - radius, x + radius, y + radius), fill=150)
    else:
        sides = {1: 4, 2: 3}[kind]
        ImageDraw.Draw(picture).regular_polygon((x, y, radius), sides, rotation=draw.randrange(360), fill=150)
    noise = np.random.default_rng(draw.getrandbits(32)).normal(0, 35, (SIDE, SIDE))
    return (np.asarray(picture) + noise).clip(0, 255).astype(np.uint8)


def main(folder: Path, number: int) -> None:
    """Write x_train, y_train, x_test and y_test."""
    draw, arrays = random.Random(0), {}
    counts = {"train": [max(3, round(number * share)) for share in SHARES], "test": [NUM_TEST] * len(SHARES)}
    for split, of_classes in counts.items():
        classes = [kind for kind, count in enumerate(of_classes) for _ in range(count)]
        arrays[f"x_{split}"] = np.stack([draw_shape(kind, draw) for kind in classes])
        arrays[f"y_{split}"] = np.array(classes)
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "rare_shapes.npz", **arrays)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("rare_shapes"))
    parser.add_argument("number", type=int, nargs="?", default=800, help="circles")
    main(**vars(parser.parse_args()))
