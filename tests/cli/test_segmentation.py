"""Segmentation from the command line: trained, judged and refused."""

import csv
import json

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


def test_predict_says_that_it_writes_no_masks(dlkit, run, tmp_path):
    Image.new("L", (16, 16)).save(tmp_path / "a.png")
    done = dlkit("predict", run / "model.pt", tmp_path / "a.png")
    assert done.code == 2 and "says a class for each pixel; predict writes no masks" in " ".join(done.err.split())


def test_nobody_is_sent_to_predict(dlkit, write_config, tmp_path):
    done = dlkit("train", write_config(CONFIG), "train.epochs=1", "--out", tmp_path / "run")
    assert "dlkit eval" in done.out and "dlkit predict" not in done.out


def test_export_tells_the_share_of_pixels(dlkit, run, tmp_path):
    done = dlkit("export", run / "model.pt", "--format", "onnx", "-o", tmp_path / "net.onnx")
    assert done.code == 0 and "same class for 100.00% of the pixels of" in " ".join(done.out.split()), done.out
