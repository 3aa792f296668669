"""Several labels per sample from the command line: a data set of one's own, trained, judged, used, compressed, refused."""

import csv
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dlkit.core.modelfile import read_model_file

DATA = """
import torch

CLASSES = ("cat", "dog", "owl", "newt")

class Animals:
    classes = CLASSES
    def __init__(self, rows="list", num_samples=200):
        generator = torch.Generator().manual_seed(0)
        self.inputs = torch.randn(num_samples, 12, generator=generator)
        self.rows = ((self.inputs @ torch.randn(12, 4, generator=generator)) > 1).long()
        self.kind = rows
    def __len__(self):
        return len(self.inputs)
    def __getitem__(self, index):
        row = self.rows[index]
        kinds = {"list": row.tolist(), "bool": row.bool(), "array": row.numpy(), "float": row.float()}
        return self.inputs[index], kinds[self.kind]

class Swapped(Animals):
    classes = CLASSES[::-1]
    def __getitem__(self, index):
        inputs, row = super().__getitem__(index)
        return inputs, row[::-1]

class Fewer(Animals):
    classes = CLASSES[:3]
    def __getitem__(self, index):
        inputs, row = super().__getitem__(index)
        return inputs, row[:3]

class Unknown(Animals):
    classes = ("cat", "dog", "owl", "eel")

class Wrong(Animals):
    def __getitem__(self, index):
        inputs, row = super().__getitem__(index)
        return inputs, [2, 0, 0, 0] if index == 7 else row

class Ragged(Animals):
    def __getitem__(self, index):
        inputs, row = super().__getitem__(index)
        return inputs, row[: 3 if index == 9 else 4]

class ThreeNames(Animals):
    classes = CLASSES[:3]

class Halves(Animals):
    def __getitem__(self, index):
        return self.inputs[index], torch.full((4,), 0.5)

class OfClasses(Animals):
    def __getitem__(self, index):
        return self.inputs[index], index % 4
"""
CONFIG = """
data: {name: ./animals.py:Animals, test: 0.2, val: 0.2, batch_size: 16, eval_batch_size: 7}
model: {name: mlp}
train: {epochs: 2}
log: {tensorboard: false}
"""


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("animals.py").write_text(DATA)
    Path("c.yaml").write_text(CONFIG)
    return "c.yaml"


def result_of(done):
    assert done.code == 0, done.err
    return json.loads(done.out.splitlines()[-1])


def test_a_run_and_what_comes_after_it(dlkit, config):
    trained = result_of(dlkit("train", config, "--out", "run", "--json"))
    assert trained["best"]["metric"] == "val_map" and set(trained["test"]) == {
        "loss",
        "map",
        "micro_f1",
        "macro_f1",
        "subset_accuracy",
    }
    info = read_model_file("run/model.pt").spec.info
    assert (info.task, info.classes) == ("multilabel", ("cat", "dog", "owl", "newt")) and len(info.thresholds) == 4
    judged = result_of(dlkit("eval", "run/model.pt", "--data", config, "--json"))
    assert {name: judged["metrics"][name] for name in trained["test"]} == pytest.approx(trained["test"])
    assert [row["threshold"] for row in judged["per_label"]] == list(info.thresholds)
    best = result_of(dlkit("eval", "run/model.pt", "--data", config, "--split", "val", "--json"))["metrics"]
    assert best["map"] == trained["best"]["value"]
    shown = dlkit("eval", "run/model.pt", "--data", config).out
    assert re.search(r"label +samples +AUROC +AP +precision +recall +F1 +threshold", shown) and "newt" in shown
    assert "4 labels: cat, dog, owl, newt" in dlkit("inspect", "run/model.pt").out


def test_other_orders_and_missing_labels_are_matched_by_name(dlkit, config):
    plain = result_of(dlkit("train", config, "--out", "run", "--json"))["test"]
    Path("s.yaml").write_text(CONFIG.replace("Animals", "Swapped"))
    Path("f.yaml").write_text(CONFIG.replace("Animals", "Fewer"))
    swapped = result_of(dlkit("eval", "run/model.pt", "--data", "s.yaml", "--json"))["metrics"]
    assert {name: swapped[name] for name in plain} == pytest.approx(plain)
    fewer = dlkit("eval", "run/model.pt", "--data", "f.yaml")
    assert fewer.code == 0 and "lack the model's label newt" in fewer.err and re.search(r"newt +0  ", fewer.out)


