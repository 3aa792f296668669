"""Going on with a run whatever is left of it: damaged files, copies, ends of all kinds, older checkpoints."""

import json
import shutil

import pytest
import torch

import dlkit
from dlkit.core.training import Resume
from dlkit.core.training.folder import read_checkpoint
from dlkit.errors import FileRefused, UsageError
from dlkit.events import Note


@pytest.fixture
def go(crash):
    """Go on with (or begin) a run of the tiny config; what was noted."""

    def train(folder, resume=None, **changes):
        notes = []
        result = dlkit.train(
            crash.tiny | changes,
            out=folder,
            resume=resume,
            emit=lambda e: notes.append(e.text) if isinstance(e, Note) else 0,
        )
        return result, "\n".join(notes)

    return train


@pytest.fixture
def finished(go, tmp_path):
    """A finished run whose best epoch is not the last."""
    run = tmp_path / "run"
    go(run, train={"epochs": 4}, checkpoint={"every_steps": 2, "keep": 2, "metric": "val_loss", "mode": "max"})
    return run


@pytest.fixture
def stopped(finished):
    """The same, as if it had been stopped on its way."""
    facts = json.loads((finished / "run.json").read_text())
    (finished / "run.json").write_text(json.dumps(facts | {"status": "interrupted"}))
    return finished


LONGER = {"train": {"epochs": 4}, "checkpoint": {"every_steps": 2, "keep": 2, "metric": "val_loss", "mode": "max"}}


def weights_of(path):
    return dict(dlkit.load_model(path).state_dict())


def test_a_finished_run_says_so_and_stays(go, crash, finished, same):
    before = crash.end_of(finished)
    result, notes = go(finished, Resume(finished), **LONGER)
    assert result.status == "finished" and "come to its end already" in notes
    assert same(crash.end_of(finished), before)


def test_a_run_that_stopped_early_stays_stopped(go, crash, tmp_path, same):
    stopping = {"train": {"epochs": 9, "early_stop": {"patience": 2, "min_delta": 100.0}}}
    result, _ = go(tmp_path / "run", **stopping)
    assert result.status == "early_stopped" and len(result.history) == 3
    before = crash.end_of(tmp_path / "run")
    for _ in range(2):
        result, notes = go(tmp_path / "run", Resume(tmp_path / "run"), **stopping)
        assert result.status == "early_stopped" and "come to its end already" in notes
        assert same(crash.end_of(tmp_path / "run"), before)


def test_a_run_that_max_steps_ended_says_so_and_stays(go, crash, tmp_path, same):
    cut = {"train": {"epochs": 4, "max_steps": 4}}
    go(tmp_path / "run", **cut)
    before = crash.end_of(tmp_path / "run")
    _, notes = go(tmp_path / "run", Resume(tmp_path / "run"), **cut)
    assert "come to its end already" in notes and same(crash.end_of(tmp_path / "run"), before)


def test_a_finished_checkpoint_goes_on_in_a_new_folder_with_its_best_weights(go, finished, tmp_path, same):
    best = read_checkpoint(finished / "checkpoints" / "best.pt")
    assert best["position"]["step"] < read_checkpoint(finished / "checkpoints" / "last.pt")["position"]["step"]
    shutil.copytree(finished / "checkpoints", tmp_path / "copies")
    go(tmp_path / "new", Resume(tmp_path / "copies" / "last.pt"), **LONGER)
    assert same(weights_of(tmp_path / "new" / "model.pt"), dict(best["state_dict"]))
    alone = tmp_path / "alone.pt"
    shutil.copy(finished / "checkpoints" / "last.pt", alone)
    with pytest.raises(FileRefused, match="best weights so far, of epoch .* are in no checkpoint beside it"):
        go(tmp_path / "other", Resume(alone), **LONGER)
    assert not (tmp_path / "other").exists()
    _, notes = go(tmp_path / "other", Resume(alone, is_relaxed=True), **LONGER)
    assert "the best is chosen anew" in notes


def test_a_best_that_is_another_is_refused(go, finished):
    checkpoints = finished / "checkpoints"
    for path in (*checkpoints.glob("step-*"), checkpoints / "best.pt"):
        path.unlink()
    shutil.copy(checkpoints / "last.pt", checkpoints / "best.pt")
    with pytest.raises(FileRefused, match="--resume-relaxed"):
        go(finished, Resume(finished), **LONGER)


