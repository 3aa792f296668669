"""What a terminal says while torch loads, and that a pipe sees nothing of it."""

import gc
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from dlkit.cli.slow_imports import quick_imports

SAY = """
import sys
from dlkit.cli.slow_imports import quick_imports
with quick_imports(are_told=True):
    import torch
print(torch.WORDS, file=sys.stderr)
"""


@pytest.fixture
def slow(tmp_path, monkeypatch):
    """A package that is called torch and loads another, called torchvision."""
    (tmp_path / "torch.py").write_text("import torchvision, torch_of_ours\nWORDS = 'loaded'\n")
    (tmp_path / "torchvision.py").write_text("WORDS = 'inner'\n")
    (tmp_path / "torch_of_ours.py").touch()
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join((str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH"), str(Path.cwd())])))
    )
    return SAY


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
    code = slow.replace("    import torch\n", "    try: import torch\n    except ImportError: pass\n").replace(
        "torch.WORDS", "1"
    )
    subprocess.run([sys.executable, "-c", code], stderr=writer, check=True)
    assert os.read(reader, 10_000).decode().endswith("loading torch ...\r\x1b[2K1\r\n")


COMPILER = """
import sys
from dlkit.cli.slow_imports import quick_imports
with quick_imports(are_told=False):
    import torch._dynamo
    stand_in, keep_away = torch._dynamo, torch._dynamo.disable(len)
    torch._dynamo.graph_break()
    assert keep_away("abc") == 3 and not hasattr(stand_in, "__file__") and "torch.log" not in sys.modules
    {use}
    assert sys.modules["torch._dynamo"] is torch._dynamo is not stand_in
    assert torch._dynamo.LOG == ["loaded"] and stand_in.LOG is torch._dynamo.LOG
    assert keep_away("abc") == -3
"""


@pytest.mark.parametrize(
    "use",
    [
        "assert torch._dynamo.LOG",
        "from torch._dynamo import LOG",
        "import torch._dynamo.eval_frame as frame; assert frame",
    ],
)
def test_the_compiler_is_loaded_by_the_first_use_that_is_more_than_keeping_away(use, tmp_path, monkeypatch):
    package = tmp_path / "torch" / "_dynamo"
    package.mkdir(parents=True)
    (tmp_path / "torch" / "__init__.py").touch()
    (package / "eval_frame.py").write_text("import torch._dynamo\nfrom torch._dynamo import LOG\n")
    (package / "__init__.py").write_text(
        "LOG = ['loaded']\nfrom . import eval_frame\ndef disable(fn, recursive=True): return lambda *args: -fn(*args)\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(tmp_path), str(Path.cwd()))))
    subprocess.run([sys.executable, "-c", COMPILER.format(use=use)], check=True)


def test_no_garbage_is_searched_for_while_a_slow_package_loads(slow, tmp_path):
    (tmp_path / "torch.py").write_text("import gc\nWORDS = gc.isenabled()\n")
    inside = "    import torch, gc\n    torch.WORDS = torch.WORDS, gc.isenabled(), gc.get_freeze_count() > 0\n"
    code = slow.replace("    import torch\n", inside)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "(False, True, True)\n"


HEAVY = {"torchvision", "torch._inductor", "sympy", "torchmetrics", "matplotlib", "onnx", "scipy"}


def modules_of(*words):
    """The modules that a command has loaded when it is done, and of which class the compiler is."""
    code = (
        f"import sys; sys.argv = ['dlkit', *{list(map(str, words))!r}]\nfrom dlkit.cli.app import main\ntry: main()\n"
    )
    code += "finally: print(type(sys.modules.get('torch._dynamo')).__name__, *sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    compiler, *loaded = done.stdout.splitlines()[-1].split()
    return compiler, set(loaded)


def test_nothing_stays_frozen_behind_a_command():
    """Extensions such as triton's, which timm loads, list on stderr what Python does not collect at its end."""
    gc.freeze()
    with quick_imports(are_told=False):
        pass
    assert gc.get_freeze_count() == 0


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """What training on the digits loads, with augmentation and TensorBoard, and where the model file is."""
    out = tmp_path_factory.mktemp("digits") / "run"
    config = Path(__file__).parents[2] / "examples" / "digits.yaml"
    return modules_of("train", config, "--max-steps", 2, "--out", out), out / "model.pt"


def test_the_digits_are_trained_on_without_torchvision_and_compiler(trained):
    compiler, loaded = trained[0]
    assert {"torch", "tensorboard"} <= loaded and not loaded & HEAVY and compiler == "CompilerOnDemand"


@pytest.mark.parametrize("command", ["eval", "predict"])
def test_a_network_of_ours_is_used_without_torchvision_and_compiler(command, trained, tmp_path):
    """They take seconds to load; torch's settings, empty networks and images of the right size get by without."""
    Image.new("L", (8, 8), 100).save(tmp_path / "picture.png")
    compiler, loaded = modules_of(
        command, trained[1], *([tmp_path / "picture.png"] if command == "predict" else ["--split", "val"])
    )
    assert "torch" in loaded and not loaded & (HEAVY | {"torch._dynamo"}) and compiler == "NoneType"
