"""Segmentation from the command line: trained, judged and refused."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

CONFIG = """
task: segmentation
data: {name: fake, num_samples: 60, shape: [1, 16, 16], num_classes: 4, batch_size: 16, eval_batch_size: 7}
model: {name: unet, width: 4, depth: 2}
train: {epochs: 2}
log: {tensorboard: false}
"""


@pytest.fixture
def run(dlkit, write_config, tmp_path):
    done = dlkit("train", write_config(CONFIG), "--out", tmp_path / "run")
    assert done.code == 0, done.err
    return tmp_path / "run"


def test_training_is_judged_by_miou_and_eval_tells_the_same(dlkit, run):
    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert all(row["val_miou"] and row["train_pixel_accuracy"] for row in rows)
    summary = json.loads((run / "summary.json").read_text())
    assert summary["best"]["metric"] == "val_miou"
    judged = json.loads(dlkit("eval", run / "model.pt", "--json").out)
    assert judged["metrics"] == pytest.approx(summary["test"], rel=1e-5)
    confusion = judged["confusion"]
    assert sum(map(sum, confusion)) == 15 * 16 * 16
    ious = [row["iou"] for row in judged["per_class"] if row["iou"] is not None]
    assert sum(ious) / len(ious) == pytest.approx(judged["metrics"]["miou"])
    assert [row["support"] for row in judged["per_class"]] == list(map(sum, confusion))
    shown = dlkit("eval", run / "model.pt", "--split", "val").out
    assert "pixel_accuracy" in shown and "IoU" in shown and "confusion" in shown


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("model.depth=3 data.shape=[1,12,12]", "multiples of 8; these have 12"),
        ("model.name=small_cnn", "4 classes for each pixel, so (N, 4, 16, 16) is needed"),
        ("loss=bce", "no loss of maps of classes"),
        ("data.sampling=balanced", "balances classes, but the task is segmentation"),
    ],
)
def test_what_does_not_fit_is_one_sentence(dlkit, write_config, change, words):
    done = dlkit("train", write_config(CONFIG), *change.split())
    assert done.code == 2 and words in " ".join(done.err.split())


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_split_of_which_no_pixel_counts_is_told(dlkit, write_config, tmp_path, split):
    for name in ("train", "val", "test"):
        for kind, pixel in (("images", 9), ("masks", 255 if name == split else 1)):
            (tmp_path / name / kind).mkdir(parents=True)
            for number in range(4):
                Image.fromarray(np.full((16, 16), pixel, np.uint8)).save(tmp_path / name / kind / f"{number}.png")
    loss = "loss: {name: cross_entropy, ignore_index: 255}"
    source = f"name: maskfolder, path: '{tmp_path}', classes: [a, b], batch_size: 2"
    config = CONFIG.replace("name: fake, num_samples: 60, shape: [1, 16, 16], num_classes: 4, batch_size: 16", source)
    done = dlkit("train", write_config(config + loss), "--out", tmp_path / "run")
    assert done.code == (0 if split == "test" else 3) and f"no pixel of the {split} split counts" in done.err
    if split == "test":  # what was trained stays
        for options in ((), ("--sliding-window",)):
            judged = dlkit("eval", tmp_path / "run" / "model.pt", "--json", *options)
            assert judged.code == 0 and json.loads(judged.out)["metrics"]["miou"] is None
        assert "no pixel of the test split counts" in dlkit("eval", tmp_path / "run" / "model.pt").err


@pytest.fixture
def photos(tmp_path):
    (tmp_path / "photos" / "more").mkdir(parents=True)
    for number, name in enumerate(("a.jpg", "b.png", "more/a.png")):
        shades = np.random.default_rng(number).integers(0, 256, (20 + number, 30), dtype=np.uint8)
        Image.fromarray(shades).save(tmp_path / "photos" / name)
    return tmp_path / "photos"


def test_predict_writes_masks_and_overlays(dlkit, run, photos, tmp_path):
    done = dlkit(
        "predict", run / "model.pt", photos, "--masks", tmp_path / "masks", "--overlays", tmp_path / "over", "--json"
    )
    assert done.code == 0, done.err
    lines = [json.loads(line) for line in done.out.splitlines()]
    names = ["a.png", "b.png", "more/a.png"]
    assert [line["mask"] for line in lines] == [str(tmp_path / "masks" / name) for name in names]
    assert [line["overlay"] for line in lines] == [str(tmp_path / "over" / name) for name in names]
    for number, (line, name) in enumerate(zip(lines, names, strict=True)):
        with Image.open(line["mask"]) as mask, Image.open(line["overlay"]) as over, Image.open(line["image"]) as photo:
            assert (mask.mode, over.mode) == ("P", "RGB") and mask.size == over.size == photo.size == (30, 20 + number)
            assert mask.getpalette()[3:9] == [128, 0, 0, 0, 128, 0]  # of classes 1 and 2 of PASCAL VOC
            classes, shades = np.asarray(mask), np.asarray(photo.convert("L")).astype(float)
            red = np.where(classes == 1, (shades + 128) / 2, np.where(classes == 0, shades, shades / 2))
            shown = np.isin(classes, (0, 1, 2))
            assert np.abs(np.asarray(over)[..., 0] - red)[shown].max() <= 0.5
        shares = {part["class"]: part["share"] for part in line["pixels"]}
        assert shares == {str(c): np.mean(classes == c) for c in np.unique(classes)}, name
        assert list(shares.values()) == sorted(shares.values(), reverse=True)


def test_predict_shows_what_is_in_pictures_and_writes_it_as_a_table(dlkit, run, photos, tmp_path):
    shown = dlkit("predict", run / "model.pt", photos / "b.png", "--masks", tmp_path / "masks")
    assert "pixels" in shown.out and f"written to {tmp_path / 'masks'}" in shown.out.replace("\n", "")
    assert dlkit("predict", run / "model.pt", photos, "-o", tmp_path / "out.csv").code == 0
    with (tmp_path / "out.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["image", "classes", "shares", "problem"] and len(rows) == 3
    assert all(sum(map(float, row["shares"].split(";"))) == pytest.approx(1, abs=1e-4) for row in rows)


def test_masks_that_are_there_stay(dlkit, run, photos, tmp_path):
    words = ("predict", run / "model.pt", photos, "--masks", tmp_path / "masks")
    assert dlkit(*words).code == 0
    (tmp_path / "masks" / "b.png").write_text("mine")
    done = dlkit(*words)
    assert done.code == 2 and "is there already; give another name, or --force" in done.err
    assert (tmp_path / "masks" / "b.png").read_text() == "mine"
    assert dlkit(*words, "--force").code == 0
    Image.open(tmp_path / "masks" / "b.png").verify()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--masks photos", "b.png is a picture that is predicted; give another folder"),
        ("--masks none/masks", "there is no folder"),
        ("--masks photos/b.png", "is a file; give the name of a folder"),
        ("--masks out --overlays out", "give each a folder of its own"),
        ("--masks out --overlap 1", "from 0 to 0.9; got 1"),
        ("photos/more/a.png photos/a.jpg --masks out", "both masks would be a.png"),
    ],
)
def test_masks_that_cannot_be_written_are_one_sentence(dlkit, run, photos, tmp_path, monkeypatch, options, words):
    monkeypatch.chdir(tmp_path)
    before = {path: path.read_bytes() for path in photos.rglob("*") if path.is_file()}
    done = dlkit("predict", run / "model.pt", "photos", "--force", *options.split())
    assert done.code in (2, 3) and words in " ".join(done.err.split()), done.err
    assert {path: path.read_bytes() for path in photos.rglob("*") if path.is_file()} == before
    assert not (tmp_path / "out").exists()


def test_a_picture_that_cannot_be_read_stops_no_other(dlkit, run, photos, tmp_path):
    (photos / "b.png").write_bytes(b"")
    done = dlkit("predict", run / "model.pt", photos, "--masks", tmp_path / "masks")
    assert done.code == 3 and "b.png: not a readable image (the file is empty)" in done.err
    assert sorted(path.name for path in (tmp_path / "masks").rglob("*.png")) == ["a.png", "a.png"]


def test_a_table_is_no_picture(dlkit, run, tmp_path):
    (tmp_path / "t.csv").write_text("file\na.png\n")
    done = dlkit("predict", run / "model.pt", tmp_path / "t.csv")
    assert done.code == 2 and "name images or folders of them" in " ".join(done.err.split())


def test_eval_scores_whole_pictures(dlkit, run):
    plain, whole = (
        json.loads(dlkit("eval", run / "model.pt", "--json", *options).out) for options in ((), ("--sliding-window",))
    )
    assert whole["confusion"] == plain["confusion"] and "loss" not in whole["metrics"]
    done = dlkit("eval", run / "model.pt", "--sliding-window", "--worst", "w.png")
    assert done.code == 2 and "--worst does not go with --sliding-window" in done.err


def test_the_end_of_training_names_predict(dlkit, write_config, tmp_path):
    done = dlkit("train", write_config(CONFIG), "train.epochs=1", "--out", tmp_path / "run")
    assert "IMAGE... --masks DIR" in done.out


def test_export_tells_the_share_of_pixels(dlkit, run, tmp_path):
    done = dlkit("export", run / "model.pt", "--format", "onnx", "-o", tmp_path / "net.onnx")
    assert done.code == 0 and "same class for 100.00% of the pixels of" in " ".join(done.out.split()), done.out
