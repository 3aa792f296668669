"""A stop is one whenever it comes: while dlkit loads, builds, checks, trains, validates or tests, to one process or to all of them."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch

NET = """
import os, signal
from pathlib import Path
import torch
from torch import nn

class Net(nn.Module):
    \"\"\"Raises a signal in this process when it comes to a moment: built, or the n-th forward pass of a kind.\"\"\"

    def __init__(self, num_classes):
        super().__init__()
        self.linear, self.dropout = nn.Linear(64, num_classes), nn.Dropout(0.2)
        self.passes = []
        self.come_to("build")

    def forward(self, x):
        if x.device.type != "meta":
            self.passes.append("train" if self.training else "eval")
            self.come_to(f"{self.passes[-1]} {self.passes.count(self.passes[-1])}")
        return self.linear(self.dropout(x.flatten(1)))

    def come_to(self, moment):
        if os.environ.get("MOMENT") == moment:
            signal.raise_signal(int(os.environ["SEND"]))
"""
# 2 epochs of 3 batches, each validated in one; the best is tested in one
CONFIG = """
data: {name: digits, limit: 96, batch_size: 32, val: 0.02, test: 0.02, cache: none, num_workers: 0}
model: NET:Net
train: {epochs: 2}
log: {tensorboard: false}
"""


@pytest.fixture
def own(write_config):
    return write_config(CONFIG.replace("NET", str(write_config(NET, "net.py"))))


def status_of(run):
    path = run / "run.json"
    return json.loads(path.read_text())["status"] if path.exists() else None


def state_of(run):
    state = torch.load(run / "checkpoints" / "last.pt", weights_only=True)
    history = {name: column for name, column in state["history"].items() if name != "train_s"}
    return [state[name] for name in ("state_dict", "optimizer", "position", "random", "best")] + [history]


# building, the check of the first batch, the first and a later step, validation, the final test
MOMENTS = {"build": None, "eval 1": None} | dict.fromkeys(("train 1", "train 4", "eval 2", "eval 4"), "interrupted")


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_stop_at_any_moment_of_a_run(dlkit, own, tmp_path, monkeypatch, same, moment):
    """Nothing is left of a run that had not begun; any other goes on to the same end."""
    monkeypatch.setenv("MOMENT", moment)
    monkeypatch.setenv("SEND", str(int(signal.SIGTERM)))
    done = dlkit("train", own, "--out", tmp_path / "run", "-q")
    assert done.code == 143 and "Traceback" not in done.err and "error" not in done.err, done.err
    assert status_of(tmp_path / "run") == MOMENTS[moment]
    monkeypatch.delenv("MOMENT")
    more = ["--resume", tmp_path / "run"] if MOMENTS[moment] else ["--out", tmp_path / "run"]
    assert dlkit("train", own, *more, "-q").code == 0
    assert dlkit("train", own, "--out", tmp_path / "straight", "-q").code == 0
    assert same(state_of(tmp_path / "run"), state_of(tmp_path / "straight"))
    assert status_of(tmp_path / "run") == "finished"


@pytest.mark.posix
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_request_to_save_never_stops_a_run(dlkit, own, tmp_path, monkeypatch, moment):
    monkeypatch.setenv("MOMENT", moment)
    monkeypatch.setenv("SEND", str(int(signal.SIGUSR1)))
    assert dlkit("train", own, "--out", tmp_path / "run", "-q").code == 0
    assert status_of(tmp_path / "run") == "finished"


def start(*arguments, folder, **options):
    command = [sys.executable, "-m", "dlkit", *map(str, arguments)]
    return subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, start_new_session=True, text=True, **options)


def wait_until(is_true):
    end = time.monotonic() + 120
    while not is_true():
        assert time.monotonic() < end
        time.sleep(0.005)


def catches_signals(process):
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("SigCgt")), 16) >> (signal.SIGTERM - 1) & 1


@pytest.mark.anew
@pytest.mark.posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_dlkit_loads(own, tmp_path, number):
    with start("train", own, "--out", "run", folder=tmp_path) as process:
        wait_until(lambda: catches_signals(process))
        process.send_signal(number)
        _, errors = process.communicate()
    assert (process.returncode, errors) == (128 + number, f"stopped by {number.name}\n")
    assert not (tmp_path / "run").exists()


LONG = CONFIG.replace("epochs: 2", "epochs: 5000").replace("num_workers: 0", "num_workers: 2")


def has_trained(run):
    metrics = run / "metrics.csv"
    return metrics.exists() and len(metrics.read_text().splitlines()) > 2


@pytest.mark.slow
@pytest.mark.posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_the_whole_group(write_config, tmp_path, number):
    """What a terminal does at Ctrl-C, and when it is closed: the loader processes get the signal too."""
    config = write_config(LONG.replace("NET:Net", "mlp"))
    with start("train", config, "--out", "run", "-q", folder=tmp_path) as process:
        wait_until(lambda: has_trained(tmp_path / "run"))
        os.killpg(process.pid, number)
        _, errors = process.communicate()
    assert process.returncode == 128 + number and "Traceback" not in errors and "error" not in errors, errors
    step = torch.load(tmp_path / "run" / "checkpoints" / "last.pt", weights_only=True)["position"]["step"]
    assert f"stopped at step {step}, saved" in errors and status_of(tmp_path / "run") == "interrupted"


@pytest.mark.slow
@pytest.mark.posix
@pytest.mark.parametrize("is_told", [True, False], ids=["told by SIGHUP", "not told"])
def test_a_terminal_that_goes_away(write_config, tmp_path, is_told):
    """Writing to it fails with EIO. SIGHUP stops the run; where that is ignored it goes on and ends well."""
    epochs = "5000" if is_told else "40"
    config = write_config(LONG.replace("NET:Net", "mlp").replace("5000", epochs))
    terminal, screen = pty.openpty()
    prepare = partial(signal.signal, signal.SIGHUP, signal.SIG_DFL if is_told else signal.SIG_IGN)
    command = [sys.executable, "-m", "dlkit", "train", str(config), "--out", "run"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdin=screen, stdout=screen, stderr=screen, start_new_session=True, preexec_fn=prepare
    ) as process:
        os.close(screen)
        wait_until(lambda: has_trained(tmp_path / "run"))
        os.close(terminal)
        if is_told:
            process.send_signal(signal.SIGHUP)
        assert process.wait(240) == (129 if is_told else 0)
    assert status_of(tmp_path / "run") == ("interrupted" if is_told else "finished")


DYING = """
import os, signal, torch
from torch.utils.data import get_worker_info

