"""Samples to calibrate on: training samples, prepared as evaluation prepares them, in an order by seed."""

from typing import Any

import pytest
import torch
from torch import Tensor

from dlkit.core.data import build_data, build_eval_split, draw_calibration
from dlkit.errors import DataError, UsageError

CPU = torch.device("cpu")
DIGITS = {"name": "digits", "val": 0.2, "test": 0.2}
AUGMENTED = {**DIGITS, "transforms": ["RandomHorizontalFlip", {"name": "RandomCrop", "size": 8, "padding": 2}]}


def keys(batches: Any) -> list[bytes]:
    """Every sample as bytes."""
    return [sample.numpy().tobytes() for inputs in batches for sample in inputs]


def draw(load: Any, section: Any, **options: Any) -> list[Tensor]:
    loaded = load(section)
    return draw_calibration(
        loaded, build_data(loaded, device=CPU, seed=0).info, **({"count": 200, "seed": 0} | options)
    )


@pytest.mark.parametrize("section", [DIGITS, AUGMENTED], ids=["plain", "augmented"])
def test_they_are_training_samples_as_evaluation_sees_them(load: Any, section: Any) -> None:
    """Bit for bit: the same normalization and no augmentation (trap 4.6); none is held out for judging."""
    loaded = load(section)
    info = build_data(loaded, device=CPU, seed=0).info
    seen = {
        name: set(keys(batch.inputs for batch in build_eval_split(loaded, info, split=name, device=CPU).batches()))
        for name in ("train", "val", "test")
    }
    drawn = keys(draw(load, section))
    assert len(set(drawn)) > 190 and set(drawn) <= seen["train"]
    assert len(set(drawn) & (seen["val"] | seen["test"])) <= len(seen["train"] & (seen["val"] | seen["test"]))


def test_data_in_the_order_of_their_classes_are_mixed(load: Any, image_folder: Any) -> None:
    """The first samples of a folder are all of its first class (trap 4.6)."""
    section = {"name": "imagefolder", "path": str(image_folder), "image_size": 16, "val": "none", "test": "none"}
    loaded = load(section)
    split = build_eval_split(loaded, build_data(loaded, device=CPU, seed=0).info, split="train", device=CPU)
    classes = {}
    for batch in split.batches():
        classes |= dict(zip(keys([batch.inputs]), batch.targets.tolist(), strict=True))
    drawn = [[classes[key] for key in keys(draw(load, section, count=6, seed=seed))] for seed in range(4)]
    assert all(set(found) == {0, 1} for found in drawn) and len({tuple(found) for found in drawn}) > 1


def test_the_seed_decides_and_a_smaller_count_is_a_part(load: Any) -> None:
    first = keys(draw(load, DIGITS))
    assert keys(draw(load, DIGITS)) == first and keys(draw(load, DIGITS, count=50)) == first[:50]
    assert keys(draw(load, DIGITS, seed=1)) != first
    assert len(keys(draw(load, DIGITS, count=10**4))) == build_data(load(DIGITS), device=CPU, seed=0).train.num_samples


def test_what_does_not_fit_is_refused(load: Any) -> None:
    info = build_data(load({"name": "fake", "shape": [1, 8, 8]}), device=CPU, seed=0).info
    with pytest.raises(DataError, match="takes images of 1x8x8, these samples are 1x16x16"):
        draw_calibration(load({"name": "fake", "shape": [1, 16, 16]}), info, count=8, seed=0)
    with pytest.raises(UsageError, match="take fewer with --calib"):
        draw_calibration(load(DIGITS), info, count=10**12, seed=0)