@pytest.mark.parametrize("rows", ["bool", "array", "float"])
def test_rows_come_in_many_forms(dlkit, config, rows):
    changes = [f"data.rows={rows}", "data.cache=memory", "train.max_steps=2"]
    told = ["task=multilabel"] if rows == "float" else []
    done = dlkit("train", config, *changes, *told, "--out", "run", "--json")
    assert set(result_of(done)["test"]) >= {"map"} and ("are taken as labels" in done.err) == (rows != "float")


def test_resuming_and_stopping_early(dlkit, config):
    whole = result_of(dlkit("train", config, "train.early_stop={metric: val_map}", "--out", "one", "--json"))
    dlkit("train", config, "train.early_stop={metric: val_map}", "--max-steps", "5", "--out", "two", "--json")
    again = dlkit(
        "train", config, "train.early_stop={metric: val_map}", "--resume", "two", "--extend", "stretch", "--json"
    )
    assert again.code == 0, again.err
    assert json.loads(again.out.splitlines()[-1])["best"]["metric"] == whole["best"]["metric"]


@pytest.mark.parametrize(
    "loss",
    ["focal", "asymmetric", "{name: bce, class_weights: {cat: 2, newt: 3}}", "{name: focal, class_weights: balanced}"],
)
def test_every_loss_of_labels_trains(dlkit, config, loss):
    done = dlkit("train", config, f"loss={loss}", "train.max_steps=2", "--out", "run", "--json")
    assert result_of(done)["test"]["loss"] > 0


@pytest.mark.parametrize(
    ("name", "changes", "code", "message"),
    [
        ("Wrong", [], 3, r"Wrong\[7\]: the target must be one whole number .*got \[2, 0, 0, 0\]"),
        (
            "Ragged",
            [],
            3,
            r"Ragged\[9\]: target is torch.uint8 of shape \(3,\), that of sample 0 is torch.uint8 of shape \(4,\)",
        ),
        ("ThreeNames", [], 3, "`classes` names 3 labels, its targets have 4"),
        ("Halves", ["task=multilabel"], 3, r"targets are 0 or 1 for each label; Halves\[\d+\] has 0.5"),
        ("OfClasses", ["task=multilabel"], 2, "task: .*one class per sample; multilabel needs 0 or 1"),
        ("Animals", ["task=classification"], 2, "task: .*0 or 1 for each of several labels; classification needs"),
        ("Animals", ["loss=cross_entropy"], 2, "cross_entropy needs class labels.*use bce"),
        ("Animals", ["task=multilabel", "loss=cross_entropy"], 2, "task is multilabel; use bce"),
        ("Animals", ["loss.class_weights={dgo: 2}"], 2, "'dgo' is none of the labels. Did you mean 'dog'"),
        ("Animals", ["loss.class_weights={dog: -2}"], 2, "class_weights"),
        ("Animals", ["model.num_classes=7"], 2, r"\(N, 7\).*4 labels"),
        ("Animals", ["data.standardize_target=true"], 2, "the targets are labels; only numbers are standardized"),
        (
            "Animals",
            ["task=multilabel", "train.early_stop={metric: val_accuracy}"],
            2,
            "never measured: task is multilabel",
        ),
        ("Animals", ["checkpoint.metric=val_mpa"], 2, "Did you mean 'val_map'"),
    ],
)
def test_bad_input(dlkit, config, name, changes, code, message):
    Path("c.yaml").write_text(CONFIG.replace("Animals", name))
    done = dlkit("train", config, *changes, "--out", "run")
    assert done.code == code and re.search(message, done.err.replace("\n", " ")), done.err
    assert not Path("run").exists()


def test_data_of_other_labels_are_refused(dlkit, config):
    dlkit("train", config, "train.max_steps=1", "--out", "run")
    Path("o.yaml").write_text(CONFIG.replace("Animals", "Unknown"))
    done = dlkit("eval", "run/model.pt", "--data", "o.yaml")
    assert done.code == 3 and "label 'eel' is unknown to the model; it knows cat, dog, owl, newt" in done.err


