"""The lock of a run folder between machines. A second machine is simulated: its lease names another host."""

import os
import subprocess
import sys
import threading
import time

import pytest
from filelock import FileLock

from dlkit.core.training.folder import create_run_folder, reopen_run_folder
from dlkit.errors import OutputError
from dlkit.events import ignore
from dlkit.run_folders import RunLock, is_in_use

ELSEWHERE = "filelock/2\npid=4711\nhost=elsewhere\nmode=lease\ntoken=00ff\nduration={}\n"


def test_a_run_that_is_alive_on_another_machine_is_left_alone(tmp_path):
    lease, notes = tmp_path / ".lease", []
    lease.write_text(ELSEWHERE.format(2.0))
    touching = f"import os, time\nwhile True:\n    os.utime({str(lease)!r})\n    time.sleep(0.3)"
    with subprocess.Popen([sys.executable, "-c", touching]) as other:
        with pytest.raises(OutputError, match="in use by another run .pid 4711 on elsewhere"):
            RunLock(tmp_path, notes.append, lease_s=2.0)
        other.kill()
    assert "pid 4711 on elsewhere: waiting up to 2 s" in notes[0].text


def test_a_run_that_is_gone_from_another_machine_is_taken_over(tmp_path):
    (tmp_path / ".lease").write_text(ELSEWHERE.format(2.0))
    started = time.monotonic()
    lock = RunLock(tmp_path, ignore, lease_s=2.0)
    assert time.monotonic() - started >= 2.0
    lock.check()
    lock.release()
    assert not (tmp_path / ".lease").exists()


def test_a_run_whose_folder_was_taken_over_writes_nothing_more(tmp_path):
    folder = create_run_folder(out=tmp_path / "run", parent=tmp_path, name="x")
    lease = tmp_path / "run" / ".lease"
    lease.unlink()
    lease.write_text(ELSEWHERE.format(30.0))
    with pytest.raises(OutputError, match="taken over by another run .pid 4711 on elsewhere"):
        folder.write_facts(status="running")
    assert not (tmp_path / "run" / "run.json").exists()
    folder.release()
    assert "elsewhere" in lease.read_text()  # the other's lock is not released


def test_a_run_that_was_killed_on_this_machine_is_taken_over_at_once(tmp_path):
    killed = "import os, sys, pathlib\nfrom dlkit.core.training.folder import create_run_folder\n"
    killed += "folder = create_run_folder(out=pathlib.Path(sys.argv[1]), parent=pathlib.Path(), name='x')\nos._exit(1)"
    subprocess.run([sys.executable, "-c", killed, str(tmp_path / "run")])
    assert (tmp_path / "run" / ".lease").exists()
    started = time.monotonic()
    reopen_run_folder(tmp_path / "run").release()
    assert time.monotonic() - started < 2.0


def test_a_lease_that_is_gone_is_lost(tmp_path):
    """Another run may have come and ended since."""
    lock = RunLock(tmp_path, ignore)
    (tmp_path / ".lease").unlink()
    with pytest.raises(OutputError, match="taken over by another run .unknown"):
        lock.check()
    lock.release()


def test_who_lists_runs_sees_which_are_in_use(tmp_path):
    assert not is_in_use(tmp_path)
    lock = RunLock(tmp_path, ignore)
    assert is_in_use(tmp_path)
    lock.release()
    assert not is_in_use(tmp_path)


def test_a_run_on_another_machine_is_in_use_as_long_as_it_touches_its_lease(tmp_path):
    lease = tmp_path / ".lease"
    lease.write_text(ELSEWHERE.format(30.0))
    assert is_in_use(tmp_path)
    os.utime(lease, (time.time() - 60, time.time() - 60))
    assert not is_in_use(tmp_path)


def test_who_looks_for_a_moment_keeps_no_run_from_starting(tmp_path):
    looking = FileLock(tmp_path / ".lock", thread_local=False)
    looking.acquire()
    threading.Timer(0.1, looking.release).start()
    RunLock(tmp_path, ignore).release()
