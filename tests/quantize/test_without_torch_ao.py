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
import torch, torchvision
if "dlkit.quantize.storage.reloading" not in sys.orig_argv:  # which exports nothing
    import torch._dynamo, torch.onnx
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
import torch
from dlkit.cli.app import main
for line in ("import torch.ao.quantization", "torch.quantize_per_tensor(torch.ones(1), 1.0, 0, torch.quint8)"):
    try:
        exec(line)
    except (ImportError, RuntimeError) as error:
        assert "removed" in str(error)
    else:
        raise AssertionError(f"{line}: the wall does not stand")
for line in sys.stdin.read().splitlines():
    sys.argv = ["dlkit", *line.split("|")]
    try:
        main()
    except SystemExit as stop:
        assert not stop.code, f"{line}: {stop.code}"
print("all done")
"""


def run_behind_the_wall(folder, commands):
    (folder / "sitecustomize.py").write_text(WALL, encoding="utf-8")
    return subprocess.run(
        [sys.executable, "-c", COMMANDS], input="\n".join("|".join(map(str, words)) for words in commands),
        capture_output=True, text=True, check=False, timeout=1500,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *sys.path])},
    )  # fmt: skip


@pytest.mark.slow
def test_every_command_works(tmp_path, tmp_path_factory):
    changes = ["train.epochs=2", "train.max_steps=6", "model.width=8", "log.graph=false"]
    model, recurrent, int8 = tmp_path / "run" / "model.pt", tmp_path / "lstm" / "model.pt", tmp_path / "int8.pt"
    quiet = ["--no-latency", "--calib", "64"]
    commands = [
        ["train", DIGITS, *changes, "--out", tmp_path / "run"],
        ["train", DIGITS, "model.name=lstm", "train.max_steps=6", "log.graph=false", "--out", tmp_path / "lstm"],
        ["quantize", model, "--static", *quiet, "-o", int8],
        ["quantize", model, "--dynamic", "--no-latency"],
        ["quantize", recurrent, "--dynamic", "--no-latency"],
        ["quantize", model, "--qat", "--epochs", "0.1", *quiet],
        ["quantize", model, "--sensitivity", "--calib", "64"],
        ["quantize", model, "--static", "--max-drop", "90", *quiet, "-o", tmp_path / "drop.pt"],
        ["eval", int8],
        ["bench", int8, "--seconds", "0.1", "--engine", "eager,frozen"],
        ["export", int8, "--format", "onnx", "-o", tmp_path / "int8.onnx"],
    ]
    done = run_behind_the_wall(tmp_path_factory.mktemp("wall"), commands)
    assert done.stdout.endswith("all done\n"), done.stdout[-2000:] + done.stderr[-3000:]
