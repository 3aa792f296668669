import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from tests.hanging import watched
from tests.preloaded import SERVER, Server

HANGING = "import time\ndef wait():\n    time.sleep(600)\nwait()\n"


@pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")
def test_what_hangs_is_aborted_and_says_where():
    with watched(lambda: SERVER.pids, limit_s=5):
        done = subprocess.run(
            [sys.executable, "-X", "faulthandler", "-c", HANGING], capture_output=True, text=True, check=False
        )
    assert done.returncode == -signal.SIGABRT and "line 3 in wait" in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")
def test_commands_are_aborted_and_others_go_on(tmp_path):
    """Those that are forked, too; the process that forks them is there for the next."""
    (tmp_path / "net.py").write_text("import time\n\ndef Net(num_classes):\n    time.sleep(600)\n")
    (tmp_path / "cfg.yaml").write_text(f"data: digits\nmodel: {tmp_path}/net.py:Net\n")

    def run(*arguments):
        command = [sys.executable, "-m", "dlkit", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)

    assert run("--version").returncode == 0  # now that process is there
    with watched(lambda: SERVER.pids, limit_s=5):
        done = run("train", "cfg.yaml")
    assert done.returncode == -signal.SIGABRT and 'net.py", line 4 in Net' in done.stderr
    assert run("--version").returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="commands are forked on Linux alone")
def test_the_process_that_forks_ends_although_others_hold_its_channel():
    server = Server()
    channel, theirs = socket.socketpair()
    with channel, theirs:
        server.ask([theirs.fileno(), 0, 1, 2])
    if (left := os.fork()) == 0:
        time.sleep(600)
        os._exit(0)
    with watched(lambda: frozenset(), limit_s=60):
        server.close()
        assert os.waitpid(left, os.WNOHANG) == (0, 0)  # it is still there
    os.kill(left, signal.SIGKILL)
    os.waitpid(left, 0)
