"""The process ends, the disk fills up or fails, at every call that changes it: the run goes on as if nothing had been."""

import pytest

from dlkit.core.training.folder import read_resumed
from dlkit.errors import DlkitError


@pytest.fixture(scope="module")
def counts():
    """How many crash points were tried, printed at the end of the module."""
    tried = {}
    yield tried
    print("\ncrash points: " + ", ".join(f"{how} {count}" for how, count in tried.items()))


def left_behind(folder):
    return [path.name for path in folder.rglob(".tmp-*")]


@pytest.mark.parametrize(
    ("how", "part"),
    [(how, part) for how in ("die", "tear", "full", "fail") for part in range(4)],
    ids=lambda value: str(value),
)
def test_every_call_that_changes_the_disk(crash, tmp_path, same, counts, how, part):
    log = crash.disk().log
    crash.train(tmp_path / "straight")
    calls = list(log)
    crash.repair()
    straight = crash.end_of(tmp_path / "straight")
    points = [number for number, name in enumerate(calls) if how != "tear" or name == "write"][part::4]
    for number in points:
        folder = tmp_path / f"{number}"
        crash.disk(at=number, how=how)
        try:
            crash.train(folder)
        except crash.died:
            pass
        except DlkitError as error:
            assert how in ("full", "fail") and error.exit_code == 6 and str(folder) in str(error), (
                number,
                calls[number],
            )
            assert how == "fail" or not left_behind(folder), (number, calls[number])
        crash.repair()
        if "replace" in calls[:number] and any((folder / "checkpoints").glob("*.pt")):
            found = read_resumed(folder)
            assert found.best is not None or found.state["best"]["value"] is None
        crash.train(folder)
        end = crash.end_of(folder)
        assert not [key for key in straight if not same(end[key], straight[key])], (number, calls[number])
    counts[how] = counts.get(how, 0) + len(points)


def test_a_crash_between_last_and_best_exports_no_wrong_weights(crash, tmp_path, same):
    """best.pt of epoch 1, last.pt that says epoch 2 is the best: best.pt is mended, or the run refused."""
    crash.train(tmp_path / "run")
    straight = crash.end_of(tmp_path / "run")
    assert straight["best"]["epoch"] == 2
    checkpoints = tmp_path / "run" / "checkpoints"
    (checkpoints / "best.pt").unlink()
    (checkpoints / "best.pt").write_bytes(next(checkpoints.glob("step-*4.pt")).read_bytes())
    (tmp_path / "run" / "model.pt").unlink()
    crash.train(tmp_path / "run")
    end = crash.end_of(tmp_path / "run")
    assert not [key for key in straight if not same(end[key], straight[key])]