@pytest.mark.parametrize("thresholds", [[0.5] * 3, [0.5, 0.5, 0.5, 1.5], ["a"] * 4, [0.5, 0.5, 0.5, float("nan")]])
def test_thresholds_that_do_not_fit_are_refused(dlkit, config, thresholds):
    dlkit("train", config, "train.max_steps=1", "--out", "run")
    value = torch.load("run/model.pt", weights_only=True)
    value["spec"]["input"]["thresholds"] = thresholds
    torch.save(value, "broken.pt")
    done = dlkit("inspect", "broken.pt")
    assert done.code == 4 and "thresholds" in done.err


def test_rows_of_a_table_get_their_labels(dlkit, config):
    header = ",".join([*(f"x{number}" for number in range(12)), "cat", "dog"])
    generator = torch.Generator().manual_seed(1)
    rows = torch.randn(80, 12, generator=generator)
    lines = [
        ",".join([*(f"{value:.3f}" for value in row), *("01"[int(row[i] > 0)] for i in (0, 1))])
        for row in rows.tolist()
    ]
    Path("t.csv").write_text("\n".join([header, *lines]) + "\n")
    Path("t.yaml").write_text(
        "task: multilabel\ndata: {name: csv, path: t.csv, target: [cat, dog], val: 0.2, test: 0.2}\n"
        "model: {name: mlp}\nlog: {tensorboard: false}\ntrain: {epochs: 5}\n"
    )
    assert dlkit("train", "t.yaml", "--out", "run").code == 0
    done = dlkit("predict", "run/model.pt", "t.csv", "--json")
    assert done.code == 0, done.err
    found = [json.loads(line) for line in done.out.splitlines()]
    assert len(found) == 80 and all(set(row) >= {"labels", "line"} for row in found)
    thresholds = dict(zip(("cat", "dog"), read_model_file("run/model.pt").spec.info.thresholds, strict=True))
    assert all(label["probability"] >= thresholds[label["label"]] - 1e-6 for row in found for label in row["labels"])
    assert any(not row["labels"] for row in found) and any(len(row["labels"]) == 2 for row in found)
    assert dlkit("predict", "run/model.pt", "t.csv").code == 0
    assert dlkit("predict", "run/model.pt", "t.csv", "--out", "p.csv").code == 0
    written = list(csv.DictReader(Path("p.csv").read_text().splitlines()))
    expected = [";".join(label["label"] for label in row["labels"]) for row in found]
    assert [row["predicted_labels"] for row in written] == expected


@pytest.mark.slow
def test_two_processes_judge_to_the_bit_as_one(config):
    changes = ["optimizer={name: sgd, lr: 1e-30}", "train.epochs=1", "-q"]
    for size, more in ((16, ["--nproc", "2"]), (32, [])):
        line = [sys.executable, "-m", "dlkit", "train", config, *changes, f"data.batch_size={size}", *more]
        done = subprocess.run([*line, "--out", f"run{len(more)}"], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
    texts = [Path(f"run{count}", "metrics.csv").read_text() for count in (2, 0)]
    rows = [next(csv.DictReader(text.splitlines())) for text in texts]
    names = ("val_loss", "val_micro_f1", "val_map")
    assert [rows[0][name] for name in names] == [rows[1][name] for name in names]
    infos = [read_model_file(f"run{count}/model.pt").spec.info for count in (2, 0)]
    # means of batch norms over processes round otherwise, and a threshold lies between two outputs
    assert infos[0].thresholds == pytest.approx(infos[1].thresholds, rel=1e-6)
    assert replace(infos[0], thresholds=None) == replace(infos[1], thresholds=None)


@pytest.mark.slow
def test_compression_judges_by_map(dlkit, config):
    dlkit("train", config, "train.epochs=5", "--out", "run")
    common = ["--data", config, "--no-latency", "--json"]
    quantized = json.loads(dlkit("quantize", "run/model.pt", "--static", "--max-drop", "5", *common).out)
    assert "map" in quantized["comparison"]["before"]["scores"]["metrics"]
    pruned = dlkit(
        "prune",
        "run/model.pt",
        "--target",
        "macs=50%",
        "--finetune",
        "1",
        "--data",
        config,
        "-o",
        "p.pt",
        "--no-latency",
    )
    assert pruned.code == 0 and "mAP" not in pruned.err and "map" in pruned.out
    assert len(read_model_file("p.pt").spec.info.thresholds) == 4
