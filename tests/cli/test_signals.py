"""Commands end cleanly by a signal, also those that a shell put in the background, where it has SIGINT ignored."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import tempfile
import threading
from functools import partial

import pytest

import dlkit as package

QUICK = """
data: {name: digits, batch_size: 32}
model: {name: mlp, hidden: [32]}
optimizer: {name: sgd, lr: 0.05, momentum: 0.9}
log: {tensorboard: false}
"""


@pytest.fixture
def model(tmp_path, tmp_path_factory, write_config):
    """A model file, alone in its folder."""
    run = tmp_path_factory.mktemp("signals") / "run"
    trained = package.train(write_config(f"{QUICK}\ntrain: {{epochs: 1}}\n", "trained.yaml"), out=run)
    (tmp_path / "trained.yaml").unlink()
    return trained.model_path.rename(tmp_path / "model.pt")


def stop_in_the_background(arguments, *, number, once_shown, folder):
    """Start a command as a shell does that has no jobs, send it a signal when a terminal shows this; code, stdout, stderr."""
    terminal, screen = pty.openpty()
    with tempfile.TemporaryFile("w+") as results, subprocess.Popen(  # a pipe that nobody reads meanwhile fills up
        [sys.executable, "-m", "dlkit", *arguments], cwd=folder, stdout=results, stderr=screen,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_IGN),
    ) as process:  # fmt: skip
        os.close(screen)
        shown = read_until(terminal, once_shown)
        process.send_signal(number)
        too_late = threading.Timer(240, process.kill)
        too_late.start()
        shown += read_until(terminal, None)
        process.wait()
        too_late.cancel()
        results.seek(0)
        out = results.read()
    os.close(terminal)
    return process.returncode, out, " ".join(shown.split())


def read_until(terminal, pattern):
    """What is written to a terminal until the pattern is in it, or to its end."""
    shown = b""
    while pattern is None or not re.search(pattern.encode(), shown):
        try:
            shown += os.read(terminal, 4096)
        except OSError:  # nobody holds the other end any more
            assert pattern is None, shown.decode()
            break
    return shown.decode()


both = pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])


@pytest.mark.slow
@both
@pytest.mark.parametrize(
    "command",
    [
        ("prune", "--amount", "50%", "--finetune", "5000"),
        ("prune", "--amount", "50%", "--finetune", "5000", "--shrink", "--round-to", "1"),
        ("quantize", "--qat", "--epochs", "5000"),
    ],
    ids=" ".join,
)
def test_a_task_writes_nothing(model, tmp_path, command, number, code):
    name, *options = command
    ended, out, shown = stop_in_the_background(
        [name, model.name, *options], number=number, once_shown=r"\b1/5000", folder=tmp_path
    )
    assert (ended, out) == (code, "") and "nothing was written" in shown, shown
    assert "Traceback" not in shown and "error" not in shown
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]


@pytest.mark.slow
@both
def test_a_range_test_shows_what_was_found(write_config, tmp_path, number, code):
    arguments = ["lr-find", str(write_config(QUICK)), "--repeats", "1000", "--json"]
    ended, out, shown = stop_in_the_background(
        arguments, number=number, once_shown=r"sweep ([3-9]|\d\d)", folder=tmp_path
    )
    assert ended == code and "stopped after" in shown and "Traceback" not in shown, shown
    plain = json.loads(out)
    assert plain["interrupted"] and plain["recommended"] and len(plain["sweeps"]) >= 3
    interrupted = [sweep["ended"] == "interrupted" for sweep in plain["sweeps"]]
    assert interrupted == [False] * (len(interrupted) - 1) + [True]
    assert [path.name for path in tmp_path.iterdir()] == ["cfg.yaml"]


@pytest.mark.slow
@both
def test_a_training_saves(write_config, tmp_path, number, code):
    arguments = ["train", str(write_config(QUICK)), "train.epochs=5000", "--out", "run"]
    ended, _, shown = stop_in_the_background(arguments, number=number, once_shown=r"\b1/5000", folder=tmp_path)
    assert ended == code and "Go on with: dlkit train" in shown and "Traceback" not in shown, shown
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "interrupted"
    assert (tmp_path / "run" / "checkpoints" / "last.pt").exists()


SIGNALLING = """
import os, signal
from pathlib import Path
from torch import nn

class Net(nn.Sequential):  # signals this process when a pruned file is being checked before it is in its place
    def __init__(self, num_classes):
        super().__init__(nn.Flatten(), nn.Linear(64, 32), nn.Linear(32, num_classes))

    def forward(self, x):
        if list(Path(__file__).parent.glob("*/p.pt")):
            signal.raise_signal(int(os.environ["SEND"]))
        return super().forward(x)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_a_pruned_file_is_written(dlkit, write_config, tmp_path, tmp_path_factory, monkeypatch, number):
    named = f"{write_config(SIGNALLING, 'net.py')}:Net"
    config = write_config(f"data: {{name: digits, limit: 64}}\nmodel: {named}\ntrain: {{epochs: 1}}\n")
    run = tmp_path_factory.mktemp("trained") / "run"
    assert dlkit("train", config, "--out", run, "-q").code == 0
    handler, before = signal.getsignal(number), sorted(tmp_path.iterdir())
    monkeypatch.setenv("SEND", str(int(number)))
    done = dlkit(
        "prune", run / "model.pt", "--model", named, "--amount", "50%", "-o", tmp_path / "p.pt", "--no-latency"
    )
    assert (done.code, done.out) == (128 + number, ""), done.err
    assert f"stopped by {number.name}; nothing was written" in done.err and "error" not in done.err
    assert sorted(tmp_path.iterdir()) == before and signal.getsignal(number) is handler
