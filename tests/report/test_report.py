"""`dlkit report`: what stands on the page, of which runs there is one, and what is said where there is none."""

import base64
import io
import json
import re
import subprocess
import sys
from html import unescape

import numpy as np
import pytest
import torch
from PIL import Image

import dlkit as package
from dlkit.config import load_mapping
from dlkit.core.data import build_eval_split
from dlkit.core.evaluation import RIGHT, WRONG
from dlkit.core.modelfile import read_model_file
from dlkit.run_folders import EVALUATION_FILE, PREDICTIONS_FILE, read_evaluation


@pytest.fixture
def page_of(dlkit, tmp_path):
    """The text of the page that a command makes, without the script of Plotly, and what the command said."""

    def make(*arguments):
        done = dlkit("report", *arguments, "-o", tmp_path / "page.html", "--force")
        assert done.code == 0, done.err
        html = (tmp_path / "page.html").read_text()
        return re.sub(r'<script type="text/plain" id="plotly">.*?</script>', "", html, flags=re.DOTALL), done

    return make


def texts_of(html, tag):
    return [
        unescape(re.sub("<[^>]*>", "", text)) for text in re.findall(rf"<{tag}\b[^>]*>(.*?)</{tag}>", html, re.DOTALL)
    ]


def charts_of(html):
    return [json.loads(text) for text in re.findall(r'<script type="application/json">(.*?)</script>', html)]


def test_of_a_run_of_images(page_of, runs):
    html, _ = page_of(runs.one)
    found = read_evaluation(runs.one)
    assert texts_of(html, "h2") == [
        "Summary",
        "Curves",
        "Scores",
        "Mistakes",
        "Model",
        "Config",
        "Versions and hardware",
    ]
    assert {"Loss", "Accuracy", "Learning rate", "Throughput", "Confusion", "Calibration", "Class by class"} <= set(
        texts_of(html, "h3")
    )
    cells = texts_of(html, "td")
    assert f"{found.metrics['accuracy']:.2%}" in cells and f"{found.per_class[1]['recall']:.2%}" in cells
    low, high = found.intervals["accuracy"]
    assert f"{low:.2%} – {high:.2%}" in cells
    (confusion,) = [chart for chart in charts_of(html) if chart["traces"][0]["type"] == "heatmap"]
    assert confusion["traces"][0]["customdata"] == [list(row) for row in found.confusion]
    assert html.count("data:image/png;base64,") == len(found.worst) + len(found.certain)
    assert "Conv2d" in cells and "train.epochs" in cells


def test_curves_hold_every_epoch(page_of, runs):
    html, _ = page_of(runs.one, "--quick")
    rows = [json.loads(line) for line in (runs.one / "metrics.jsonl").read_text().splitlines()]
    epochs = [row for row in rows if row["event"] == "epoch"]
    traces = {trace["name"]: trace for trace in charts_of(html)[0]["traces"]}
    assert traces["validation"]["y"] == [row["val_loss"] for row in epochs]
    assert traces["train"]["x"] == [row["step"] for row in epochs]
    assert traces["train, each step"]["y"] == pytest.approx([row["loss"] for row in rows if row["event"] == "step"])


