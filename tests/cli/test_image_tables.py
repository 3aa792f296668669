"""Tables of images from the command line, as a regression and as classes: every command that takes what was trained on them."""

import csv
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

import dlkit as package
from dlkit.core.training.folder import read_checkpoint

CONFIG = """
data: {name: images, path: ./blobs.csv, image: file, target: TARGET, split: part, group: scene, mode: grey, image_size: 12, batch_size: 16}
model: {name: small_cnn, width: 4}
task: TASK
train: {epochs: EPOCHS}
log: {tensorboard: false, graph: false}
"""  # fmt: skip


def make_blobs(folder):
    """160 pictures of 12x12 with a square of 2 to 9 pixels on the left or the right; the table has its area, in units of 1000."""
    draw, rows = random.Random(0), ["file,area,side,scene,part"]
    (folder / "pics").mkdir()
    for number in range(160):
        side, size = draw.choice(("left", "right")), draw.randint(2, 6)
        picture = Image.new("L", (12, 12), 20)
        left = draw.randint(0, 6 - size) + (6 if side == "right" else 0)
        top = draw.randint(0, 12 - size)
        picture.paste(200, (left, top, left + size, top + size))
        picture.save(folder / "pics" / f"{number}.png")
        part = ("train", "train", "train", "val", "test")[number // 2 % 5]
        rows.append(f"pics\\{number}.png,{1000 * size * size},{side},{number // 2},{part}")
    (folder / "blobs.csv").write_text("\r\n".join(rows) + "\r\n", encoding="utf-8-sig", newline="")


@pytest.fixture(scope="module")
def blobs(tmp_path_factory):
    """A folder with pictures, a table, and a run for each target."""
    folder = tmp_path_factory.mktemp("blobs")
    make_blobs(folder)
    for target, task, epochs in (("area", "regression", 12), ("side", "auto", 4)):
        config = folder / f"{target}.yaml"
        config.write_text(CONFIG.replace("TARGET", target).replace("TASK", task).replace("EPOCHS", str(epochs)))
        package.train(config, out=folder / target)
    return folder


@pytest.fixture
def run(dlkit, blobs, monkeypatch):
    """`run("eval", ...)` runs a command beside the runs, which must succeed, and returns what it said."""
    monkeypatch.chdir(blobs)

    def go(*words, code=0):
        done = dlkit(*words)
        assert done.code == code, done.err
        return done

    return go


def metrics_of(run, *words):
    return json.loads(run("eval", *words, "--json").out)["metrics"]


def test_values_come_in_the_units_of_the_table(run, blobs):
    tested = json.loads((blobs / "area/summary.json").read_text())["test"]
    assert tested["r2"] > 0.8 and tested["mae"] > 100
    assert metrics_of(run, "area/model.pt") == pytest.approx(tested, rel=1e-4)
    told = [json.loads(line) for line in run("predict", "area/model.pt", "pics", "--json").out.splitlines()]
    values = {Path(line["image"]).name: line["values"][0] for line in told}
    rows = [line.split(",") for line in (blobs / "blobs.csv").read_text(encoding="utf-8-sig").splitlines()[1:]]
    held = [abs(values[row[0].split("\\")[1]] - float(row[1])) for row in rows if row[4] == "test"]
    assert len(told) == 160 and sum(held) / len(held) == pytest.approx(tested["mae"], rel=1e-4)
    assert "1 number, area, standardized" in run("inspect", "area/model.pt").out


def rows_of(path):
    return list(csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines()))


def test_a_table_is_predicted_as_its_pictures_are(run, blobs, tmp_path):
    told = [json.loads(line) for line in run("predict", "area/model.pt", "pics", "--json").out.splitlines()]
    values = {Path(line["image"]).name: line["values"][0] for line in told}
    run("predict", "area/model.pt", "blobs.csv", "--out", tmp_path / "p.csv")
    written, rows = rows_of(tmp_path / "p.csv"), rows_of(blobs / "blobs.csv")
    assert list(written[0]) == [*rows[0], "predicted_area", "problem"] and not any(row["problem"] for row in written)
    assert [{name: row[name] for name in rows[0]} for row in written] == rows
    expected = [values[row["file"].split("\\")[1]] for row in rows]
    assert [float(row["predicted_area"]) for row in written] == pytest.approx(expected, rel=1e-5)
    run("predict", "area/model.pt", "pics/0.png", "--out", tmp_path / "one.csv")
    assert list(rows_of(tmp_path / "one.csv")[0]) == ["image", "predicted_area", "problem"]
    shown = run("predict", "area/model.pt", "blobs.csv").out.splitlines()
    assert shown[0].split() == ["image", "area", "then"] and "and 140 more rows" in shown[-1]


