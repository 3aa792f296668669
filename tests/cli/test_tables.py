"""Tables from the command line: train, resume, eval, predict, and the files that come of them."""

import json
import math
import random

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
    assert "city (Bonn, Kiel, Ulm), size, rooms" in shown and "1 numbers, price, standardized by mean" in shown
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
    done = dlkit("train", "run/config.resolved.yaml", "--resume", "run", "train.max_steps=null", "train.epochs=4")
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


def test_compressed_networks_keep_their_units(train, dlkit):
    train("train.epochs=10")
    before = metrics_of(dlkit, "run/model.pt")
    for number, words in enumerate((("quantize", "--dynamic"), ("prune", "--amount", "20%", "--finetune", "1"))):
        done = dlkit(words[0], "run/model.pt", *words[1:], "-o", f"small{number}.pt")
        assert done.code == 0, done.err
        after = metrics_of(dlkit, f"small{number}.pt")
        assert after["r2"] > 0.9 and math.isclose(after["mae"], before["mae"], rel_tol=1)
