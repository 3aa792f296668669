"""Run folders read: finished, running, killed, damaged, of another version; found below a folder; and how their settings differ."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import dlkit
from dlkit.events import ignore
from dlkit.run_folders import (
    RunLock,
    changed_settings,
    default_settings,
    differing_settings,
    find_run_folders,
    flat_settings,
    read_run,
    setting_text,
)

ROOT = Path(__file__).resolve().parents[2]
TINY = {"data": {"name": "digits", "limit": 64}, "model": {"name": "small_cnn", "width": 4}, "train": {"epochs": 1}}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (0.1 + 0.2, "0.3"),
        (1e-05, "1e-05"),
        (3, "3"),
        ("a b", "a b"),
        ([8, "é"], '[8, "é"]'),
    ],
)
def test_settings_as_text(value, text):
    assert setting_text(value) == text


def test_a_real_run(tmp_path):
    result = dlkit.train({**TINY, "optimizer": {"lr": 0.01}}, out=tmp_path / "run")
    run = read_run(tmp_path / "run")
    assert (run.name, run.status, run.model, run.data, run.problems) == ("run", "finished", "small_cnn", "digits", ())
    assert run.test == result.metrics and run.best == result.best
    assert [dict(row) for row in run.epochs] == [dict(row) for row in result.history]
    assert run.metrics.epochs == run.epochs and run.metrics.steps[0]["step"] == 0 and not run.metrics.problems
    assert run.model_path == result.model_path and run.files["model.pt"] == result.model_path.stat().st_size
    assert run.files["checkpoints/last.pt"] > 0 and run.train_s > 0
    assert run.settings["optimizer.lr"] == 0.01 and run.settings["data.limit"] == 64
    changed = changed_settings(run.settings)
    assert changed["data.limit"] == (None, 64) and changed["model.name"] == (None, "small_cnn")
    assert "model.num_classes" not in changed and "train.amp" not in changed


def test_a_run_that_goes_on_and_one_that_was_killed(make_run):
    folder = make_run(status="running")
    lock = RunLock(folder, ignore)
    running = read_run(folder)
    lock.release()
    killed = read_run(folder)
    assert (running.status, killed.status) == ("running", "killed")
    assert killed.best == {"metric": "val_accuracy", "value": 0.9, "epoch": 1} and killed.train_s == 1.0
    assert not killed.test and not killed.problems


def test_a_run_that_was_killed_before_it_began_has_no_facts(make_run):
    run = read_run(make_run(status=None))
    assert run.status == "killed" and run.facts == {} and run.problems == ()


def test_the_summary_of_before_is_not_that_of_a_run_that_goes_on(make_run):
    folder = make_run()
    (folder / "run.json").write_text('{"status": "running"}')
    assert read_run(folder).summary == {}


@pytest.mark.parametrize(
    ("file", "text", "what", "status"),
    [
        ("run.json", '{"status": "fin', "run.json: no JSON object", "damaged"),
        ("run.json", "[1, 2]", "run.json: no JSON object", "damaged"),
        ("run.json", '{"status": 7}', "run.json: the status is no text", "damaged"),
        ("summary.json", "\x00" * 40, "summary.json: no JSON object", "finished"),
        (
            "summary.json",
            '{"schema": "dlkit.train/7", "test": 3}',
            "schema 'dlkit.train/7', this dlkit reads",
            "finished",
        ),
        ("config.resolved.yaml", "optimizer: {lr: ", "config.resolved.yaml: no config", "finished"),
        ("config.resolved.yaml", "just words", "config.resolved.yaml: no config: not a mapping", "finished"),
        ("config.resolved.yaml", "a: &x [1]\nb: [*x, *x]", "aliases are not used", "finished"),
        ("config.resolved.yaml", "x: " + "[" * 100_000, "no config", "finished"),
        ("config.resolved.yaml", "#" * 2**21, "larger than", "finished"),
    ],
)
def test_what_is_damaged_is_named_in_one_line(make_run, file, text, what, status):
    folder = make_run()
    (folder / file).write_text(text)
    run = read_run(folder)
    assert len(run.problems) == 1 and what in run.problems[0] and "\n" not in run.problems[0]
    assert run.status == status and isinstance(run.test, dict) and isinstance(run.best, dict)


def test_metrics_that_are_cut_off_or_damaged(make_run):
    folder = make_run()
    path = folder / "metrics.jsonl"
    lines = path.read_text().splitlines()
    path.write_text(
        "\n".join([lines[0], "{broken", '{"event": "epoch", "epoch": "one"}', "7", *lines[1:], '{"event": "ep'])
    )
    metrics = read_run(folder).metrics
    assert [row["epoch"] for row in metrics.epochs] == [1, 2] and len(metrics.steps) == 1
    assert [problem.split(":")[1] for problem in metrics.problems] == ["2", "3", "4"]
    path.write_bytes(b"\xff\xfe\x00")
    assert read_run(folder).metrics.problems == [f"{path}: not UTF-8"]
    path.unlink()
    assert read_run(folder).epochs == []


def test_numbers_that_were_not_finite_are_none(make_run):
    folder = make_run()
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"event": "epoch", "epoch": 3, "val_accuracy": null}\n')
    (folder / "summary.json").write_text(
        json.dumps({"schema": "dlkit.train/1", "test": {"loss": None}, "best": {"value": None}})
    )
    run = read_run(folder)
    assert run.epochs[2]["val_accuracy"] is None and run.best["value"] == 0.9 and run.test == {}


def test_runs_are_found_below_a_folder_those_of_trials_too(make_run, tmp_path):
    found = [make_run(name) for name in ("a-001", "a-002", "sweeps/lr/trial-001", "sweeps/lr/trial-001/fold-1")]
    (found[0] / "checkpoints" / "run.json").touch()
    (tmp_path / "empty" / "deep").mkdir(parents=True)
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    assert find_run_folders(tmp_path) == found
    assert find_run_folders(found[0]) == [found[0]]
    assert find_run_folders(tmp_path / "missing") == []


def test_settings_by_dotted_key():
    assert flat_settings({"seed": 0, "optimizer": {"betas": [0.9], "groups": {}}, "ema": None}) == {
        "seed": 0, "optimizer.betas": [0.9], "optimizer.groups": {}, "ema": None,
    }  # fmt: skip


def test_settings_that_differ_between_runs(make_run):
    runs = [read_run(make_run(name, lr=lr)) for name, lr in (("one", 0.004), ("two", 0.1), ("three", 0.1))]
    assert differing_settings([run.settings for run in runs]) == {"optimizer.lr": [0.004, 0.1, 0.1]}
    assert differing_settings([runs[0].settings]) == {}
    # a run of an older version has the default of a new key; a value of another kind is another value
    older = {key: value for key, value in runs[0].settings.items() if key != "data.batch_size"}
    assert default_settings()["data.batch_size"] == 128
    runs[0].settings["data.batch_size"] = 128
    assert differing_settings([older, runs[0].settings]) == {}
    assert differing_settings([{"a": 1, "b": 0}, {"a": True, "b": 0.0}]) == {"a": [1, True]}


def test_statistics_of_the_training_split_follow_the_seed():
    one, two = ({"seed": seed, "data.normalize.mean": [mean], "lr": mean} for seed, mean in ((0, 0.1), (1, 0.2)))
    assert differing_settings([one, two]) == {"seed": [0, 1], "lr": [0.1, 0.2]}
    assert differing_settings([one, two | {"seed": 0}]).keys() == {"data.normalize.mean", "lr"}


@pytest.mark.anew
def test_reading_runs_loads_no_torch(make_run):
    code = f"from dlkit.run_folders import *\nimport sys, pathlib\nread_run(pathlib.Path({str(make_run())!r})).files\n"
    code += "print(any(name in sys.modules for name in ('torch', 'pydantic', 'rich')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "False"
