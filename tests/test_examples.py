"""Every YAML under examples/ runs, shortened."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

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


SCRIPTS = sorted({path.with_suffix(".py") for path in EXAMPLES if path.stem in MADE})


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_scripts_explain_themselves_and_make_nothing(script, tmp_path):
    done = subprocess.run([sys.executable, script, "--help"], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert "usage:" in done.stdout and "folder" in done.stdout and not list(tmp_path.iterdir())
    wrong = subprocess.run([sys.executable, script, "--cuont", "3"], cwd=tmp_path, capture_output=True)
    assert wrong.returncode == 2 and not list(tmp_path.iterdir())


@pytest.fixture
def garments():
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("garments", EXAMPLES[0].parent / "garments.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(not FASHION.is_dir(), reason="needs Debian's package dataset-fashion-mnist")
def test_masks_of_garments_are_exact(garments, monkeypatch, tmp_path):
    """Pillow's own flood fill and paste make the same pictures and masks of the same draws."""
    layers, grounds = [], []

    def paste(picture, mask, garment, shape, kind, random, real=garments.paste):
        twin = np.random.default_rng()
        twin.bit_generator.state = random.bit_generator.state
        layers[-1].append((garment, kind, twin))
        real(picture, mask, garment, shape, kind, random)

    def texture(random, real=garments.texture):
        grounds.append(real(random))
        layers.append([])
        return grounds[-1].copy()

    monkeypatch.setattr(garments, "paste", paste)
    monkeypatch.setattr(garments, "texture", texture)
    garments.main(tmp_path, 20, seed=3)
    made = [
        tmp_path / name / "images" / f"{number:05}.png"
        for name, count in (("train", 16), ("test", 4))
        for number in range(count)
    ]
    for path, ground, pasted in zip(made, grounds, layers, strict=True):
        picture = Image.fromarray(ground.clip(0, 255).astype(np.uint8))
        mask = Image.new("L", picture.size)
        for garment, kind, random in pasted:
            drawn, covered, place = turned(garment, random)
            picture.paste(drawn, place, covered)
            mask.paste(kind, place, covered)
        found = Image.open(path.parent.parent / "masks" / path.name)
        assert np.array_equal(found, mask) and np.array_equal(Image.open(path), picture)
    assert sum(len(pasted) > 1 for pasted in layers) > 3


def turned(garment, random):
    """A garment as the script turns it, what it covers, and the place of its left upper corner."""
    size, angle = int(random.integers(26, 44)), random.uniform(-30, 30)
    outside = Image.fromarray(
        np.pad(np.where(garment > 16, 255, 0).astype(np.uint8), 1)
    ).copy()  # which may be drawn on
    ImageDraw.floodfill(outside, (0, 0), 128)
    shape = Image.fromarray(np.asarray(outside)[1:-1, 1:-1] != 128)
    drawn = Image.fromarray(garment).resize((size, size), 2).rotate(angle, 2, expand=True)
    covered = shape.resize((size, size)).rotate(angle, expand=True)
    top, left = (int(random.integers(-size // 6, 64 - size + size // 6)) for _ in range(2))
    grown = (drawn.width - size) // 2
    return drawn, covered, (left - grown, top - grown)
