"""`dlkit eval --worst FILE` of maps: which pictures, what is told of them, and the colours of the sheet."""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import cross_entropy

import dlkit as package
from dlkit.config import load_mapping
from dlkit.core.data import build_eval_split
from dlkit.core.evaluation import NOT_COUNTED, RIGHT, WRONG, SeenMap, WorstSample, class_colors, save_map_sheet
from dlkit.core.modelfile import read_model_file, save_model_file

COLORS = {"ground": [10, 20, 30], "top": [230, 25, 75], "shoe": [60, 180, 75]}
LEFT_OUT = [1, 2, 3]
NOTHING_COUNTED, NUM = 4, 9


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A U-Net after an epoch on pictures of blobs; the mask of one test picture is left out."""
    folder = tmp_path_factory.mktemp("maps")
    for split in ("train", "test"):
        for part in ("images", "masks"):
            (folder / split / part).mkdir(parents=True)
        for number in range(NUM):
            generator = np.random.default_rng([number, split == "test"])
            classes = np.kron(generator.integers(0, 3, (4, 4)), np.ones((4, 4), int))
            picture = (60 * classes + generator.integers(0, 60, (16, 16))).astype(np.uint8)
            mask = np.array([*COLORS.values()], np.uint8)[classes]
            mask[:3] = LEFT_OUT
            if split == "test" and number == NOTHING_COUNTED:
                mask[:] = LEFT_OUT
            Image.fromarray(picture).save(folder / split / "images" / f"{number}.png")
            Image.fromarray(mask).save(folder / split / "masks" / f"{number}.png")
    data = {
        "name": "maskfolder",
        "path": str(folder),
        "colors": COLORS,
        "ignored_colors": [LEFT_OUT],
        "mode": "grey",
        "batch_size": 4,
        "eval_batch_size": 4,
    }
    config = {
        "task": "segmentation",
        "data": data,
        "model": {"name": "unet", "width": 4, "depth": 2},
        "train": {"epochs": 1},
    }
    return package.train(config | {"log": {"tensorboard": False}}, out=folder / "run").model_path


def reference(model):
    """Loss, IoU and classes of each picture, pixel by pixel and in float64."""
    file, network = read_model_file(model), package.load_model(model).double()
    loaded = load_mapping(dict(file.spec.config))
    split = build_eval_split(loaded, file.spec.info, split="test", device=torch.device("cpu"))
    found = {}
    for batch in split.batches():
        for place, position in enumerate(batch.indices.tolist()):
            target = batch.targets[place].flatten()
            with torch.no_grad():
                logits = network(batch.inputs[place : place + 1].double())[0].flatten(1).T
            pairs = [(int(t), int(p)) for t, p in zip(target, logits.argmax(1), strict=True) if t != 255]
            classes = [number for number in range(3) if any(number in pair for pair in pairs)]
            ious = [
                sum(pair == (number, number) for pair in pairs) / sum(number in pair for pair in pairs)
                for number in classes
            ]
            kept = [cross_entropy(row, t).item() for row, t in zip(logits, target, strict=True) if t != 255]
            if kept:
                words = [
                    ", ".join(name for number, name in enumerate(COLORS) if number in said)
                    for said in map(set, zip(*pairs, strict=True))
                ]
                found[position] = (sum(kept) / len(kept), sum(ious) / len(ious), *words)
    return found


def test_they_are_those_of_the_highest_mean_cross_entropy(dlkit, model, tmp_path):
    done = dlkit("eval", model, "--worst", tmp_path / "w.png", "--num-worst", 20, "--json")
    assert done.code == 0, done.err
    told, wanted = json.loads(done.out)["worst"], reference(model)
    assert len(wanted) == NUM - 1 and NOTHING_COUNTED not in wanted
    order = [sample["position"] for sample in told]
    assert order == sorted(wanted, key=lambda position: -wanted[position][0])
    for sample in told:
        loss, iou, true, said = wanted[sample["position"]]
        assert sample["loss"] == pytest.approx(loss, rel=1e-4) and sample["iou"] == pytest.approx(iou)
        assert (sample["true"], sample["predicted"], sample["probability"]) == (true, said, None)
        assert sample["name"].endswith(f"test/images/{sample['position']}.png")
    run = json.loads((model.parent / "evaluation.json").read_text())
    assert [sample["position"] for sample in run["worst"]] == order and run["certain"] == []


def test_of_equal_ones_the_earlier(dlkit, model, tmp_path):
    file = read_model_file(model)
    zeros = {name: torch.zeros_like(tensor) for name, tensor in file.state_dict.items()}
    save_model_file(tmp_path / "zeros.pt", file.spec, zeros)
    done = dlkit("eval", tmp_path / "zeros.pt", "--worst", tmp_path / "w.png", "--num-worst", 5, "--json")
    told = json.loads(done.out)["worst"]
    assert [sample["position"] for sample in told] == [0, 1, 2, 3, 5]
    assert [sample["loss"] for sample in told] == pytest.approx([math.log(3)] * 5)


def test_so_many_and_no_more(dlkit, model, tmp_path):
    first = [
        json.loads(dlkit("eval", model, "--worst", tmp_path / "w.svg", "--num-worst", count, "--force", "--json").out)
        for count in (8, 3)
    ]
    assert first[1]["worst"] == first[0]["worst"][:3]
    assert json.loads(dlkit("eval", model, "--json").out)["worst"] == []


def test_the_sheet_has_the_colours_of_the_config(dlkit, model, tmp_path):
    assert dlkit("eval", model, "--worst", tmp_path / "w.png", "--num-worst", 2).code == 0
    pixels = np.asarray(Image.open(tmp_path / "w.png").convert("RGB")).reshape(-1, 3)
    num_pixels = {tuple(color): int((pixels == color).all(1).sum()) for color in (*COLORS.values(), NOT_COUNTED)}
    assert all(count > 100 for count in num_pixels.values()), num_pixels
    assert all((pixels == color).all(1).sum() > 100 for color in (RIGHT, WRONG))


@pytest.mark.parametrize(("count", "size"), [(0, (4, 4)), (1, (300, 8)), (30, (4, 6))])
def test_names_and_sizes_of_any_kind_are_drawn(tmp_path, count, size):
    name = "_$x_{$ a very long name of a class indeed"
    samples = [WorstSample(place, f"pics/{name}.png", name, name, None, 1.0, 0.5) for place in range(count)]
    seen = {
        place: SeenMap(torch.rand(*size, 3), torch.full(size, 255), torch.randint(0, 3, size)) for place in range(count)
    }
    save_map_sheet(tmp_path / "w.png", samples, seen, colors=class_colors({}, 3), names=[name] * 3)
    assert (tmp_path / "w.png").read_bytes()[:4] == b"\x89PNG"
