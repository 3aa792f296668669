"""A disk without room for the run's files is told before anything is made."""

from collections import namedtuple

import pytest

import dlkit
from dlkit.errors import OutOfResource

Usage = namedtuple("Usage", "total used free")


def test_no_room_for_checkpoints(crash, tmp_path, monkeypatch):
    weights = 4 * (4 * 3 + 3 + 3 * 2 + 2)  # float32; adamw keeps two copies
    needed = 2 * 3 * weights + weights
    monkeypatch.setattr("shutil.disk_usage", lambda place: Usage(0, 0, needed - 1))
    with pytest.raises(OutOfResource, match="MiB are free on this disk") as caught:
        dlkit.train(crash.tiny, out=tmp_path / "run")
    assert caught.value.exit_code == 6 and str(tmp_path) in str(caught.value) and not (tmp_path / "run").exists()
    monkeypatch.setattr("shutil.disk_usage", lambda place: Usage(0, 0, needed))
    assert dlkit.train(crash.tiny, out=tmp_path / "run").status == "finished"
