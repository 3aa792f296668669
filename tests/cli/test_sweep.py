import json

import pytest

CONFIG = """
data: {name: digits, limit: 60, batch_size: 32}
model: {name: mlp, hidden: [8]}
train: {epochs: 1}
log: {tensorboard: false}
"""
GRID = ("optimizer.lr=0.01,0.1", "--sampler", "grid")


@pytest.fixture
def cfg(write_config):
    return write_config(CONFIG)


def test_a_sweep_tells_its_trials_its_best_and_what_comes_next(dlkit, cfg, tmp_path, quick):
    pytest.importorskip("optuna")
    out = tmp_path / "found"
    outcome = dlkit("sweep", cfg, *GRID, "--folds", 2, "--out", out)
    assert outcome.code == 0
    assert f"sweep {out}: 0 of 2 trials done, judged by val_accuracy (max)" in outcome.err
    header, first, *_ = [line for line in outcome.err.splitlines() if line.lstrip().startswith(("trial", "0"))]
    assert header.split() == ["trial", "optimizer.lr", "val_accuracy", "deviation", "epochs"]
    assert first.split()[1] == "0.01" and first.split()[-2:] == ["finished", "best"]
    assert "2 trials (2 finished), 4 epochs trained" in outcome.out
    assert f"dlkit train {out}/best.yaml" in outcome.out
    told = json.loads(dlkit("sweep", cfg, *GRID, "--folds", 2, "--out", out, "--json").out)
    assert told["schema"] == "dlkit.sweep/1" and told["complete"] and len(told["trials"]) == 2
    assert told["best"]["value"] == max(trial["value"] for trial in told["trials"])
    assert dlkit("config", "check", out / "best.yaml").code == 0
    outcome = dlkit("sweep", cfg, "optimizer.lr=0.01,0.2", "--sampler", "grid", "--out", out)
    assert outcome.code == 2 and "Give another --out for this one" in outcome.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["optimizer.lr=0.2..0.1"],
            "space 'optimizer.lr=0.2..0.1'  optimizer.lr: an empty range: 0.2 is not below 0.1",
        ),
        (["optimizer.lr=0.1,0.2"], "a sweep needs an end: --trials N, --time 30m, or both"),
        (["optimizer.lr=0.1..0.2", "--sampler", "grid"], "a grid needs a step, such as 0.0..0.5:0.1"),
        (["seed=1,2", "--trials", "2", "--seeds", "2"], "this is what --seeds varies; give one of both"),
        (
            ["data.fold={number: 1, of: 2},{number: 2, of: 2}", "--trials", "2", "--folds", "2"],
            "this is what --folds varies; give one of both",
        ),
        (["optimizer.lr=0.1,0.2", "data.val=test", "--trials", "1", "--folds", "2"], "but data.val is test"),
        (["optimizer.lr=0.1,0.2", "--time", "soon"], "--time: expected a duration such as 90s, 45m or 1h30m"),
        (["optimizer.lr=0.1,0.2", "--trials", "1", "data.val=none"], "a sweep compares trials on validation samples"),
        (["optimizer.lr=0.1,0.2", "--trials", "1", "--storage", "sqlite:////nowhere/x.db"], "cannot be opened"),
    ],
)
def test_what_cannot_be_searched_is_told_before_anything_starts(dlkit, cfg, tmp_path, arguments, message):
    pytest.importorskip("optuna")
    outcome = dlkit("sweep", cfg, *arguments, "--out", tmp_path / "found")
    assert outcome.code == 2 and message in outcome.err
    assert not list(tmp_path.glob("found/trial-*"))
