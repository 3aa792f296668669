"""Every YAML under examples/ runs, shortened."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).resolve().parent.parent / "examples").rglob("*.yaml"))
MADE = {
    "turned_clothes": "turned_clothes.csv",
    "rare_shapes": "rare_shapes.npz",
    "garments": "",
}  # by the script beside it
FASHION = Path("/usr/share/datasets/fashion-mnist")
REAL = {"fashion_mnist", "fashion_mnist_fast", "fashion_mnist_best"}


def test_all_are_here():
    names = {path.stem for path in EXAMPLES}
    assert names == {
        "digits",
        "timm",
        "fashion_mnist",
        "fashion_mnist_fast",
        "fashion_mnist_best",
        "imagefolder",
        "csv_regression",
        "layers",
        "lstm",
        "custom",
        "transfer",
        "distill",
        "muon",
        "multilabel",
        "growing",
        "rare_shapes",
        "repeats",
        "arrays",
        "huggingface",
        "image_table",
        "turned_clothes",
        "garments",
    }
    assert len(EXAMPLES) == len(names)  # none hides behind another's name


def make_small(path, folder):
    """Returns the changes that let an example run on little of the real FashionMNIST, or on what its script makes."""
    if path.stem in MADE:
        subprocess.run([sys.executable, path.with_suffix(".py"), folder, "400"], check=True)
        return [f"data.path={folder / MADE[path.stem]}"]
    return ["data.limit=1000" if path.stem in REAL else "data.num_samples=400"]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_checks_and_trains(dlkit, path, tmp_path):
    if path.stem == "huggingface":
        pytest.importorskip("datasets")
    assert dlkit("config", "check", path).code == 0
    changes = ["train.epochs=2", "train.max_steps=6", "log.graph=false"]
    if path.stem in {*REAL, "multilabel", "turned_clothes", "garments"} and not FASHION.is_dir():
        pytest.skip("the real FashionMNIST is not on this machine: apt install dataset-fashion-mnist")
    if path.stem in {*MADE, *REAL, "multilabel"}:
        changes += make_small(path, tmp_path)
    done = dlkit("train", path, *changes, "--out", tmp_path / "run", "--json")
    assert done.code == 0, done.err
    result = json.loads(done.out.splitlines()[-1])
    assert result["status"] == "finished" and result["test"]
    own = {"custom": ["--model", f"{path.parent / 'custom' / 'spiral_net.py'}:SpiralNet"], "multilabel": []}
    options = [*own[path.stem], "--data", tmp_path / "run" / "config.resolved.yaml"] if path.stem in own else []
    judged = dlkit("eval", tmp_path / "run" / "model.pt", "--json", *options)
    assert judged.code == 0, judged.err
    metrics = json.loads(judged.out)["metrics"]
    assert metrics["loss"] == pytest.approx(result["test"]["loss"], rel=1e-4)
