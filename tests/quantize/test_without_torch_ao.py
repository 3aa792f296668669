"""Every int8 command runs where torch has neither torch.ao.quantization nor quantized tensors: torch removes both."""

import subprocess
import sys
from pathlib import Path

import pytest

DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits.yaml"

# torchvision, torch._dynamo and the ONNX exporter import torch.ao themselves, so the wall goes up after them.
WALL = """
import sys, torch, torch._dynamo, torch.onnx, torchvision
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
MAIN = WALL + "from dlkit.cli.app import main\nsys.argv[0] = 'dlkit'\nmain()\n"


def behind_the_wall(*words):
    return subprocess.run(
        [sys.executable, "-c", MAIN, *map(str, words)], capture_output=True, text=True, check=False, timeout=120
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "run"
    changes = ["train.epochs=2", "train.max_steps=6", "model.width=8", "log.graph=false"]
    done = behind_the_wall("train", DIGITS, *changes, "--out", folder)
    assert done.returncode == 0, done.stderr
    return folder / "model.pt"


def test_the_wall_stands():
    for line in ("import torch.ao.quantization", "torch.quantize_per_tensor(torch.ones(1), 1.0, 0, torch.quint8)"):
        done = subprocess.run([sys.executable, "-c", WALL + line], capture_output=True, text=True, check=False)
        assert done.returncode != 0 and "removed" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("options", [
    ["--static"], ["--dynamic"], ["--qat", "--epochs", "0.1"], ["--static", "--sensitivity"], ["--static", "--max-drop", "5"],
], ids=" ".join)  # fmt: skip
def test_quantizes(trained, tmp_path, options):
    done = behind_the_wall("quantize", trained, *options, "--no-latency", "--output", tmp_path / "int8.pt")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_judges_and_times_the_int8_file(trained, tmp_path):
    file = tmp_path / "int8.pt"
    for words in (
        ["quantize", trained, "--static", "--no-latency", "--output", file],
        ["eval", file],
        ["bench", file, "--seconds", "0.2"],
    ):
        done = behind_the_wall(*words)
        assert done.returncode == 0, done.stdout + done.stderr
