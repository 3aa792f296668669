"""What a run keeps of each sample: read back without torch, equal to what the model file says, and refused where it is broken."""

import io
import json
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch

import dlkit
from dlkit.core.data import build_data
from dlkit.errors import FileRefused
from dlkit.run_folders import (
    PREDICTIONS_FILE,
    KeptPredictions,
    PredictionFacts,
    read_predictions,
    save_predictions,
)

CLASSES = {"name": "fake", "num_samples": 60, "shape": [5], "num_classes": 3, "batch_size": 7, "val": 0.3}


def train(folder, **sections):
    data = sections.pop("data", CLASSES)
    config = {
        "data": data,
        "model": {"name": "mlp", "hidden": [4]},
        "train": {"epochs": 2},
        "log": {"tensorboard": False},
    }
    result = dlkit.train(config | sections, out=folder)
    return result, read_predictions(folder / PREDICTIONS_FILE)


def outputs_of(result, split):
    """Outputs of the model file for a split of the run's data, in order, and targets."""
    model = dlkit.load_model(result.model_path)
    with torch.no_grad():
        return torch.cat([model(batch.inputs) for batch in split.batches()])


def splits_of(result):
    from dlkit.config import load_config

    return build_data(load_config(result.run_dir / "config.resolved.yaml"), seed=0, device=torch.device("cpu"))


@pytest.mark.parametrize(
    "more", [{}, {"checkpoint": {"average": 2}}, {"ema": {"decay": 0.5}}], ids=["best", "mean", "ema"]
)
def test_classes_are_those_of_the_model_file(tmp_path, more):
    result, kept = train(tmp_path / "run", data={**CLASSES, "test": 0.4}, **more)
    test = splits_of(result).test
    shares = outputs_of(result, test).double().softmax(1)
    assert (kept.facts.task, kept.facts.split, kept.facts.names) == ("classification", "test", ("0", "1", "2"))
    assert (
        kept.targets.tolist() == test.sample_targets().tolist() and kept.predicted.tolist() == shares.argmax(1).tolist()
    )
    assert kept.positions.tolist() == list(range(24)) and kept.numbers.tolist() == test.sample_numbers().tolist()
    np.testing.assert_allclose(kept.probabilities, shares.numpy(), atol=1e-7)
    assert kept.confidence.tolist() == kept.probabilities.max(1).tolist()
    assert kept.likelihood.tolist() == kept.probabilities[np.arange(24), kept.targets].tolist()
    assert (kept.predicted == kept.targets).mean() == pytest.approx(result.metrics["accuracy"], abs=1e-12)


def test_without_a_test_split_it_is_validation_and_without_both_nothing(tmp_path):
    result, kept = train(tmp_path / "a", data={**CLASSES, "test": "none"})
    assert kept.facts.split == "val" and result.metrics == {}
    assert (kept.predicted == kept.targets).mean() == pytest.approx(result.best["value"], abs=1e-12)
    _, kept = train(tmp_path / "b", eval={"test": False}, data={**CLASSES, "test": 0.4})
    assert kept.facts.split == "val"
    dlkit.train(
        {"data": {**CLASSES, "val": "none", "test": "none"}, "model": "mlp", "train": {"epochs": 1}}, out=tmp_path / "c"
    )
    assert not (tmp_path / "c" / PREDICTIONS_FILE).exists()


def test_numbers_are_in_the_units_of_the_data(tmp_path):
    generator = np.random.default_rng(0)
    inputs, targets = (
        generator.normal(size=(40, 3)).astype(np.float32),
        100 + 5 * generator.normal(size=(40, 2)).astype(np.float32),
    )
    np.savez(tmp_path / "rows.npz", x=inputs, y=targets)
    _, kept = train(tmp_path / "run", data={"name": "npz", "path": str(tmp_path / "rows.npz"), "val": 0.5})
    assert kept.probabilities is None and kept.facts.task == "regression" and len(kept.facts.names) == 2
    np.testing.assert_allclose(kept.targets, targets[kept.numbers], rtol=1e-6)
    assert 90 < kept.predicted.mean() < 110


def test_labels_are_those_above_their_thresholds(tmp_path):
    generator = np.random.default_rng(0)
    inputs, targets = (
        generator.normal(size=(60, 3)).astype(np.float32),
        (generator.normal(size=(60, 4)) > 0.5).astype(np.uint8),
    )
    np.savez(tmp_path / "rows.npz", x=inputs, y=targets)
    data = {"name": "npz", "path": str(tmp_path / "rows.npz"), "val": 0.5}
    result, kept = train(tmp_path / "run", data=data, task="multilabel")
    thresholds = torch.load(result.model_path, weights_only=True)["spec"]["input"]["thresholds"]
    assert kept.targets.tolist() == targets.astype(bool)[kept.numbers].tolist()
    assert kept.predicted.tolist() == (kept.probabilities >= np.asarray(thresholds, dtype=np.float64)).tolist()


