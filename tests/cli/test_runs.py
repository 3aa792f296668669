"""`dlkit runs`: the table, what is chosen and in which order, and which checkpoints it deletes."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

import dlkit as library
from dlkit.events import ignore
from dlkit.run_folders import RunLock

TINY = {
    "data": {"name": "digits", "limit": 96},
    "model": {"name": "small_cnn", "width": 4},
    "train": {"epochs": 3},
    "checkpoint": {"keep": 3},
    "log": {"tensorboard": False},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("trained") / "one"
    library.train(TINY, out=out)
    return out


@pytest.fixture
def make(trained, tmp_path, monkeypatch):
    """`make("name", lr=0.1, accuracy=0.5)` copies the run into runs/ with other settings, status or results."""
    monkeypatch.chdir(tmp_path)

    def copy(name, *, lr=0.004, seed=0, accuracy=None, started="2026-01-01T00:00:00Z", status=None):
        folder = tmp_path / "runs" / name
        shutil.copytree(trained, folder)
        edit(folder / "config.resolved.yaml", "\nseed: 0", f"\nseed: {seed}")
        edit(folder / "config.resolved.yaml", "\n  lr: 0.004", f"\n  lr: {lr}")
        facts = json.loads((folder / "run.json").read_text())
        (folder / "run.json").write_text(json.dumps(facts | {"started": started, "status": status or facts["status"]}))
        summary = json.loads((folder / "summary.json").read_text())
        summary["test"]["accuracy"] = accuracy or summary["test"]["accuracy"]
        (folder / "summary.json").write_text(json.dumps(summary))
        if status is not None:
            (folder / "summary.json").unlink()
        return folder

    return copy


def plain(text):
    """The lines of a terminal without its colours and the blanks at their ends."""
    return [re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip() for line in text.splitlines()]


def edit(path, before, after):
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


@pytest.fixture
def names(dlkit):
    """The names that a call lists, in order."""

    def list_names(*words):
        done = dlkit("runs", *words, "--json")
        assert done.code == 0, done.err
        return [run["name"] for run in json.loads(done.out)["runs"]]

    return list_names


@pytest.fixture
def three(make):
    make("b", lr=0.1, accuracy=0.9, started="2026-01-03T00:00:00Z")
    make("a", lr=0.002, accuracy=0.7, started="2026-01-02T00:00:00Z")
    make("sweep/trial-1", lr=0.03, accuracy=0.8, started="2026-01-01T00:00:00Z")


def test_the_table(dlkit, three):
    done = dlkit("runs", columns=80)
    lines = plain(done.out)
    assert lines[0].strip() == "3 runs in runs"
    assert lines[1].split() == ["run", "status", "model", "data", "lr", "val_acc", "test_acc", "time"]
    assert [line.split()[0] for line in lines[2:]] == ["sweep/trial-1", "a", "b"]
    assert lines[4].split()[1:5] == ["finished", "small_cnn", "digits", "0.1"] and "90.00%" in lines[4]
    assert max(map(len, lines)) <= 80 and done.err == ""


def test_columns_that_say_least_go_first_where_a_terminal_is_narrow(dlkit, three):
    head = plain(dlkit("runs", columns=60).out)[1].split()
    assert head == ["run", "status", "lr", "val_acc", "test_acc", "time"]


def test_a_file_or_a_pipe_gets_all_columns(dlkit, make):
    make("a", seed=1, lr=0.1)
    make("b", seed=2)
    lines = dlkit("runs").out.splitlines()
    assert lines[1].split()[4:6] == ["lr", "seed"] and lines[2].split()[4:6] == ["0.1", "1"]


def test_the_json_has_everything(dlkit, three):
    plain = json.loads(dlkit("runs", "--json").out)
    assert plain["schema"] == "dlkit.runs/1" and plain["differing"] == ["optimizer.lr"]
    run = plain["runs"][-1]
    assert (run["name"], run["path"], run["epochs"], run["test"]["accuracy"]) == ("b", "runs/b", 3, 0.9)
    assert run["settings"]["optimizer.lr"] == 0.1 and run["best"]["metric"] == "val_accuracy" and run["train_s"] > 0


def test_the_best_stands_last(names, three):
    assert names("--sort", "test_accuracy") == ["a", "trial-1", "b"]
    assert names("--sort", "optimizer.lr") == ["a", "trial-1", "b"]
    assert names("--sort", "started") == ["trial-1", "a", "b"]
    edit(Path("runs/a/summary.json"), '"loss": ', '"loss": 0.0, "before": ')
    assert names("--sort", "test_loss")[-1] == "a"


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        (["optimizer.lr<0.03"], ["a"]),
        (["optimizer.lr <= 3e-2"], ["trial-1", "a"]),
        (["optimizer.lr>0.002", "test_accuracy<90%"], ["trial-1"]),
        (["test_accuracy>=0.9"], ["b"]),
        (["name=tri*"], ["trial-1"]),
        (["name!=tri*", "seed=0"], ["a", "b"]),
        (["status=killed"], []),
        (["ema=null"], ["trial-1", "a", "b"]),
        (["ema!=null"], []),
        (["model.width=true"], []),
        (["data.normalize.mean=[*]"], ["trial-1", "a", "b"]),
        (["started>2026-01-02"], ["a", "b"]),
        (["time<1h30m"], ["trial-1", "a", "b"]),
        (["model.name<5"], []),
        (["test_map>0"], []),
    ],
    ids=" ".join,
)
def test_conditions(names, three, conditions, expected):
    assert names(*(word for condition in conditions for word in ("--where", condition))) == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--where", "optimizer.lrr<1"], "--where 'optimizer.lrr<1'  optimizer.lrr: no run has this, and it is no key of a "
         "config. Did you mean 'optimizer.lr'?"),
        (["--where", "lr<1"], "Did you mean 'optimizer.lr'"),
        (["--where", "test_acuracy>1"], "Did you mean 'test_accuracy'"),
        (["--sort", "test_acuracy"], "--sort  test_acuracy: no run has this"),
        (["--where", "optimizer.lr"], "a condition is KEY<VALUE"),
        (["--where", "__import__('os')=1"], "a condition is KEY<VALUE"),
        (["--where", "time<soon"], "expected a duration"),
        (["--where", "optimizer.lr<"], "a condition is KEY<VALUE"),
        (["nowhere"], "nowhere: no such folder"),
        (["--yes"], "--yes goes with --prune-checkpoints"),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_refused(dlkit, three, words, message):
    done = dlkit("runs", *words)
    assert done.code == 2 and message in done.err and done.out == ""


def test_a_key_that_only_other_runs_have_is_no_mistake(names, three):
    assert names("--where", "data.cache_dir=null") == ["trial-1", "a", "b"]


def test_broken_folders_are_listed_and_told(dlkit, make):
    make("fine")
    folder = make("broken")
    (folder / "run.json").write_text("{")
    (folder / "config.resolved.yaml").write_text("a: [")
    empty = Path("runs/empty")
    empty.mkdir()
    (empty / ".lock").touch()
    running = make("goes-on", status="running")
    lock = RunLock(running, ignore)
    done = dlkit("runs")
    lock.release()
    rows = {line.split()[0]: line for line in done.out.splitlines()[2:]}
    assert "damaged" in rows["broken"] and "killed" in rows["empty"] and "finished" in rows["fine"]
    assert "running 3/3" in rows["goes-on"]
    assert done.code == 0 and len(done.err.splitlines()) == 2 and done.err.count("note: runs/broken/") == 2


def test_a_folder_without_runs(dlkit, tmp_path):
    assert dlkit("runs", tmp_path).out == f"no runs in {tmp_path}\n"


@pytest.mark.anew
def test_two_hundred_runs_are_listed_at_once(trained, tmp_path):
    """By its own clock, and without torch. Reading each config anew, with the slow reader, would take as long as it may in all."""
    for number in range(200):
        folder = tmp_path / f"run-{number:03}"
        folder.mkdir()
        for name in ("run.json", "summary.json", "config.resolved.yaml"):
            shutil.copy(trained / name, folder)
        edit(folder / "config.resolved.yaml", "\n  lr: 0.004", f"\n  lr: {1e-5 * (number + 1)}")
    code = f"import sys, time\nsys.argv = ['dlkit', 'runs', {str(tmp_path)!r}]\nfrom dlkit.cli.app import main\n"
    code += "try:\n    main()\nexcept SystemExit:\n    pass\n"
    code += "print(time.process_time(), 'torch' in sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, *loaded = done.stderr.split()
    assert len(done.stdout.splitlines()) == 202 and loaded == ["False"]
    assert float(seconds) < 2  # 0.4 where nothing else runs


# deleting checkpoints


def checkpoints(folder):
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


ALL = ["best.pt", "last.pt", "step-000000001.pt", "step-000000002.pt", "step-000000003.pt"]


def test_checkpoints_of_runs_that_ended_go_and_their_models_stay(dlkit, make):
    ended, stopped = make("ended"), make("stopped", status="interrupted")
    assert checkpoints(ended) == ALL
    size = sum({path.stat().st_ino: path.stat().st_size for path in (ended / "checkpoints").iterdir()}.values())
    done = dlkit("runs", "--prune-checkpoints", "--yes", "--json")
    plain = json.loads(done.out)
    assert done.code == 0 and plain["runs"][0]["deleted"] and plain["bytes"] >= size
    assert checkpoints(ended) == [] and (ended / "model.pt").exists()
    # the other goes on from last.pt, with the best weights in best.pt
    assert checkpoints(stopped) == ["best.pt", "last.pt"]
    assert plain["runs"][1]["kept"] == "to go on"
    assert dlkit("runs", "--prune-checkpoints").out.endswith("no checkpoint can be deleted\n")


def test_the_stopped_run_goes_on_and_the_ended_one_does_not_begin_anew(dlkit, make):
    ended, stopped = make("ended"), make("stopped", status="interrupted")
    before = (ended / "model.pt").read_bytes()
    assert dlkit("runs", "--prune-checkpoints", "--yes").code == 0
    again = dlkit("train", ended / "config.resolved.yaml", "--resume", ended)
    assert again.code == 4 and "its checkpoints were deleted" in again.err and f"model.weights={ended}" in again.err
    assert (ended / "model.pt").read_bytes() == before
    assert dlkit("train", stopped / "config.resolved.yaml", "--resume", stopped, "-q").code == 0


def test_without_a_terminal_it_refuses_and_says_what_it_would_do(dlkit, make, monkeypatch):
    folder = make("ended")
    monkeypatch.setattr("sys.stdin", io.StringIO())
    done = dlkit("runs", "--prune-checkpoints")
    assert done.code == 2 and "nobody can be asked here; give --yes" in done.err
    assert "best.pt" in done.out and "KiB" in done.out and checkpoints(folder) == ALL


@pytest.mark.parametrize(("answer", "is_deleted"), [("y\n", True), ("n\n", False), ("\n", False)])
def test_it_asks(dlkit, make, monkeypatch, answer, is_deleted):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    folder = make("ended")
    monkeypatch.setattr("sys.stdin", Terminal(answer))
    done = dlkit("runs", "--prune-checkpoints")
    assert done.code == 0 and "Delete 5 files" in done.err
    assert (checkpoints(folder) == []) == is_deleted and ("nothing was deleted" in done.err) != is_deleted


def test_runs_in_use_or_damaged_or_with_a_mean_keep_all(dlkit, make):
    used, model, mean = make("used"), make("no-model"), make("stopped", status="interrupted")
    (model / "model.pt").write_bytes(b"PK")
    (model / "checkpoints" / "last.pt").write_bytes(b"PK")
    for path in (mean / "checkpoints").iterdir():
        path.write_bytes(b"PK")
    lock = RunLock(used, ignore)
    done = dlkit("runs", "--prune-checkpoints", "--yes")
    lock.release()
    assert done.code == 0 and checkpoints(used) == ALL and checkpoints(mean) == ALL
    # the newest that can be read is what it goes on from
    assert checkpoints(model) == ["best.pt", "last.pt", "step-000000003.pt"]


def test_a_run_that_changed_meanwhile_is_left(make):
    from dlkit.core.training.folder import delete_reclaimable, find_reclaimable
    from dlkit.errors import OutputError

    folder = make("ended")
    found = find_reclaimable(folder)
    os.utime(folder / "run.json", (time.time(), time.time()))
    with pytest.raises(OutputError, match="has changed meanwhile"):
        delete_reclaimable(found)
    assert checkpoints(folder) == ALL


def test_a_crash_in_the_middle_leaves_what_is_not_deleted_whole(make, monkeypatch):
    from dlkit.core.training.folder import delete_reclaimable, find_reclaimable

    folder, removed = make("ended"), []

    def remove(path):
        if len(removed) == 3:
            raise KeyboardInterrupt
        removed.append(path.name)
        path.unlink()

    monkeypatch.setattr("dlkit.disk.remove", remove)
    with pytest.raises(KeyboardInterrupt):
        delete_reclaimable(find_reclaimable(folder))
    monkeypatch.undo()
    assert "last.pt" in checkpoints(folder) and len(checkpoints(folder)) == 2
    delete_reclaimable(find_reclaimable(folder))
    assert checkpoints(folder) == []