def test_quick_loads_no_torch(runs, tmp_path):
    code = "import sys; from dlkit.cli.app import main\ntry: main()\nexcept SystemExit: print('torch' in sys.modules)"
    arguments = ["report", str(runs.one), "--quick", "-o", str(tmp_path / "p.html"), "-q"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False" and (tmp_path / "p.html").exists()


def test_of_labels_and_of_numbers(page_of, runs):
    html, _ = page_of(runs.labels)
    assert (
        "Label by label" in texts_of(html, "h3")
        and "AUROC" in texts_of(html, "th")
        and "Confusion" not in texts_of(html, "h3")
    )
    html, _ = page_of(runs.numbers)
    assert {"Target by target", "Predicted and true target_1", "Errors of target_2"} <= set(texts_of(html, "h3"))
    assert "no pictures" not in html and "Calibration" not in html


def images_of(html):
    """What the image elements of a page hold, as arrays, and their palettes."""
    found = [
        Image.open(io.BytesIO(base64.b64decode(text))) for text in re.findall(r"data:image/\w+;base64,([^\"]+)", html)
    ]
    return [(np.asarray(image), image.getpalette()) for image in found]


def test_of_maps_truth_and_prediction_stand_beside_the_picture(page_of, runs):
    html, _ = page_of(runs.maps)
    found, images = read_evaluation(runs.maps), images_of(html)
    assert len(images) == 4 * len(found.worst) > 0 and found.certain == []
    file, network = read_model_file(runs.maps / "model.pt"), package.load_model(runs.maps / "model.pt")
    split = build_eval_split(
        load_mapping(dict(file.spec.config)), file.spec.info, split=found.split, device=torch.device("cpu")
    )
    (batch,) = split.batches()
    with torch.no_grad():
        predicted = network(batch.inputs).argmax(1)
    for row, sample in enumerate(found.worst):
        position = sample["position"]
        (_, _), (true, palette), (said, _), (error, colors) = images[4 * row : 4 * row + 4]
        assert (true == batch.targets[position].numpy()).all() and palette[:9] == [0, 0, 0, 128, 0, 0, 0, 128, 0]
        assert (said == predicted[position].numpy()).mean() > 0.95
        assert ((true != said) == error).all() and colors[:6] == [*RIGHT, *WRONG]
    assert f"there: {found.worst[0]['true']}" in texts_of(html, "span")
    assert f"loss {found.worst[0]['loss']:.3g}, IoU {found.worst[0]['iou']:.1%}" in texts_of(html, "span")
    assert [text for text in texts_of(html, "span") if text in {"0", "1", "2", "right", "wrong"}] == [
        *"012",
        "right",
        "wrong",
    ]
    html, _ = page_of(runs.maps, "--quick")
    assert "IoU" in texts_of(html, "th") and f"{found.worst[0]['iou']:.2%}" in texts_of(html, "td")


def test_a_network_of_ones_own_is_not_run(page_of, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(
        "from torch import nn\n\n\nclass Net(nn.Conv2d):\n    def __init__(self):\n        super().__init__(1, 3, 3, padding=1)\n"
    )
    data = {"name": "fake", "num_samples": 40, "shape": [1, 8, 8], "num_classes": 3, "batch_size": 16}
    config = {
        "task": "segmentation",
        "data": data,
        "model": "net.py:Net",
        "train": {"epochs": 1},
        "log": {"tensorboard": False},
    }
    html, _ = page_of(package.train(config, out=tmp_path / "run").run_dir)
    assert "There are no pictures, as " in html and "is your own code, which a file never runs" in html
    assert "data:image" not in html and "The highest loss" in texts_of(html, "h3")


def test_of_two_runs_what_sets_them_apart(page_of, runs):
    html, _ = page_of(runs.one, runs.two)
    assert texts_of(html, "h1") == ["one and two"]
    assert texts_of(html, "h2") == ["Runs", "Curves", "Scores", "Class by class", "Settings that differ"]
    cells = texts_of(html, "td")
    assert "optimizer.name" in cells and "sgd" in cells and "data.batch_size" not in cells
    one, two = (read_evaluation(run).metrics["accuracy"] for run in (runs.one, runs.two))
    assert f"{100 * (two - one):+.2f} points" in cells
    assert "Is it more than chance?" in texts_of(html, "h3") and {"test accuracy", "two − one"} <= set(cells)
    assert {trace["meta"]["group"] for trace in charts_of(html)[0]["traces"]} == {0, 1}


def test_hostile_names_are_texts(page_of, runs):
    html, _ = page_of(runs.hostile)
    assert "<img src=x" not in html and "<script>window" not in html
    assert "&lt;img src=x" in html and "b&amp;b" in html
    assert all(
        "<" not in text
        for chart in re.findall(r'<script type="application/json">(.*?)</script>', html)
        for text in [chart]
    )


SPEEDS = [
    {"model": name, "engine": "eager", "batch": 1, "median_ms": time, "p10_ms": time - 0.5, "p90_ms": time + 1}
    for name, time in (("before", 2.0), ("after", 3.0))
]


def test_what_quantize_and_prune_did(page_of, runs, tmp_path):
    import shutil

    run = shutil.copytree(runs.one, tmp_path / "run")
    sides = {
        name: {
            "name": name,
            "scores": {"split": "test", "num_samples": 20, "metrics": {"accuracy": score}},
            "costs": {"macs": macs},
        }
        for name, score, macs in (("before", 0.9, 1000), ("after", 0.875, 400))
    }
    (run / "model.pruned.report.json").write_text(
        json.dumps({"schema": "dlkit.prune/1", "sentences": ["MACs fell 2.5x"], "speeds": {"rows": SPEEDS}, **sides})
    )
    (run / "other.report.json").write_text('{"schema": "dlkit.prune/1"}')
    (run / "list.report.json").write_text("[]")
    html, _ = page_of(run, "--quick")
    assert [title for title in texts_of(html, "h3") if "runed" in title] == ["Pruned: model.pruned.pt"]
    assert {"-2.50 points", "40.0%"} <= set(texts_of(html, "td")) and "MACs fell 2.5x" in html
    (speeds,) = [chart for chart in charts_of(html) if chart["traces"][0].get("orientation") == "h"]
    assert speeds["traces"][0]["x"] == [3.0, 2.0] and speeds["traces"][0]["error_x"]["array"] == [1.0, 1.0]


def test_a_run_that_is_not_at_its_end(page_of, runs, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text('{"name": "run", "status": "running"}')
    html, _ = page_of(tmp_path / "run")
    assert "killed" in texts_of(html, "h1")[0]
    for name in ("metrics.jsonl", "config.resolved.yaml"):
        (tmp_path / "run" / name).write_bytes((runs.one / name).read_bytes())
    html, _ = page_of(tmp_path / "run")
    assert "Curves" in texts_of(html, "h2") and "best val_accuracy" in texts_of(html, "dt")


def test_files_that_are_damaged_are_told_and_left_out(page_of, runs, tmp_path):
    import shutil

    run = shutil.copytree(runs.one, tmp_path / "run")
    for name in (EVALUATION_FILE, PREDICTIONS_FILE, "model.pt"):
        (run / name).write_bytes(b"{")
    html, done = page_of(run)
    assert "evaluation.json: cannot be read" in done.err and "predictions.npz: cannot be read" in done.err
    assert "Layers are not listed" in html and "Scores" not in texts_of(html, "h2")


def test_data_that_are_gone_are_told_on_the_page(page_of, dlkit, tmp_path):
    import shutil

    from tests.conftest import EXAMPLES

    config = tmp_path / "c.yaml"
    shutil.copytree(EXAMPLES / "shapes", tmp_path / "shapes")
    data = f"{{name: imagefolder, path: {tmp_path / 'shapes'}, image_size: 16}}"
    config.write_text(f"data: {data}\nmodel: {{name: small_cnn, width: 4}}\ntrain: {{epochs: 1}}\n")
    assert dlkit("train", config, "--out", tmp_path / "run").code == 0
    shutil.rmtree(tmp_path / "shapes")
    html, _ = page_of(tmp_path / "run")
    assert "There are no pictures, as the data cannot be read" in html and "The highest loss" in texts_of(html, "h3")


def test_it_replaces_with_force_alone(dlkit, runs, tmp_path):
    page = tmp_path / "page.html"
    page.write_text("mine")
    refused = dlkit("report", runs.numbers, "-o", page)
    assert refused.code == 2 and "--force" in refused.err and page.read_text() == "mine"
    done = dlkit("report", runs.numbers, "-o", page, "--force", "--json")
    told = json.loads(done.out)
    assert told == {"schema": "dlkit.report/1", "file": str(page), "bytes": page.stat().st_size}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "nowhere is no run folder"),
        (["RUN", "-o", "page.pdf"], ".html"),
        (["RUN", "-o", "no/page.html"], "no folder"),
    ],
)
def test_mistakes_are_told_before_any_work(dlkit, runs, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    done = dlkit("report", *(runs.one if word == "RUN" else word for word in arguments))
    assert done.code == 2 and words in done.err and not list(tmp_path.iterdir())


def test_a_missing_extra_is_one_clear_error(dlkit, runs, tmp_path, monkeypatch):
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "plotly" else find(name, *rest)
    )
    done = dlkit("report", runs.one, "-o", tmp_path / "page.html")
    assert done.code == 2 and "pip install 'dlkit[report]'" in done.err and "plotly" in done.err