def test_labels_that_the_loss_ignores_are_left_out(tmp_path):
    _, kept = train(tmp_path / "run", data={**CLASSES, "val": 0.5}, loss={"name": "cross_entropy", "ignore_index": 1})
    assert 1 not in kept.targets and len(kept.targets) < 30 and len(set(kept.numbers.tolist())) == len(kept.targets)


def test_of_too_many_numbers_two_shares_stay_or_nothing(tmp_path):
    path = tmp_path / "p.npz"
    assert save_predictions(path, kept_of(30), most_numbers=59)
    kept = read_predictions(path)
    assert kept.probabilities is None and len(kept.confidence) == len(kept.likelihood) == 30
    assert not save_predictions(tmp_path / "none.npz", kept_of(30), most_numbers=29)
    assert not (tmp_path / "none.npz").exists()


def kept_of(size=3):
    facts = PredictionFacts("classification", "test", ("<b>", "ö"), {"samples": size, "targets": "ab"})
    shares = np.full((size, 2), 0.5, np.float32)
    places = np.arange(size, dtype=np.int32)
    return KeptPredictions(facts, places, places, places % 2, places % 2, shares, shares[:, 0], shares[:, 1])


def test_reading_loads_no_torch(tmp_path):
    save_predictions(tmp_path / "p.npz", kept_of())
    code = "import sys, pathlib; from dlkit.run_folders import read_predictions as read\n"
    code += "print(read(pathlib.Path(sys.argv[1])).facts.names, 'torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "p.npz")], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "('<b>', 'ö') False"


def altered(path, **arrays):
    """The file with other arrays, or without those that are None."""
    with np.load(path) as found:
        new = {name: found[name] for name in found} | arrays
    buffer = io.BytesIO()
    np.savez(buffer, **{name: value for name, value in new.items() if value is not None})
    path.write_bytes(buffer.getvalue())


def of_facts(**changes):
    facts = {
        "format": "dlkit.predictions",
        "version": 1,
        "task": "classification",
        "split": "test",
        "names": ["a"],
        "samples": {},
    }
    return np.frombuffer(json.dumps(facts | changes).encode(), dtype=np.uint8)


@pytest.mark.parametrize(
    "arrays",
    [
        {"targets": None},
        {"facts": None},
        {"numbers": np.arange(2)},
        {"targets": np.zeros(3)},
        {"targets": np.zeros((3, 2), np.int32), "predicted": np.zeros((3, 2), np.int32)},
        {"confidence": np.zeros(2, np.float32)},
        {"facts": of_facts(version=2)},
        {"facts": of_facts(task="poetry")},
        {"facts": of_facts(names=[1])},
        {"facts": of_facts(more=1)},
        {"facts": np.frombuffer(b"[1]", np.uint8)},
        {"targets": np.array([print, None, {}], dtype=object)},
    ],
    ids=lambda arrays: "-".join(arrays),
)
def test_other_contents_are_refused(tmp_path, arrays):
    save_predictions(tmp_path / "p.npz", kept_of())
    altered(tmp_path / "p.npz", **arrays)
    with pytest.raises(FileRefused, match=r"p\.npz: cannot be read as predictions"):
        read_predictions(tmp_path / "p.npz")


def test_damage_and_bombs_are_refused(tmp_path):
    path = tmp_path / "p.npz"
    save_predictions(path, kept_of(200))
    whole = path.read_bytes()
    for place in range(0, len(whole), 97):
        path.write_bytes(whole[:place])
        with pytest.raises(FileRefused):
            read_predictions(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("targets.npy", "w") as file:
        for _ in range(300):
            file.write(bytes(2**20))
    with pytest.raises(FileRefused, match="holds more than"):
        read_predictions(path)


def test_maps_are_kept_as_pixels_of_each_picture(tmp_path):
    data = {
        "name": "fake",
        "num_samples": 40,
        "shape": [1, 8, 8],
        "num_classes": 3,
        "batch_size": 7,
        "eval_batch_size": 5,
    }
    result, kept = train(
        tmp_path / "run", data=data, task="segmentation", model={"name": "unet", "width": 4, "depth": 2}
    )
    split = splits_of(result).test
    said = outputs_of(result, split).argmax(1)
    true = torch.cat([batch.targets for batch in split.batches()])
    assert (kept.facts.task, len(kept.targets)) == ("segmentation", split.num_samples)
    for picture in range(split.num_samples):
        for label in range(3):
            is_true, is_said = true[picture] == label, said[picture] == label
            assert kept.targets[picture, label] == is_true.sum() and kept.predicted[picture, label] == is_said.sum()
            assert kept.right[picture, label] == (is_true & is_said).sum()
    told = json.loads((result.run_dir / "evaluation.json").read_text())
    for name in ("miou", "dice", "pixel_accuracy"):
        low, high = told["intervals"][name]
        assert low < told["metrics"][name] < high
    assert len(told["worst"]) == min(24, split.num_samples)
