"""Tables from the command line: train, resume, eval, predict, and the files that come of them."""

import csv
import json
import math
import random
from pathlib import Path

import pytest
import torch

CONFIG = """
data: {name: csv, path: houses.csv, target: price, test: 0.2, batch_size: 32}
model: mlp
log: {tensorboard: false}
"""
CITIES = {"Bonn": 3000.0, "Kiel": 0.0, "Ulm": -2000.0}


@pytest.fixture
def houses(tmp_path, monkeypatch):
    """A csv file of 300 prices around 30,000 that are all but linear; the test runs beside it."""
    draw, lines = random.Random(1), ["city,size,rooms,price"]
    for _ in range(300):
        city, size, rooms = draw.choice(sorted(CITIES)), draw.uniform(40, 300), draw.randint(1, 7)
        price = 8000 + 120 * size + 900 * rooms + CITIES[city] + draw.gauss(0, 300)
        lines.append(f"{city},{size:.1f},{rooms},{price:.0f}")
    (tmp_path / "houses.csv").write_text("\n".join(lines) + "\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def train(dlkit, write_config, houses):
    """`train(change, ...)` trains on the houses; what the command said."""

    def run(*changes, code=0):
        done = dlkit("train", write_config(CONFIG), "--out", "run", *changes)
        assert done.code == code, done.err
        return done

    return run


def read_csv(path):
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


def metrics_of(dlkit, *arguments):
    done = dlkit("eval", *arguments, "--json")
    assert done.code == 0, done.err
    return json.loads(done.out)["metrics"]


def test_prices_are_learned_by_default(train, dlkit, houses):
    done = train()
    assert "targets are standardized by their mean and deviation (3" in done.err
    tested = json.loads((houses / "run/summary.json").read_text())["test"]
    assert tested["r2"] > 0.95 and 100 < tested["mae"] < 2000
    assert metrics_of(dlkit, "run/model.pt") == pytest.approx(tested, rel=1e-4)
    rows = (houses / "run/metrics.csv").read_text().splitlines()
    last = dict(zip(rows[0].split(","), rows[-1].split(","), strict=True))
    assert float(last["val_loss"]) < 0.1 and float(last["val_mae"]) > 100
    shown = dlkit("inspect", "run/model.pt").out
    assert "city (Bonn, Kiel, Ulm), size, rooms" in shown and "1 number, price, standardized by mean" in shown
    info = torch.load("run/model.pt", weights_only=True)["spec"]["input"]
    assert info["target_mean"] == [pytest.approx(32600, rel=0.1)] and info["target_std"] == [
        pytest.approx(9000, rel=0.2)
    ]


def test_the_switch_leaves_targets_as_they_are(train):
    done = train("data.standardize_target=false", "train.epochs=1")
    assert "standardized" not in done.err
    assert torch.load("run/model.pt", weights_only=True)["spec"]["input"]["target_mean"] is None


@pytest.mark.parametrize(("loss", "standardized"), [("l1loss", True), ("HuberLoss", True), ("poissonnllloss", False)])
def test_losses_that_need_targets_as_they_are_get_them(train, houses, loss, standardized):
    train(f"loss={loss}", "train.epochs=1", "optimizer.lr=1e-6")
    assert (torch.load("run/model.pt", weights_only=True)["spec"]["input"]["target_mean"] is not None) == standardized
    assert f"standardize_target: {str(standardized).lower()}" in (houses / "run/config.resolved.yaml").read_text()


def test_a_run_goes_on_with_the_same_targets(train, dlkit, houses):
    train("train.epochs=4", "--out", "whole")
    train("train.epochs=4", "train.max_steps=10")
    done = dlkit(
        "train",
        "run/config.resolved.yaml",
        "--resume",
        "run",
        "train.max_steps=null",
        "train.epochs=4",
        "--extend",
        "tail",
    )
    assert done.code == 0, done.err
    both = [json.loads((houses / name / "summary.json").read_text())["steps"] for name in ("run", "whole")]
    assert both[0] == both[1]
    change = dlkit("train", "run/config.resolved.yaml", "--resume", "run", "data.standardize_target=false")
    assert change.code == 2 and "data.standardize_target: True in the checkpoint, False now" in change.err


def test_a_network_that_cannot_give_standardized_targets_is_refused(train):
    layers = "model={name: layers, layers: [{linear: 1}, sigmoid]}"
    done = train(layers, code=2)
    assert "the network ends in sigmoid" in done.err and "data.standardize_target: false" in done.err
    train(layers, "data.standardize_target=false", "train.epochs=1")


def test_classes_are_not_standardized(train):
    done = train("data.target=city", "data.standardize_target=true", code=2)
    assert "data.standardize_target: the targets are classes" in done.err
    assert "standardized" not in train("data.target=city", "train.epochs=1").err


def test_exported_programs_give_prices_and_weights_say_that_they_do_not(train, dlkit, houses):
    train("train.epochs=2")
    done = dlkit("export", "run/model.pt", "--format", "pt2", "-o", "prices.pt2")
    assert done.code == 0, done.err
    outputs = torch.export.load("prices.pt2").module()(torch.zeros(2, 5))
    assert 20_000 < outputs.mean().item() < 45_000
    done = dlkit("export", "run/model.pt", "--format", "safetensors", "-o", "prices.safetensors")
    assert "outputs are standardized: multiply them by" in done.out + done.err


@pytest.mark.parametrize("is_int8", [False, True])
def test_onnx_files_give_prices(train, dlkit, houses, quick, is_int8):
    runtime = pytest.importorskip("onnxruntime")
    train("train.epochs=5")
    words = ["export", "run/model.pt", "--format", "onnx", "-o", "prices.onnx"]
    if is_int8:
        words = ["quantize", "run/model.pt", "--dynamic", "--export", "onnx", "-o", "prices.pt"]
    done = dlkit(*words)
    assert done.code == 0, done.err
    (outputs,) = runtime.InferenceSession("prices.onnx").run(None, {"input": torch.zeros(3, 5).numpy()})
    assert outputs.shape == (3, 1) and 20_000 < outputs.mean() < 45_000


def test_compressed_networks_keep_their_units(train, dlkit):
    train("train.epochs=10")
    before = metrics_of(dlkit, "run/model.pt")
    for number, words in enumerate((("quantize", "--dynamic"), ("prune", "--amount", "20%", "--finetune", "1"))):
        done = dlkit(words[0], "run/model.pt", *words[1:], "-o", f"small{number}.pt")
        assert done.code == 0, done.err
        after = metrics_of(dlkit, f"small{number}.pt")
        assert after["r2"] > 0.9 and math.isclose(after["mae"], before["mae"], rel_tol=1)


def test_rows_are_predicted_in_the_units_of_the_data(train, dlkit, houses):
    train()
    # other columns beside those of training, another order and another way of writing, no target
    lines = ["id;rooms;city;size", "a-1;3;Ulm;100,5", "a-2;7;Bonn;1.299,0", "a-3;1;Kiel;40"]
    (houses / "new.csv").write_text("\n".join(lines) + "\n")
    done = dlkit("predict", "run/model.pt", "new.csv", "--out", "preds.csv")
    assert done.code == 0 and "price of 3 rows: preds.csv" in done.out and "semicolons" in done.err
    rows = read_csv("preds.csv")
    assert list(rows[0]) == ["id", "rooms", "city", "size", "predicted_price"]
    assert [row["id"] for row in rows] == ["a-1", "a-2", "a-3"] and rows[0]["size"] == "100,5"
    assert 18_000 < float(rows[0]["predicted_price"]) < 26_000 < float(rows[1]["predicted_price"])
    told = [json.loads(line) for line in dlkit("predict", "run/model.pt", "new.csv", "--json").out.splitlines()]
    assert [line["line"] for line in told] == [2, 3, 4] and told[0]["schema"] == "dlkit.predict/1"
    assert [line["values"][0] for line in told] == pytest.approx([float(row["predicted_price"]) for row in rows])
    shown = dlkit("predict", "run/model.pt", "houses.csv").out
    assert "and 280 more rows" in shown and "price" in shown


def test_predictions_are_those_of_eval(train, dlkit, houses):
    train("train.epochs=3", "data.test=none")
    assert dlkit("predict", "run/model.pt", "houses.csv", "-o", "preds.csv").code == 0
    errors = [abs(float(row["predicted_price"]) - float(row["price"])) for row in read_csv("preds.csv")]
    (houses / "all.yaml").write_text("data: {name: csv, path: houses.csv, target: price, val: none}\nmodel: mlp\n")
    scores = metrics_of(dlkit, "run/model.pt", "--data", "all.yaml", "--split", "train")
    assert sum(errors) / len(errors) == pytest.approx(scores["mae"], rel=1e-4)


def test_classes_of_rows_come_with_their_probability(train, dlkit, houses):
    train("data.target=city", "train.epochs=2")
    done = dlkit("predict", "run/model.pt", "houses.csv", "--out", "preds.csv")
    assert done.code == 0, done.err
    row = read_csv("preds.csv")[0]
    assert row["predicted_city"] in CITIES and 1 / 3 <= float(row["probability"]) <= 1
    told = json.loads(dlkit("predict", "run/model.pt", "houses.csv", "--json", "--topk", 3).out.splitlines()[0])
    assert told["predictions"][0]["class"] == row["predicted_city"]
    assert sum(entry["probability"] for entry in told["predictions"]) == pytest.approx(1)
    again = dlkit("predict", "run/model.pt", "preds.csv", "--out", "twice.csv")
    assert again.code == 3 and "'predicted_city' already" in again.err and not (houses / "twice.csv").exists()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("size,rooms\n1,2\n", "no column 'city', which the training file has"),
        ("city,size,rooms\nRom,1,2\n", "column 'city' holds 'Rom', which the training file lacks"),
        ("city,size,rooms\nBonn,1,2\nBonn,x,2\n", "new.csv:3: column 'size' is not a number: 'x'"),
        ("city,size,rooms\nBonn,,2\n", "new.csv:2: column 'size' is empty"),
        ("city,size,rooms\n", "a header but no rows"),
    ],
)
def test_rows_that_do_not_fit_are_told_before_anything_is_written(train, dlkit, houses, text, sentence):
    train("train.epochs=1")
    (houses / "new.csv").write_text(text)
    done = dlkit("predict", "run/model.pt", "new.csv", "--out", "preds.csv")
    assert done.code == 3 and sentence in done.err and not (houses / "preds.csv").exists()


def test_where_predictions_may_be_written(train, dlkit, houses):
    train("train.epochs=1")
    before = (houses / "houses.csv").read_text()
    taken = dlkit("predict", "run/model.pt", "houses.csv", "--out", "houses.csv")
    assert taken.code == 2 and "is there already" in taken.err
    own = dlkit("predict", "run/model.pt", "houses.csv", "--out", "houses.csv", "--force")
    assert own.code == 2 and "houses.csv is what is predicted" in own.err
    assert (houses / "houses.csv").read_text() == before
    ending = dlkit("predict", "run/model.pt", "houses.csv", "--out", "preds.txt")
    assert ending.code == 2 and ".csv" in ending.err
    two = dlkit("predict", "run/model.pt", "houses.csv", "houses.csv")
    assert two.code == 2 and "rows are taken from one file alone" in two.err
