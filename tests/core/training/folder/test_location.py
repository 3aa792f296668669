"""Which folder an attempt after the first goes on in."""

import json
from dataclasses import replace

import pytest

from dlkit.core.distributed import World
from dlkit.core.training.folder import find_begun

AGENT = World(0, 2, launch="birds one:17:900")


@pytest.fixture
def runs(tmp_path):
    for name, launch in (("net-001", "birds one:17:900"), ("net-002", "cats one:18:950"), ("net-003", "")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(json.dumps({"launch": launch}))
    (tmp_path / "net-004").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("world", "found"),
    [
        (AGENT, "net-001"),  # started anew because machines came or went, which is not counted
        (replace(AGENT, restarts=1), "net-001"),
        (replace(AGENT, restarts=1, launch="birds two:5:100"), "net-001"),  # rank 0 is on another machine now
        (replace(AGENT, launch="birds one:19:990"), None),  # the same id, given to torchrun a second time
        (replace(AGENT, launch="birds one:17:990"), None),  # the same number of another process
        (replace(AGENT, restarts=1, launch=" one:20:990"), None),  # an agent without an id
        (World(0, 2), None),  # no torchrun, as the run in net-003
        (replace(AGENT, restarts=1, launch="dogs one:17:900"), None),
    ],
)
def test_a_later_attempt_finds_the_folder_of_the_same_torchrun(runs, world, found):
    assert find_begun(None, runs, "net", world) == (runs / found if found else None)
    assert find_begun(runs / "net-001", runs, "net", world) == (runs / "net-001" if found else None)
    assert find_begun(runs / "net-002", runs, "net", world) is None
