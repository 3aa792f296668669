"""`dlkit predict MODEL rows.npz`: images, features and sequences, numbered from 0, and what does not go."""

import csv
import json

import numpy as np
import pytest
import torch

import dlkit as package
from dlkit.core.data import DataInfo, normalize_inputs
from dlkit.core.modelfile import ModelSpec, read_model_file, save_model_file
from dlkit.core.models import Arch, build_model

CLASSES = ("circle", "square", "triangle")


def saved(path, arch, info, **more):
    torch.manual_seed(0)
    spec = ModelSpec(arch, info, **more)
    save_model_file(path, spec, build_model(arch, input_size=info.input_size).state_dict())
    return path


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Untrained networks of three classes of RGB images, of vectors of 5 and of sequences of 7 x 2, and one of two numbers."""
    folder = tmp_path_factory.mktemp("models")
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.2, 0.1)
    image = {"width": 4, "num_classes": 3, "in_channels": 3, "input_size": [3, 16, 16]}
    mlp = {"hidden": [4], "input_size": [5]}
    lstm = {"hidden_size": 4, "num_classes": 3, "input_size": [7, 2]}
    return {
        "image": saved(
            folder / "image.pt",
            Arch("dlkit", "small_cnn", image),
            DataInfo("classification", "image", (3, 16, 16), 3, CLASSES, mean, std, temperature=2.0),
        ),
        "features": saved(
            folder / "features.pt",
            Arch("dlkit", "mlp", {**mlp, "num_classes": 3}),
            DataInfo("classification", "features", (5,), 3, CLASSES, (1.0,) * 5, (2.0,) * 5),
        ),
        "sequence": saved(
            folder / "sequence.pt",
            Arch("dlkit", "lstm", lstm),
            DataInfo("classification", "sequence", (7, 2), 3, CLASSES, None, None),
        ),
        "numbers": saved(
            folder / "numbers.pt",
            Arch("dlkit", "mlp", {**mlp, "num_classes": 2}),
            DataInfo("regression", "features", (5,), 2, None, None, None, targets=("price", "age")),
        ),
    }


def inputs_of(kind, count=3):
    generator = np.random.default_rng(0)
    if kind == "image":
        return generator.integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)
    return generator.standard_normal((count, *{"sequence": (7, 2)}.get(kind, (5,)))).astype(np.float32)


def expected(path, array):
    """The outputs for an array, straight through the network."""
    info, inputs = read_model_file(path).spec.info, torch.from_numpy(array)
    inputs = inputs.permute(0, 3, 1, 2) if info.kind == "image" else inputs.double()
    with torch.no_grad():
        return package.load_model(path)(normalize_inputs(inputs, info)).double() / (info.temperature or 1)


@pytest.mark.parametrize("ending", ["npz", "npy"])
@pytest.mark.parametrize("kind", ["image", "features", "sequence"])
def test_rows_of_each_kind(dlkit, models, tmp_path, kind, ending):
    array, path = inputs_of(kind), tmp_path / f"rows.{ending}"
    if ending == "npz":
        np.savez(path, y=np.zeros(9), x=array)
    else:
        np.save(path, array)
    shares = expected(models[kind], array).softmax(1)
    done = dlkit("predict", models[kind], path, "--json", "--probs")
    assert done.code == 0, done.err
    rows = [json.loads(line) for line in done.out.splitlines()]
    assert [(row["file"], row["row"]) for row in rows] == [(str(path), number) for number in range(3)]
    for row, wanted in zip(rows, shares.tolist(), strict=True):
        found = {entry["class"]: entry["probability"] for entry in row["predictions"]}
        assert [found[name] for name in CLASSES] == pytest.approx(wanted, abs=1e-5)


def test_a_csv_file(dlkit, models, tmp_path):
    np.savez(tmp_path / "rows.npz", x=inputs_of("image", 4))
    done = dlkit("predict", models["image"], tmp_path / "rows.npz", "--out", tmp_path / "p.csv", "--probs")
    assert done.code == 0 and "4 rows" in done.out
    rows = list(csv.DictReader((tmp_path / "p.csv").read_text(encoding="utf-8").splitlines()))
    assert list(rows[0]) == ["row", "predicted_target", "probability", *(f"probability_{name}" for name in CLASSES)]
    assert [row["row"] for row in rows] == ["0", "1", "2", "3"]


def test_numbers_and_the_table_on_the_screen(dlkit, models, tmp_path):
    array = inputs_of("numbers", 25)
    np.savez(tmp_path / "rows.npz", only=array)
    shown = dlkit("predict", models["numbers"], tmp_path / "rows.npz").out.splitlines()
    assert shown[0].split()[:3] == ["row", "price", "and"] and shown[1].split()[0] == "0"
    assert "and 5 more rows" in shown[-1]
    rows = dlkit("predict", models["numbers"], tmp_path / "rows.npz", "--json").out.splitlines()
    values = [json.loads(row)["values"] for row in rows]
    np.testing.assert_allclose(values, expected(models["numbers"], array), atol=1e-5)


def test_images_of_another_size_and_axes_as_in_training(dlkit, models, tmp_path):
    file = read_model_file(models["image"])
    path = tmp_path / "named.pt"
    config = {
        "data": {"name": "npz", "path": "gone.npz", "x": "shots", "layout": "CHW"},
        "model": {"name": "small_cnn"},
    }
    save_model_file(path, type(file.spec)(file.spec.arch, file.spec.info, config=config), file.state_dict)
    pictures = inputs_of("image").transpose(0, 3, 1, 2).repeat(2, 2).repeat(2, 3)
    np.savez(tmp_path / "rows.npz", x=np.zeros(3), shots=pictures)
    found = dlkit("predict", path, tmp_path / "rows.npz", "--json")
    assert found.code == 0 and len(found.out.splitlines()) == 3, found.err


def objects():
    return {"x": np.array([{}, {}], dtype=object)}


@pytest.mark.parametrize(
    ("kind", "arrays", "words"),
    [
        ("features", {"a": np.zeros((2, 5)), "b": np.zeros(2)}, "has no x to predict: it holds a, b"),
        ("features", {"x": np.zeros((2, 6))}, "2 samples of 6, the model takes features 5"),
        ("features", {"x": np.zeros(5)}, "needs 2 axes"),
        ("features", {"x": np.zeros((0, 5))}, "0 samples of 5"),
        ("features", {"x": np.array([["a"] * 5])}, "inputs must be numbers"),
        ("features", {"x": np.array([[0.0] * 5, [np.nan] * 5])}, "1 rows hold numbers that are not finite"),
        ("features", objects(), "holds Python objects"),
        ("sequence", {"x": np.zeros((2, 7, 3))}, "the model takes sequence 7x2"),
        ("sequence", {"x": np.zeros((2, 8, 2))}, "the model takes sequence 7x2"),
        ("image", {"x": np.zeros((2, 16, 16), np.uint8)}, "2 samples of 1x16x16, the model takes image 3x16x16"),
        ("image", {"x": np.zeros((2, 3, 16, 3), np.uint8)}, "which axes are what is not plain"),
        ("image", {"x": np.zeros((16, 16), np.uint8)}, "has shape (16, 16)"),
        ("image", {"x": np.full((2, 3, 16, 16), 300)}, "images of whole numbers are 0..255"),
        ("image", {"x": np.zeros((2, 3, 0, 16), np.uint8)}, "the model takes image"),
    ],
)
def test_arrays_that_do_not_fit(dlkit, models, tmp_path, kind, arrays, words):
    np.savez(tmp_path / "rows.npz", **arrays)
    done = dlkit("predict", models[kind], tmp_path / "rows.npz", "--out", tmp_path / "p.csv")
    assert done.code == 3 and words in done.err and "Traceback" not in done.err
    assert not (tmp_path / "p.csv").exists()


@pytest.mark.parametrize(
    ("content", "code", "words"), [(b"none", 3, "not an npz file"), (None, 3, "no such file"), (b"", 3, "not an npz")]
)
def test_files_that_hold_no_arrays(dlkit, models, tmp_path, content, code, words):
    if content is not None:
        (tmp_path / "rows.npz").write_bytes(content)
    done = dlkit("predict", models["image"], tmp_path / "rows.npz")
    assert done.code == code and words in done.err


def test_one_file_of_rows_at_a_time(dlkit, models, tmp_path):
    np.savez(tmp_path / "rows.npz", x=inputs_of("image"))
    done = dlkit("predict", models["image"], tmp_path / "rows.npz", tmp_path)
    assert done.code == 2 and "rows are taken from one file alone" in done.err
