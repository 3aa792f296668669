import json
import os
import subprocess
import sys

import pytest

from dlkit.cli.thread_waiting import SET_BY_USERS, limit_spinning, waiting_text


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({}, "GOMP_SPINCOUNT=10000"),
        ({"GOMP_SPINCOUNT": "7"}, "GOMP_SPINCOUNT=7"),
        ({"OMP_WAIT_POLICY": "active"}, "OMP_WAIT_POLICY=active"),
    ],
)
def test_what_users_set_holds(monkeypatch, given, text):
    for name in SET_BY_USERS:
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    limit_spinning()
    assert waiting_text() == text
    for name in SET_BY_USERS:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.skipif(sys.platform != "linux", reason="what others compute with knows no such setting")
def test_doctor_says_how_threads_wait():
    environment = {name: value for name, value in os.environ.items() if name not in SET_BY_USERS}
    done = subprocess.run(
        [sys.executable, "-m", "dlkit", "doctor", "--json"],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    rows = {row["name"]: row["text"] for row in json.loads(done.stdout)["findings"]}
    assert rows["cpu threads"].endswith("waiting GOMP_SPINCOUNT=10000")
