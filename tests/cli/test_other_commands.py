"""eval, predict, list, doctor, --version: what they print and that the numbers are right."""

import json

import pytest
import torch
from PIL import Image
from torchmetrics.functional import classification as torchmetrics

import dlkit as package
from dlkit.core.data import DataInfo, build_eval_split, restore_targets
from dlkit.core.modelfile import ModelSpec, read_model_file, save_model_file
from dlkit.core.models import Arch, build_model
from dlkit.core.trained_config import own_config
from dlkit.quantize.int8 import available_kernels

CLASSES = """
data: {name: digits, batch_size: 64}
model: {name: small_cnn, width: 8}
train: {epochs: 2}
optimizer: {name: adamw, lr: 0.01}
log: {tensorboard: false}
"""
NUMBERS = """
data: {name: csv, path: ./table.csv, target: y, test: 0.2, batch_size: 16}
model: {name: mlp, hidden: [8]}
train: {epochs: 3}
log: {tensorboard: false}
"""


@pytest.fixture(scope="module")
def digits_model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits")
    (folder / "cfg.yaml").write_text(CLASSES)
    return package.train(folder / "cfg.yaml", out=folder / "run")


@pytest.fixture
def numbers_model(tmp_path):
    rows = [f"{index / 10},{(index * 7) % 5},{3 * index / 10 + 1}" for index in range(100)]
    (tmp_path / "table.csv").write_text("a,b,y\n" + "\n".join(rows) + "\n")
    (tmp_path / "numbers.yaml").write_text(NUMBERS)
    return package.train(tmp_path / "numbers.yaml", out=tmp_path / "run")


def outputs_of(path):
    file = read_model_file(path)
    split = build_eval_split(own_config(file), file.spec.info, split="test", device=torch.device("cpu"))
    model = package.load_model(path)
    with torch.inference_mode():
        pairs = [(model(batch.inputs), batch.targets) for batch in split.batches()]
    return torch.cat([pair[0] for pair in pairs]), torch.cat([pair[1] for pair in pairs])


def test_eval_numbers(dlkit, digits_model):
    done = dlkit("eval", digits_model.model_path, "--json", "--tta")
    judged = json.loads(done.out)
    outputs, targets = outputs_of(digits_model.model_path)
    labels = outputs.argmax(1)
    assert judged["schema"] == "dlkit.eval/1" and judged["num_samples"] == len(targets) == 359
    assert judged["metrics"]["accuracy"] == pytest.approx((labels == targets).double().mean().item(), abs=1e-12)
    assert judged["metrics"]["accuracy"] == pytest.approx(digits_model.metrics["accuracy"], abs=0.01)
    top5 = (outputs.topk(5).indices == targets[:, None]).any(1).double().mean().item()
    assert judged["metrics"]["top5"] == pytest.approx(top5) and 0 < judged["metrics"]["accuracy_tta"] <= 1
    f1 = torchmetrics.multiclass_f1_score(labels, targets, num_classes=10, average="macro").item()
    assert judged["metrics"]["macro_f1"] == pytest.approx(f1, abs=1e-6)
    confusion = torch.tensor(judged["confusion"])
    assert confusion.sum() == 359 and confusion.diag().sum() == (labels == targets).sum()
    assert confusion.sum(1).tolist() == torch.bincount(targets, minlength=10).tolist()
    for name in ("precision", "recall", "f1_score"):
        expected = getattr(torchmetrics, f"multiclass_{name}")(labels, targets, num_classes=10, average="none").tolist()
        assert [row[name.removesuffix("_score")] for row in judged["per_class"]] == pytest.approx(expected, abs=1e-6)
    for row in judged["per_class"]:
        number = int(row["name"])
        hits = confusion[number, number].item()
        assert row["recall"] == pytest.approx(hits / confusion[number].sum().item(), abs=1e-6)
        assert row["precision"] == pytest.approx(hits / max(confusion[:, number].sum().item(), 1), abs=1e-6)


def test_pictures_of_a_size_that_the_network_does_not_take(dlkit, tmp_path):
    """An mlp takes pictures of one size."""
    info = DataInfo("classification", "image", (1, 8, 8), 10, None, None, None)
    arch = Arch("dlkit", "mlp", {"input_size": [1, 8, 8], "num_classes": 10})
    save_model_file(tmp_path / "model.pt", ModelSpec(arch, info), build_model(arch).state_dict())
    data = "data: {name: fake, num_classes: 10, shape: [1, 9, 8], num_samples: 40}"
    (tmp_path / "larger.yaml").write_text(f"{data}\nmodel: mlp\n")
    done = dlkit("eval", tmp_path / "model.pt", "--data", tmp_path / "larger.yaml")
    assert done.code == 3 and "error: the network does not run on samples of 1x9x8: " in done.err


