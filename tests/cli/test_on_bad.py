"""Unreadable pictures from the command line: what is skipped is counted and listed."""

import json
import shutil
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
CONFIG = """
data: {name: imagefolder, path: shapes, image_size: 16, batch_size: 8, val: 0.2, test: 0.2}
model: {name: small_cnn, width: 4}
train: {epochs: 1}
log: {tensorboard: false}
"""


def test_skipped_pictures_are_counted_and_listed(dlkit, write_config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(EXAMPLES / "shapes", "shapes")
    bad = [sorted(Path("shapes", name).iterdir())[1] for name in ("circle", "square")]
    for path in bad:
        path.write_text("no image")
    config = write_config(CONFIG)
    stopped = dlkit("train", config, "--out", "run")
    assert stopped.code == 3 and str(bad[0]) in stopped.err and not Path("run").exists()
    done = dlkit("train", config, "data.on_bad=skip", "--out", "run")
    assert done.code == 0 and "2 samples cannot be read and are skipped" in done.err
    listed = Path("run/skipped.txt").read_text().splitlines()
    assert sorted(line.split(": ")[0] for line in listed) == sorted(map(str, bad))
    facts, summary = (json.loads(Path("run", name).read_text()) for name in ("run.json", "summary.json"))
    assert facts["skipped"] == summary["skipped"] == 2
    assert sum(facts["samples"].values()) == len(list(Path("shapes").rglob("*.png"))) - 2
    resumed = dlkit("train", "run/config.resolved.yaml", "--resume", "run", "train.epochs=2", "--extend", "stretch")
    assert resumed.code == 0, resumed.err
    for split in ("train", "val", "test"):
        assert dlkit("eval", "run/model.pt", "--split", split).code == 0
    again = dlkit("eval", "run/model.pt", "--split", "train").err
    assert "cannot be read" in again or "cannot be read" in dlkit("eval", "run/model.pt").err


def test_skipping_needs_a_look(dlkit, write_config):
    config = write_config(CONFIG)
    done = dlkit("config", "check", config, "data.on_bad=skip", "data.scan=off")
    assert done.code == 2 and "data.scan" in done.err and "on_bad" in done.err
    wrong = dlkit("config", "check", config, "data.on_bad=ignore")
    assert wrong.code == 2 and "stop" in wrong.err
