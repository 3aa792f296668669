"""`dlkit predict --probs`, and predictions as JSON lines."""

import csv
import json
from pathlib import Path

import pytest
import torch

from dlkit.core.data import DataInfo
from dlkit.core.modelfile import ModelSpec, save_model_file
from dlkit.core.models import Arch, build_model

ROOT = Path(__file__).resolve().parent.parent.parent
PICTURES = ROOT / "examples" / "shapes" / "circle"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model file of three classes of pictures, untrained."""
    torch.manual_seed(0)
    arch = Arch("dlkit", "small_cnn", {"width": 4, "num_classes": 3, "in_channels": 3, "input_size": [3, 16, 16]})
    info = DataInfo("classification", "image", (3, 16, 16), 3, ("circle", "square", "triangle"), None, None)
    path = tmp_path_factory.mktemp("model") / "model.pt"
    save_model_file(path, ModelSpec(arch, info), build_model(arch, input_size=(3, 16, 16)).state_dict())
    return path


@pytest.fixture
def folder(tmp_path):
    """Two pictures, and between them a file that is none."""
    (tmp_path / "in").mkdir()
    for name in ("circle_00.png", "circle_02.png"):
        (tmp_path / "in" / name).write_bytes((PICTURES / name).read_bytes())
    (tmp_path / "in" / "circle_01.png").write_bytes(b"none")
    return tmp_path / "in"


def test_a_column_for_each_class(dlkit, model, folder, tmp_path):
    done = dlkit("predict", model, folder, "--out", tmp_path / "p.csv", "--probs")
    assert done.code == 3 and "circle_01.png" in done.err and "Traceback" not in done.err
    rows = list(csv.DictReader((tmp_path / "p.csv").read_text(encoding="utf-8").splitlines()))
    assert [Path(row["image"]).name for row in rows] == [f"circle_0{number}.png" for number in range(3)]
    names = [f"probability_{name}" for name in ("circle", "square", "triangle")]
    for row in (rows[0], rows[2]):
        shares = [float(row[name]) for name in names]
        assert sum(shares) == pytest.approx(1, abs=1e-5) and float(row["probability"]) == max(shares)
        assert row["prediction"] == names[shares.index(max(shares))].removeprefix("probability_")
    assert rows[1]["problem"] and not any(rows[1][name] for name in names)


def test_json_lines(dlkit, model, folder, tmp_path):
    printed = dlkit("predict", model, folder, "--json", "--probs")
    assert dlkit("predict", model, folder, "--out", tmp_path / "p.jsonl", "--probs").code == printed.code == 3
    written = (tmp_path / "p.jsonl").read_text(encoding="utf-8")
    assert written == printed.out
    assert [len(json.loads(line).get("predictions", [])) for line in written.splitlines()] == [3, 0, 3]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--probs"], "add --out FILE or --json"), (["--out", "p.txt"], "the file name must end in .csv, .jsonl")],
)
def test_what_does_not_go(dlkit, model, folder, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    done = dlkit("predict", model, folder, *arguments)
    assert done.code == 2 and words in done.err