@pytest.mark.parametrize("what", ["gone", "cut", "flipped"])
@pytest.mark.parametrize("only", ["best.pt", "step-*"])
def test_the_newest_checkpoint_that_can_be_read(go, crash, stopped, same, what, only):
    before, checkpoints = crash.end_of(stopped), stopped / "checkpoints"
    for path in checkpoints.glob("*"):
        if path.name != "last.pt" and not path.match(only):
            path.unlink()
    if only != "best.pt":
        next(checkpoints.glob("*12.pt")).unlink()  # as new as last.pt
    last = checkpoints / "last.pt"
    data = bytearray(last.read_bytes())
    middle = slice(len(data) // 2, len(data) // 2 + 300)  # longer than what stands between two tensors
    data[middle] = bytes(byte ^ 1 for byte in data[middle])
    if what == "gone":
        last.unlink()
    else:
        last.write_bytes(data if what == "flipped" else data[: len(data) // 2])
    _, notes = go(stopped, Resume(stopped, is_relaxed=only != "best.pt"), **LONGER)
    assert "going on from" in notes and ("is gone" in notes) == (what == "gone")
    if only == "best.pt":
        assert same(crash.end_of(stopped), before)
    last.write_bytes(b"no checkpoint")
    with pytest.raises(FileRefused, match=r"last\.pt"):
        go(stopped, Resume(last), **LONGER)


def test_a_finished_run_without_its_last_checkpoint_is_not_trained_again(go, finished):
    last = finished / "checkpoints" / "last.pt"
    (first, _), summary = go(finished, Resume(finished), **LONGER), json.loads((finished / "summary.json").read_text())
    last.write_bytes(b"no checkpoint")
    before = {path: path.read_bytes() for path in finished.rglob("*.*") if path.is_file()}
    result, notes = go(finished, Resume(finished), **LONGER)
    assert "last.pt" in notes and "but this run has come to its end already" in notes and "going on from" not in notes
    assert {path: path.read_bytes() for path in finished.rglob("*.*") if path.is_file()} == before
    assert (result.status, result.best, result.metrics) == ("finished", summary["best"], summary["test"])
    assert result.history == first.history and len(result.history) == 4
    with pytest.raises(UsageError, match="train.epochs: 4 in the checkpoint, 5 now"):
        go(finished, Resume(finished), **LONGER | {"train": {"epochs": 5}})
    result, notes = go(finished, Resume(finished, extend="tail"), **LONGER | {"train": {"epochs": 5}})
    assert "going on from" in notes and len(result.history) == 5


def test_damage_to_the_last_checkpoint_leaves_the_best_of_the_same_epoch(go, tmp_path, same):
    rising = {"checkpoint": {"metric": "train_loss", "mode": "min"}}
    go(tmp_path / "run", **rising)
    before, last = weights_of(tmp_path / "run" / "model.pt"), tmp_path / "run" / "checkpoints" / "last.pt"
    assert read_checkpoint(last)["best"]["epoch"] == 2
    with last.open("r+b") as file:
        file.write(b"damage in place")
    (tmp_path / "run" / "model.pt").unlink()
    _, notes = go(tmp_path / "run", Resume(tmp_path / "run"), **rising)
    assert "going on from best.pt" in notes and same(weights_of(tmp_path / "run" / "model.pt"), before)


def test_a_checkpoint_of_an_earlier_dlkit_is_told_by_its_version(go, finished):
    path = finished / "checkpoints" / "last.pt"
    state = torch.load(path, weights_only=True)
    torch.save({**state, "version": 1}, path)
    with pytest.raises(FileRefused, match=r"checkpoint version 1; .* model\.weights"):
        go(finished, Resume(path), **LONGER)
    old = {"name": "mlp", "hidden": [3], "weights": str(path)}
    result, _ = go(finished.with_name("new"), model=old, train={"epochs": 1})
    assert result.status == "finished"


def test_a_run_that_ended_before_its_first_checkpoint_begins_anew(go, crash, tmp_path, same):
    go(tmp_path / "straight")
    for name in ("resumed", "again"):
        crash.disk(at=20)
        with pytest.raises(crash.died):
            go(tmp_path / name)
        crash.repair()
        assert not list((tmp_path / name / "checkpoints").glob("*.pt")) and (tmp_path / name / "run.json").exists()
    _, notes = go(tmp_path / "resumed", Resume(tmp_path / "resumed"))
    assert "ended before its first checkpoint" in notes
    go(tmp_path / "again")
    straight = crash.end_of(tmp_path / "straight")
    assert same(crash.end_of(tmp_path / "resumed"), straight) and same(crash.end_of(tmp_path / "again"), straight)
    with pytest.raises(FileRefused, match="no checkpoint here"):
        go(tmp_path / "x", Resume(tmp_path))


def test_last_is_written_whenever_best_is(go, tmp_path):
    go(tmp_path / "run", train={"epochs": 3, "max_time": None}, checkpoint={"every_epochs": 5})
    assert {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()} == {"last.pt", "best.pt"}


def test_rows_of_before_stay_until_something_newer_is_saved(go, crash, finished):
    """Going on from best.pt: a crash before the next checkpoint has lost nothing, and nothing stands twice after it."""
    best, before = finished / "checkpoints" / "best.pt", crash.end_of(finished)
    assert read_checkpoint(best)["position"]["step"] < 12
    log = crash.disk().log
    shutil.copytree(finished, finished.parent / "copy")
    go(finished.parent / "copy", Resume(finished.parent / "copy" / "checkpoints" / "best.pt"), **LONGER)
    crash.repair()
    newest, at = 12, 0
    while newest == 12:
        assert [row.rpartition(",")[0] for row in (finished / "metrics.csv").read_text().splitlines()] == before[
            "rows"
        ], at
        crash.disk(at=at)
        with pytest.raises(crash.died):
            go(finished, Resume(best), **LONGER)
        crash.repair()
        newest, at = read_checkpoint(finished / "checkpoints" / "last.pt")["position"]["step"], at + 1
    assert 20 < at < len(log)
    go(finished, Resume(finished), **LONGER)
    after = crash.end_of(finished)
    assert after["rows"] == before["rows"] and after["lines"] == before["lines"]