def test_eval_tables_and_picture(dlkit, digits_model, tmp_path):
    done = dlkit("eval", digits_model.model_path, "--confusion", tmp_path / "confusion.png", "--split", "val")
    assert done.code == 0, done.err
    for text in ("accuracy", "precision", "recall", "F1", "confusion", "val samples"):
        assert text in done.out
    with Image.open(tmp_path / "confusion.png") as picture:
        assert picture.format == "PNG" and min(picture.size) > 300


def test_eval_of_a_regression(dlkit, numbers_model):
    judged = json.loads(dlkit("eval", numbers_model.model_path, "--json").out)["metrics"]
    info = read_model_file(numbers_model.model_path).spec.info
    outputs, targets = (restore_targets(values, info) for values in outputs_of(numbers_model.model_path))
    assert judged["mse"] == pytest.approx((outputs - targets).square().mean().item(), rel=1e-5)
    assert judged["mae"] == pytest.approx((outputs - targets).abs().mean().item(), rel=1e-5)
    assert judged["rmse"] ** 2 == pytest.approx(judged["mse"])
    residual, total = (outputs - targets).square().sum(), (targets - targets.mean()).square().sum()
    assert judged["r2"] == pytest.approx(1 - (residual / total).item(), abs=1e-4)


def test_regression_has_no_confusion(dlkit, numbers_model, tmp_path):
    done = dlkit("eval", numbers_model.model_path, "--confusion", tmp_path / "x.png")
    assert (
        done.code == 2
        and "only a model of classes has a confusion matrix" in done.err
        and not (tmp_path / "x.png").exists()
    )


def test_predict_agrees_with_the_model(dlkit, digits_model, tmp_path):
    """Images written out as PNG files get the same classes as the test split they come from."""
    file = read_model_file(digits_model.model_path)
    split = build_eval_split(own_config(file), file.spec.info, split="test", device=torch.device("cpu"))
    batch = next(iter(split.batches()))
    mean, std = file.spec.info.mean[0], file.spec.info.std[0]
    folder = tmp_path / "images"
    folder.mkdir()
    for index in range(12):
        pixels = ((batch.inputs[index, 0] * std + mean) * 255).round().clamp(0, 255).byte()
        Image.fromarray(pixels.numpy()).save(folder / f"{index:02d}.png")
    done = dlkit("predict", digits_model.model_path, folder, "--topk", 3, "--json")
    lines = [json.loads(line) for line in done.out.splitlines()]
    with torch.inference_mode():
        probabilities = package.load_model(digits_model.model_path)(batch.inputs[:12]).softmax(1)
    assert [line["predictions"][0]["class"] for line in lines] == [
        str(label) for label in probabilities.argmax(1).tolist()
    ]
    for line, row in zip(lines, probabilities, strict=True):
        assert [entry["probability"] for entry in line["predictions"]] == pytest.approx(
            row.topk(3).values.tolist(), abs=1e-4
        )
    table = dlkit("predict", digits_model.model_path, folder / "00.png")
    assert table.code == 0 and "00.png" in table.out and "%" in table.out


@pytest.mark.parametrize("make", ["missing", "text", "folder"])
def test_predict_refuses_what_is_no_image(dlkit, digits_model, tmp_path, make):
    path = tmp_path / "x.png"
    if make == "text":
        path.write_text("no image")
    elif make == "folder":
        path.mkdir()
    done = dlkit("predict", digits_model.model_path, path)
    assert done.code == 3 and "x.png" in done.err


