"""Tables of pictures with several labels from the command line: judged, used, compressed, exported, and what does not go."""

import csv
import json
import random
from pathlib import Path

import pytest
import torch
from PIL import Image

import dlkit as package
from dlkit.core.export import parity_of
from dlkit.core.modelfile import read_model_file
from dlkit.core.training.folder import read_checkpoint

CONFIG = """
data: {name: images, path: ./spots.csv, image: file, target: spots, separator: "|", mode: grey, image_size: 12, batch_size: 16,
       test: 0.3, val: 0.2}
model: {name: small_cnn, width: 4}
train: {epochs: 3}
log: {tensorboard: false, graph: false}
"""
PLACES = {"left": (1, 4), "right": (7, 4), "top": (4, 0)}


@pytest.fixture(scope="module")
def spots(tmp_path_factory):
    """A folder with 120 pictures of 12x12, a table of the spots on each, and a run."""
    folder, draw, rows = tmp_path_factory.mktemp("spots"), random.Random(0), ["file,spots"]
    (folder / "pics").mkdir()
    for number in range(120):
        there = [name for name in PLACES if draw.random() < 0.5]
        picture = Image.new("L", (12, 12), draw.randint(0, 60))
        for name in there:
            picture.paste(200, (*PLACES[name], PLACES[name][0] + 4, PLACES[name][1] + 4))
        picture.save(folder / f"pics/{number}.png")
        rows.append(f"pics/{number}.png,{'|'.join(there) or '|'}")
    (folder / "spots.csv").write_text("\n".join(rows))
    (folder / "spots.yaml").write_text(CONFIG)
    package.train(folder / "spots.yaml", out=folder / "run")
    return folder


@pytest.fixture
def run(dlkit, spots, monkeypatch):
    """`run("eval", ...)` runs a command beside the run, which must end with a code, and returns what it said."""
    monkeypatch.chdir(spots)

    def go(*words, code=0):
        done = dlkit(*words)
        assert done.code == code, done.err
        return done

    return go


def facts_of(done):
    return json.loads(done.out)


def test_judged(run, tmp_path):
    words = ("eval", "run/model.pt", "--worst", tmp_path / "w.png", "--num-worst", 3)
    facts = facts_of(run(*words, "--reliability", tmp_path / "r.png", "--json"))
    network, info = package.load_model("run/model.pt"), read_model_file("run/model.pt").spec.info
    assert set(info.classes) == set(PLACES) and len(facts["per_label"]) == 3
    assert facts["metrics"]["auroc"] == pytest.approx(sum(row["auroc"] for row in facts["per_label"]) / 3)
    assert 0 <= facts["metrics"]["ece"] < 0.5 and sum(row["count"] for row in facts["reliability"]) == 3 * 36
    for path in ("w.png", "r.png"):
        assert (tmp_path / path).read_bytes()[:4] == b"\x89PNG"
    rows = {row["file"]: row["spots"] for row in csv.DictReader(Path("spots.csv").read_text().splitlines())}
    for sample in facts["worst"]:
        names = [part for part in rows["pics/" + Path(sample["name"]).name].split("|") if part]
        assert sample["true"] == (", ".join(sorted(names)) or "no label") and sample["probability"] is None
    assert not network.training
    assert "AUROC" in run("eval", "run/model.pt").out


def test_predicted(run, tmp_path):
    run("predict", "run/model.pt", "spots.csv", "--out", tmp_path / "p.csv")
    rows = list(csv.DictReader((tmp_path / "p.csv").read_text().splitlines()))
    assert list(rows[0]) == ["file", "spots", "predicted_labels", "probability", "problem"] and len(rows) == 120
    told = [json.loads(line) for line in run("predict", "run/model.pt", "pics", "--json").out.splitlines()]
    found = {Path(line["image"]).name: ";".join(label["label"] for label in line["labels"]) for line in told}
    assert all(found[Path(row["file"]).name] == row["predicted_labels"] for row in rows)


def test_what_is_told_of_agreement_is_of_labels(run):
    measured = run("bench", "run/model.pt", "--engine", "eager", "--seconds", 0.1, "--batch", 1, "--json")
    assert facts_of(measured)["rows"][0]["difference_to_eager"]["agreement"] == 1
    found, wanted = torch.tensor([[3.0, -1.0], [1.0, 2.0]]), torch.tensor([[3.0, 1.0], [1.0, 2.0]])
    parity = parity_of(found, wanted)
    assert parity.words("multilabel") == "same labels for 75% of 2 samples"
    assert parity.words("classification") == "same class for 100% of 2 samples"
    assert parity.words("regression") == "values differ by at most 2 of 3 for 2 samples"


@pytest.mark.parametrize(
    "words",
    [
        ("quantize", "--static", "--sensitivity"),
        ("prune", "--target", "macs=80%", "--min-keep", "10%", "--finetune", "1"),
    ],
    ids=lambda words: words[0],
)
def test_compressed(run, quick, tmp_path, words):
    done = run(words[0], "run/model.pt", *words[1:], "--no-latency", "-o", tmp_path / "small.pt")
    assert "same labels" in done.out and "same class" not in done.out
    assert "map" in facts_of(run("eval", tmp_path / "small.pt", "--json"))["metrics"]


def test_resumed_to_the_bit(run, tmp_path, same):
    words = ("train", "spots.yaml", "train.epochs=2", "schedule=constant")
    run(*words, "--out", tmp_path / "whole")
    run(*words, "train.max_steps=5", "--out", tmp_path / "cut")
    run(*words, "--resume", tmp_path / "cut", "--extend", "tail")
    whole, cut = (read_checkpoint(tmp_path / name / "checkpoints/last.pt") for name in ("whole", "cut"))
    assert whole["position"] == cut["position"] and same(whole["state_dict"], cut["state_dict"])
    infos = [read_model_file(tmp_path / name / "model.pt").spec.info for name in ("whole", "cut")]
    assert infos[0] == infos[1] and torch.tensor(infos[0].thresholds).min() > 0


def test_what_does_not_go(run, tmp_path):
    done = run("eval", "run/model.pt", "--fit-temperature", "-o", tmp_path / "t.pt", code=2)
    assert "is a model of labels" in done.err and not (tmp_path / "t.pt").exists()
    done = run("eval", "run/model.pt", "--confusion", tmp_path / "c.png", code=2)
    assert "only a model of classes has a confusion matrix" in done.err
    assert (
        "'|' alone says that there is no label" in run("train", "spots.yaml", f"data.path={_bad(tmp_path)}", code=3).err
    )


def _bad(folder):
    picture = Path("pics/0.png").resolve()
    (folder / "bad.csv").write_text(f"file,spots\n{picture},left\n{picture},\n")
    return folder / "bad.csv"
