"""Every int8 command runs where torch has neither torch.ao.quantization nor quantized tensors: torch removes both."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits.yaml"

# torch, torchvision and the ONNX exporter import torch.ao themselves, so the wall goes up behind them. It stands in the fresh
# process that proves a file, too, which Python's `sitecustomize` sees to.
WALL = """
import sys
import torch, torch._dynamo, torch.onnx, torchvision
BLOCKED = ("torch.ao.quantization", "torch.ao.nn")

def is_blocked(name):
    return any(name == blocked or name.startswith(blocked + ".") for blocked in BLOCKED)

class Wall:
    def find_spec(self, name, path=None, target=None):
        if is_blocked(name):
            raise ImportError(f"{name} is removed")

def removed(*args, **kwargs):
    raise RuntimeError("quantized tensors are removed")

for name in [name for name in sys.modules if is_blocked(name)]:
    del sys.modules[name]
for name in ("quantization", "nn"):
    vars(torch.ao).pop(name, None)
sys.meta_path.insert(0, Wall())
for name in ("quantize_per_tensor", "quantize_per_channel", "_empty_affine_quantized"):
    setattr(torch, name, removed)
"""
COMMANDS = """
import sys
from dlkit.cli.app import main
for line in sys.stdin.read().splitlines():
    sys.argv = ["dlkit", *line.split("|")]
    try:
        main()
    except SystemExit as stop:
        assert not stop.code, f"{line}: {stop.code}"
print("all done")
"""


@pytest.fixture(scope="module")
def behind_the_wall(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wall")
    (folder / "sitecustomize.py").write_text(WALL, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *sys.path])}

    def run(code, *commands):
        lines = "\n".join("|".join(map(str, words)) for words in commands)
        return subprocess.run(
            [sys.executable, "-c", code],
            input=lines,
            capture_output=True,
            text=True,
            check=False,
            env=environment,
            timeout=300,
        )

    return run


@pytest.mark.parametrize(
    "line",
    ["import torch.ao.quantization", "import torch; torch.quantize_per_tensor(torch.ones(1), 1.0, 0, torch.quint8)"],
)
def test_the_wall_stands(behind_the_wall, line):
    done = behind_the_wall(line)
    assert done.returncode != 0 and "removed" in done.stderr


@pytest.mark.slow
def test_every_command_works(behind_the_wall, tmp_path):
    changes = ["train.epochs=2", "train.max_steps=6", "model.width=8", "log.graph=false"]
    model, recurrent, int8 = tmp_path / "run" / "model.pt", tmp_path / "lstm" / "model.pt", tmp_path / "int8.pt"
    quiet = ["--no-latency", "--calib", "64"]
    done = behind_the_wall(
        COMMANDS,
        ["train", DIGITS, *changes, "--out", tmp_path / "run"],
        [
            "train",
            DIGITS,
            "model.name=lstm",
            "train.max_steps=6",
            "log.graph=false",
            "--out",
            tmp_path / "lstm",
        ],
        ["quantize", model, "--static", *quiet, "-o", int8],
        ["quantize", model, "--dynamic", "--no-latency"],
        ["quantize", recurrent, "--dynamic", "--no-latency"],
        ["quantize", model, "--qat", "--epochs", "0.1", *quiet],
        ["quantize", model, "--sensitivity", "--calib", "64"],
        ["quantize", model, "--static", "--max-drop", "90", *quiet, "-o", tmp_path / "drop.pt"],
        ["eval", int8],
        ["bench", int8, "--seconds", "0.1", "--engine", "eager,frozen"],
        ["export", int8, "--format", "onnx", "-o", tmp_path / "int8.onnx"],
    )
    assert done.stdout.endswith("all done\n"), done.stdout[-2000:] + done.stderr[-3000:]