def test_predict_goes_on_after_a_broken_file(dlkit, digits_model, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("a.png", "c.png"):
        Image.new("L", (8, 8)).save(folder / name)
    (folder / "b.png").write_text("no image")
    done = dlkit("predict", digits_model.model_path, folder)
    assert done.code == 3 and "b.png" in done.err
    assert "a.png" in done.out and "c.png" in done.out and "b.png" not in done.out
    lines = [json.loads(line) for line in dlkit("predict", digits_model.model_path, folder, "--json").out.splitlines()]
    assert ["error" in line for line in lines] == [False, True, False]
    saved = dlkit("predict", digits_model.model_path, folder, "--out", tmp_path / "preds.csv")
    assert saved.code == 3 and "3 images: " in saved.out
    head, *rows = (tmp_path / "preds.csv").read_text().splitlines()
    assert head == "image,prediction,probability,problem" and len(rows) == 3
    assert ",,,".join(("b.png", "")) in rows[1] and "not a readable image" in rows[1] and rows[0].endswith(",")


def test_predict_takes_no_folder_for_a_model_of_tables(dlkit, numbers_model, tmp_path):
    done = dlkit("predict", numbers_model.model_path, tmp_path)
    assert done.code == 2 and "rows are taken from one file alone" in done.err


def test_list(dlkit):
    kinds = json.loads(dlkit("list", "--json").out)["kinds"]
    assert kinds["models"] >= 85 and kinds["optimizers"] >= 13 and kinds["transforms"] >= 30
    names = json.loads(dlkit("list", "optimizers", "ada", "--json").out)["names"]
    assert {"adam", "adamw", "Adagrad"} <= {row["name"] for row in names}
    assert "small_cnn" in dlkit("list", "models", "small").out
    wrong = dlkit("list", "modles")
    assert wrong.code == 2 and "Did you mean 'models'?" in wrong.err


def test_doctor(dlkit):
    done = dlkit("doctor", "--json")
    findings = {row["name"]: row for row in json.loads(done.out)["findings"]}
    assert done.code == 0 and findings["torch"]["text"] == torch.__version__.split("+")[0]
    assert findings["torchvision match"]["status"] == "ok" and "cores" in findings["cpu threads"]["text"]
    assert "torchvision match" in dlkit("doctor").out


def test_doctor_lists_what_runs_int8(dlkit, monkeypatch):
    def found():
        return {row["name"]: row for row in json.loads(dlkit("doctor", "--json").out)["findings"]}

    here = found()
    assert "exactly" in here["int8 reference"]["text"] and "without weights" in here["int8 plain"]["text"]
    assert {name for name in here if name.startswith("int8 ")} == {
        f"int8 {name}" for name in ("onednn", "fbgemm", "qnnpack", "plain", "reference")
    }
    assert here["onnxruntime"]["text"][0].isdigit() and "C++ compiler" in here
    monkeypatch.setattr("shutil.which", lambda name: None)
    for kernels in available_kernels():
        if kernels.name not in ("plain", "reference"):
            monkeypatch.setattr(type(kernels), "is_available", lambda self: False)
    missing = found()
    assert "fbgemm does not run here: this torch has no kernels" in missing["int8 fbgemm"]["text"]
    assert missing["int8 kernels"]["status"] == "warn" and "pip install" in missing["int8 kernels"]["fix"]
    assert "none here; the engines compile and aoti need one" in missing["C++ compiler"]["text"]


def test_doctor_tells_a_mismatch_and_goes_on(dlkit, monkeypatch):
    def broken(*_):
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr("torchvision.ops.nms", broken)
    done = dlkit("doctor", "--json")
    findings = {row["name"]: row for row in json.loads(done.out)["findings"]}
    assert done.code == 1 and findings["torchvision match"]["status"] == "bad"
    assert "pip install" in findings["torchvision match"]["fix"] and "disk here" in findings


def test_version(dlkit):
    done = dlkit("--version")
    assert done.code == 0 and package.__version__ in done.out and "torchvision" in done.out


def test_no_arguments_show_help(dlkit):
    assert "train" in dlkit().out + dlkit().err


@pytest.mark.parametrize(
    "words",
    [
        ("shapecalc", "conv", "--k", 3, "--in", 8),
        ("shape-calc", "conv", "--k", 3, "--in", 8),
        ("lrplot", "cosine", "--lr", 1, "--steps", 9),
    ],
)
def test_other_spellings_of_commands(dlkit, words):
    assert dlkit(*words).code == 0


def test_a_folder_without_splits_is_scored_whole(dlkit, tmp_path):
    """A model of small pictures on a folder that nothing is held out of: every picture counts, matched by class name."""
    root = tmp_path / "pictures"
    for name, shade in (("dark", 40), ("light", 210)):
        (root / name).mkdir(parents=True)
        for index in range(10):
            Image.new("RGB", (12, 12), (shade + index, shade, shade)).save(root / name / f"{index}.png")
    data = {"name": "imagefolder", "path": str(root), "image_size": 12, "batch_size": 4}
    values = {
        "data": data,
        "model": {"name": "small_cnn", "width": 4},
        "train": {"epochs": 2},
        "log": {"tensorboard": False},
    }
    result = package.train(values, out=tmp_path / "run")
    judged = json.loads(dlkit("eval", result.model_path, "--data", f"imagefolder:{root}", "--json").out)
    assert judged["num_samples"] == 20 and sorted(judged["classes"]) == ["dark", "light"]
    asked = dlkit("eval", result.model_path, "--data", f"imagefolder:{root}", "--split", "test")
    assert asked.code == 3 and "no test split" in asked.err
