"""What a terminal says while torch loads, and that a pipe sees nothing of it."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

SAY = "import sys; from dlkit.cli.loading_notes import note_slow_imports; note_slow_imports(); import {}; print({}.WORDS, file=sys.stderr)"


@pytest.fixture
def slow(tmp_path, monkeypatch):
    """A package that is called torch and loads another, called torchvision."""
    (tmp_path / "torch.py").write_text("import torchvision, torch_of_ours\nWORDS = 'loaded'\n")
    (tmp_path / "torchvision.py").write_text("WORDS = 'inner'\n")
    (tmp_path / "torch_of_ours.py").touch()
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join((str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH"), str(Path.cwd())])))
    )
    return SAY.format("torch", "torch")


def test_a_terminal_is_told_and_the_words_go_away_again(slow):
    reader, writer = pty.openpty()
    subprocess.run([sys.executable, "-c", slow], stderr=writer, check=True)
    shown = os.read(reader, 10_000).decode()
    assert shown == (
        "\r\x1b[2Kloading torch ...\r\x1b[2Kloading torchvision ...\r\x1b[2Kloading torch ...\r\x1b[2Kloaded\r\n"
    )


def test_a_pipe_sees_nothing_of_it(slow):
    done = subprocess.run([sys.executable, "-c", slow], capture_output=True, text=True, check=True)
    assert done.stderr == "loaded\n"


def test_a_package_that_cannot_be_loaded_leaves_no_words(slow, tmp_path):
    (tmp_path / "torch.py").write_text("raise ImportError('broken')\n")
    reader, writer = pty.openpty()
    code = slow.replace("import torch;", "exec('try: import torch\\nexcept ImportError: pass');").replace(
        "torch.WORDS", "1"
    )
    subprocess.run([sys.executable, "-c", code], stderr=writer, check=True)
    assert os.read(reader, 10_000).decode().endswith("loading torch ...\r\x1b[2K1\r\n")


@pytest.mark.parametrize("command", ["eval", "predict"])
def test_a_network_of_ours_is_used_without_torchvision_and_compiler(command, tmp_path):
    """They take seconds to load; torch's settings, empty networks and images of the right size get by without."""
    import dlkit as package

    config = {
        "data": {"name": "digits", "limit": 64},
        "model": "small_cnn",
        "train": {"epochs": 1},
        "log": {"tensorboard": False},
    }
    run = package.train(config, out=tmp_path / "run")
    Image.new("L", (8, 8), 100).save(tmp_path / "picture.png")
    words = [command, str(run.model_path), *([str(tmp_path / "picture.png")] if command == "predict" else [])]
    code = f"import sys; sys.argv = ['dlkit', *{words!r}]\nfrom dlkit.cli.app import main\ntry: main()\nfinally: print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert "torch" in loaded and not loaded & {"torchvision", "torch._dynamo", "sympy", "torchmetrics", "matplotlib"}
