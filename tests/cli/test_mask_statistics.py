"""`dlkit train --dry-run` tells the classes of masks: counted once more with NumPy."""

import json

import numpy as np
import pytest
from PIL import Image

CONFIG = """
task: segmentation
data: {{name: maskfolder, path: {path}, classes: [ground, cat, dog, bird], mode: grey, val: none, batch_size: 4, image_size: 8}}
model: {{name: unet, width: 2, depth: 1}}
loss: {{name: cross_entropy, ignore_index: 9}}
"""


@pytest.fixture
def masks(tmp_path):
    """Masks of seven pictures: ground, cats in some, a dog in one, no bird, and 9 for what is not counted."""
    generator = np.random.default_rng(0)
    found = np.where(generator.random((7, 8, 8)) < 0.2, 9, 0)
    found[::2, :3, :3] = 1
    found[4, 5:, 5:] = 2
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
        for number, mask in enumerate(found.astype(np.uint8)):
            Image.fromarray(mask).save(tmp_path / name / f"{number}.png")
    return found


def test_pixels_and_pictures_of_each_class(dlkit, write_config, masks, tmp_path):
    config = write_config(CONFIG.format(path=tmp_path))
    done = dlkit("train", config, "--dry-run", "--json")
    assert done.code == 0, done.err
    told = json.loads(done.out.splitlines()[-1])["masks"]
    is_counted = masks != 9
    assert told["num_pictures"] == 7 and told["ignored_share"] == pytest.approx((~is_counted).mean())
    for number, (row, name) in enumerate(zip(told["classes"], ("ground", "cat", "dog", "bird"), strict=True)):
        assert row["name"] == name and row["num_pictures"] == (masks == number).any((1, 2)).sum()
        assert row["share"] == pytest.approx((masks == number).sum() / is_counted.sum())
    shown = dlkit("train", config, "--dry-run").out
    assert f"not counted: {(~is_counted).mean():.2%} of all pixels" in shown
    assert "none of the training pictures has bird; a network cannot learn what it never sees" in shown
    assert ["dog", f"{told['classes'][2]['share']:.2%}", "1"] in map(str.split, shown.splitlines())


def test_a_model_of_more_classes_than_the_data_have(dlkit, write_config, masks, tmp_path):
    config = write_config(CONFIG.format(path=tmp_path))
    more = ("model.num_classes=6", "data.val=0.3", "data.test=0.3", "log.images=2", "log.graph=false", "train.epochs=1")
    told = json.loads(dlkit("train", config, *more, "--dry-run", "--json").out.splitlines()[-1])["masks"]
    assert [row["name"] for row in told["classes"]][3:] == ["bird", "class 4", "class 5"]
    done = dlkit("train", config, *more, "--out", tmp_path / "run")
    assert done.code == 0, done.err
    judged = json.loads(dlkit("eval", tmp_path / "run" / "model.pt", "--json").out)
    assert [row["name"] for row in judged["per_class"]][3:] == ["bird", "class 4", "class 5"]


def test_of_many_pictures_some_are_counted(dlkit, write_config):
    data = "{name: fake, num_samples: 2100, shape: [1, 4, 4], num_classes: 3, val: none, test: none}"
    config = write_config(f"task: segmentation\ndata: {data}\nmodel: {{name: unet, width: 2, depth: 1}}")
    shown, again = (dlkit("train", config, "--dry-run").out for _ in range(2))
    tables = [
        text[text.index("2,000 of 2,100 training pictures, by seed") : text.index("parameters     ")]
        for text in (shown, again)
    ]
    assert tables[0] == tables[1] and "not counted: 0.00%" in tables[0]


def test_other_tasks_have_none(dlkit, write_config):
    config = write_config("data: {name: fake, shape: [1, 8, 8]}\nmodel: small_cnn")
    done = dlkit("train", config, "--dry-run", "--json")
    assert json.loads(done.out.splitlines()[-1])["masks"] is None
