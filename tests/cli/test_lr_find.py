"""`dlkit lr-find` as a user meets it."""

import csv
import json

import pytest

from dlkit.core.training import run_range_test
from dlkit.events import Note, Sweeping
from dlkit.schedules import SweepPlan

QUICK = """
data: {name: digits, batch_size: 32}
model: {name: mlp, hidden: [32]}
optimizer: {name: sgd, lr: 0.05, momentum: 0.9}
schedule: {name: cosine, warmup: 4}
train: {epochs: 3}
"""


@pytest.fixture
def quick(write_config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return write_config(QUICK)


def found(dlkit, *arguments):
    done = dlkit("lr-find", *arguments, "--json")
    assert done.code == 0, done.err
    return json.loads(done.out)


def test_the_plot_the_suggestions_and_the_line_to_paste(dlkit, quick, tmp_path):
    done = dlkit("lr-find", quick, "--repeats", "2", "--hi", "10")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0].startswith(" lr-find · mlp · digits · sgd · 2 sweeps of 150 steps")
    assert {"minimum/10", "steepest", "valley"} <= {word for line in lines for word in line.split()}
    assert "optimizer.lr=" in lines[-1] and "┤" in done.out
    assert [path.name for path in tmp_path.iterdir()] == ["cfg.yaml"]  # nothing is written
    assert "\x1b" not in done.out + done.err and "sweep 1/2" not in done.err


def test_what_is_recommended_trains_well(dlkit, quick, tmp_path):
    """Close to the best of a grid, and much better than a rate ten times lower or at the edge."""
    plain = found(dlkit, quick, "--hi", "10")
    best = plain["recommended"]
    assert best["override"] == f"optimizer.lr={best['lr']:.2g}"
    losses = {}
    for factor in (0.03, 1.0, 30.0):
        out = tmp_path / f"run{factor}"
        done = dlkit("train", quick, f"optimizer.lr={best['lr'] * factor:.3g}", "log.tensorboard=false", "--out", out)
        summary = json.loads((out / "summary.json").read_text()) if done.code == 0 else None
        losses[factor] = summary["test"]["loss"] if summary else float("inf")
    assert losses[1.0] < losses[0.03] and losses[1.0] < losses[30.0]


def test_the_json(dlkit, quick):
    plain = found(dlkit, quick, "--repeats", "2", "--steps", "60", "--lo", "1e-4", "--hi", "10", "--seed", "7")
    assert plain["schema"] == "dlkit.lr-find/1"
    assert (plain["lo"], plain["hi"], plain["steps"], plain["repeats"]) == (1e-4, 10, 60, 2)
    assert [suggestion["name"] for suggestion in plain["suggestions"]] == ["minimum/10", "steepest", "valley"]
    for sweep in plain["sweeps"]:
        assert len(sweep["lr"]) == len(sweep["loss"]) == len(sweep["smoothed"]) <= 60
        assert sweep["lr"][0] == 1e-4
    again = found(dlkit, quick, "--repeats", "2", "--steps", "60", "--lo", "1e-4", "--hi", "10", "--seed", "7")
    assert again == plain
    other = found(dlkit, quick, "--repeats", "1", "--steps", "60", "--lo", "1e-4", "--hi", "10", "--seed", "8")
    assert other["sweeps"][0]["loss"] != plain["sweeps"][0]["loss"]


def test_the_configs_schedule_and_average_take_no_part(dlkit, quick):
    def losses(*changes):
        plain = found(dlkit, quick, *changes, "--repeats", "1", "--steps", "20")
        return plain["sweeps"][0]["loss"]

    plain = losses()
    assert losses("schedule=onecycle", "ema.decay=0.9", "checkpoint.metric=val_ema_loss") == plain
    assert losses("optimizer.lr=123") == plain
    assert losses("train.clip={norm: 0.001}") != plain


def test_files(dlkit, quick, tmp_path):
    done = dlkit("lr-find", quick, "--repeats", "1", "--steps", "20", "-o", tmp_path / "lr.csv", "-o", "lr.png")
    assert done.code == 0 and "wrote" in done.err
    with (tmp_path / "lr.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[0]["lr"]) == 1e-6 and len(rows) == 20
    assert (tmp_path / "lr.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--lo", "1", "--hi", "0.1"], "--hi above it"),
        (["--steps", "3"], "--steps must be 10"),
        (["--repeats", "0"], "--repeats must be at least 1"),
        (["-o", "lr.gif"], "must end in .csv"),
        (["-o", "nowhere/lr.png"], "no folder"),
        (["optimizer.lrr=3"], "lrr"),
        (["--device", "cuda:99"], "no device"),
    ],
)
def test_mistakes_are_told_before_anything_runs(dlkit, quick, arguments, says):
    done = dlkit("lr-find", quick, *arguments)
    assert done.code == 2 and says in " ".join(done.err.split())


def test_notes_of_the_config():
    from dlkit.config import load_mapping

    events = []
    config = {
        "data": {"name": "digits", "shuffle": False, "limit": 200},
        "model": {"name": "mlp", "hidden": [8]},
        "schedule": {"name": "torch.optim.lr_scheduler:OneCycleLR", "max_lr": 0.1},
    }
    result = run_range_test(load_mapping(config), SweepPlan(1e-4, 1e-2, 10, 2), emit=events.append)
    assert any("data.shuffle is off" in note for note in result.notes)
    assert any("schedule.max_lr" in note for note in result.notes)
    assert all(isinstance(event, Note | Sweeping) for event in events)
    assert result.test.sweeps[0].losses == result.test.sweeps[1].losses