class Dying:  # what stops a whole container: the run is asked to end, and a loader process is killed
    def __len__(self):
        return 96

    def __getitem__(self, index):
        if index == 50 and get_worker_info() and os.environ.get("DIE"):
            os.kill(os.getppid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGKILL)
        return torch.full((8,), index / 96), index % 2
"""


@pytest.mark.slow
@pytest.mark.posix
def test_a_loader_process_that_dies_while_the_run_stops(dlkit, write_config, tmp_path, monkeypatch, same):
    config = write_config(
        f"data: {{name: '{write_config(DYING, 'dying.py')}:Dying', val: none, batch_size: 8, num_workers: 2}}\n"
        "model: mlp\ntrain: {epochs: 1, accumulate: 3}\nlog: {tensorboard: false}\n"
    )
    monkeypatch.setenv("DIE", "1")
    done = dlkit("train", config, "--out", tmp_path / "run", "-q")
    assert done.code == 143 and "saved" in done.err and "error" not in done.err, done.err
    monkeypatch.delenv("DIE")
    assert dlkit("train", config, "--resume", tmp_path / "run", "-q").code == 0
    assert dlkit("train", config, "--out", tmp_path / "straight", "-q").code == 0
    assert same(state_of(tmp_path / "run"), state_of(tmp_path / "straight"))