def test_other_tables_of_pictures(run, blobs, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [{"shot": str(blobs / "pics" / f"{number}.png"), "when": number} for number in range(3)]
    parquet.write_table(pytest.importorskip("pyarrow").Table.from_pylist(rows), tmp_path / "new.parquet")
    done = run("predict", "side/model.pt", tmp_path / "new.parquet", code=2)
    assert "has no column 'file' of picture files; it has: shot, when. --image-column names another" in done.err
    done = run("predict", "side/model.pt", tmp_path / "new.parquet", "--image-column", "shot", "--json")
    told = [json.loads(line) for line in done.out.splitlines()]
    assert [(line["line"], Path(line["image"]).name) for line in told] == [(1, "0.png"), (2, "1.png"), (3, "2.png")]
    assert "from one file alone" in run("predict", "side/model.pt", "blobs.csv", "pics", code=2).err


def test_pictures_of_a_table_that_are_missing_or_broken(run, blobs, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"none")
    lines = ["file,note", f"{blobs / 'pics/0.png'},a", "gone.png,b", ",c", f"{tmp_path / 'bad.png'},d"]
    (tmp_path / "new.csv").write_text("\n".join(lines))
    words = ("predict", "side/model.pt", tmp_path / "new.csv", "--out", tmp_path / "p.csv")
    done = run(*words, code=3)
    assert "new.csv:3: column 'file' names a file that is not there" in done.err and ":4: column 'file' is" in done.err
    assert not (tmp_path / "p.csv").exists()
    (tmp_path / "new.csv").write_text("\n".join([lines[0], lines[1], lines[4]]))
    done = run(*words, code=3)
    assert "new.csv:3: " in done.err and "not a readable image" in done.err
    good, bad = rows_of(tmp_path / "p.csv")
    assert (
        good["predicted_side"] and not good["problem"] and not bad["predicted_side"] and "new.csv:3" in bad["problem"]
    )


def test_classes_of_the_table(run, blobs):
    tested = json.loads((blobs / "side/summary.json").read_text())["test"]
    judged = metrics_of(run, "side/model.pt")
    assert {name: judged[name] for name in tested} == pytest.approx(tested, rel=1e-4)
    told = json.loads(run("predict", "side/model.pt", "pics/0.png", "--json").out)
    assert {entry["class"] for entry in told["predictions"]} == {"left", "right"}


@pytest.mark.slow
@pytest.mark.parametrize("target", ["area", "side"])
@pytest.mark.parametrize(
    "words",
    [
        ("quantize", "--static"),
        ("quantize", "--dynamic"),
        ("prune", "--amount", "20%", "--finetune", "1"),
        ("prune", "--target", "macs=80%"),
    ],
    ids=lambda words: "-".join(words[:2]),
)
def test_compressed(run, quick, tmp_path, target, words):
    run(words[0], f"{target}/model.pt", *words[1:], "-o", tmp_path / "small.pt")
    assert metrics_of(run, tmp_path / "small.pt").keys() == metrics_of(run, f"{target}/model.pt").keys()


@pytest.mark.parametrize("target", ["area", "side"])
def test_exported(run, tmp_path, target):
    run("export", f"{target}/model.pt", "--format", "pt2", "-o", tmp_path / "net.pt2")
    outputs = torch.export.load(tmp_path / "net.pt2").module()(torch.zeros(2, 1, 12, 12))
    assert outputs.shape == ((2, 1) if target == "area" else (2, 2))


@pytest.mark.parametrize("target", ["area", "side"])
def test_resumed_to_the_bit(run, tmp_path, same, target):
    words = ("train", f"{target}.yaml", "train.epochs=2", "schedule=constant")
    run(*words, "--out", tmp_path / "whole")
    run(*words, "train.max_steps=5", "--out", tmp_path / "cut")
    run(*words, "--resume", tmp_path / "cut", "--extend", "tail")
    whole, cut = (read_checkpoint(tmp_path / name / "checkpoints/last.pt") for name in ("whole", "cut"))
    assert whole["position"] == cut["position"] and same(whole["state_dict"], cut["state_dict"])


def test_looked_at_before_training(run, blobs):
    assert "Nothing was written" in run("train", "area.yaml", "--dry-run").out
    run("lr-find", "area.yaml", "--steps", 12, "--repeats", 1)
    run("train", "area.yaml", "data.imag=x", code=2)
    assert "Did you mean 'image'" in run("config", "check", "area.yaml", "data.imag=x", code=2).err


def test_mistakes_in_the_table_stop_before_a_run_begins(run, blobs, tmp_path):
    lines = (blobs / "blobs.csv").read_text(encoding="utf-8-sig").splitlines()
    lines[2], lines[5], lines[7] = (
        lines[2].replace("1.png", "x.png"),
        lines[5].replace("train", "holdout"),
        "pics/6.png,,left,3,val",
    )
    (tmp_path / "bad.csv").write_text("\n".join(lines))
    done = run(
        "train",
        "area.yaml",
        f"data.path={tmp_path / 'bad.csv'}",
        f"data.root={blobs}",
        "--out",
        tmp_path / "run",
        code=3,
    )
    assert "3 cells cannot be used:" in done.err and not (tmp_path / "run" / "config.yaml").exists()
    for place in (
        "bad.csv:3: column 'file' names",
        "bad.csv:6: column 'part' holds 'holdout'",
        "bad.csv:8: column 'area' is empty",
    ):
        assert place in done.err


@pytest.mark.slow
@pytest.mark.parametrize("target", ["area", "side"])
def test_two_processes_equal_one(run, blobs, tmp_path, target):
    command = [sys.executable, "-m", "dlkit", "train", f"{target}.yaml", "train.epochs=2", "runtime.deterministic=true"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    for words in (
        ["data.batch_size=16", "--out", tmp_path / "one"],
        ["data.batch_size=8", "--nproc", "2", "--out", tmp_path / "two"],
    ):
        done = subprocess.run(
            [*command, *map(str, words)], capture_output=True, text=True, timeout=240, env=environment
        )
        assert done.returncode == 0, done.stderr
    one, two = (json.loads((tmp_path / name / "summary.json").read_text())["test"]["loss"] for name in ("one", "two"))
    assert one == pytest.approx(two, rel=0.2)
