"""Sums of the largest codes: which kernels lose them with weights of eight bits, on this CPU and on one without VNNI."""

import os
import platform
import subprocess
import sys

import pytest
import torch

from dlkit.quantize.int8 import available_kernels, find_kernels, saturating_shapes, saturation_note, weight_bits

FAST = [kernels.name for kernels in available_kernels() if kernels.name not in ("reference", "plain")]
IS_X86 = platform.machine().lower() in {"x86_64", "amd64"}
HAS_VNNI = torch.cpu._is_vnni_supported()


@pytest.mark.parametrize("name", FAST)
def test_seven_bits_are_enough(name):
    assert saturating_shapes(name, bits=7) == ()


@pytest.mark.parametrize("name", FAST)
def test_the_bits_follow_from_what_was_lost(name):
    assert weight_bits(name) == (7 if saturating_shapes(name) else 8)
    assert (saturation_note(name) is None) == (weight_bits(name) == 8)


@pytest.mark.skipif(not (HAS_VNNI and IS_X86), reason="needs a CPU with VNNI")
def test_onednn_loses_nothing_with_vnni():
    assert weight_bits("onednn") == 8


@pytest.mark.skipif(HAS_VNNI or not IS_X86, reason="needs an x86 CPU without VNNI")
def test_onednn_loses_sums_without_vnni():
    assert "dense 2d convolutions" in saturating_shapes("onednn")


@pytest.mark.skipif("fbgemm" not in FAST, reason="no FBGEMM here")
def test_depthwise_kernels_of_fbgemm_lose_sums_on_any_cpu():
    assert "depthwise 2d convolutions" in saturating_shapes("fbgemm")


@pytest.mark.skipif("qnnpack" not in FAST, reason="no QNNPACK here")
def test_qnnpack_loses_nothing():
    assert weight_bits("qnnpack") == 8


PICKED = """
import torch
from torch import nn
from dlkit.quantize.int8 import *
names = [kernels.name for kernels in available_kernels() if kernels.name not in ("plain", "reference")]
X, Y = Affine(0.1, 3), Epilogue(Affine(0.1, 3))
for bits in (7, 8):
    for kind, build, layer in [
        ("dense 2d convolutions", Int8Conv2d, nn.Conv2d(8, 8, 3)),
        ("grouped 2d convolutions", Int8Conv2d, nn.Conv2d(8, 8, 3, groups=2)),
        ("depthwise 2d convolutions", Int8Conv2d, nn.Conv2d(8, 8, 3, groups=8)),
        ("linear layers", Int8Linear, nn.Linear(8, 8)),
    ]:
        made = build.from_float(layer, x=X, epilogue=Y, bits=bits)
        safe = [name for name in names if bits == 7 or kind not in saturating_shapes(name)]
        picked = {pick_kernels(made, name).name for name in ("auto", "x86")}
        assert picked == {safe[0] if safe else names[0]}, (bits, kind, safe, picked)
        assert pick_kernels(made, "reference").name == "reference"
assert weight_bits("auto") == weight_bits("x86") == weight_bits(names[0])
print("fine", names[0], len(saturating_shapes("auto")))
"""


@pytest.mark.skipif(not IS_X86, reason="qnnpack comes first elsewhere")
@pytest.mark.parametrize("newest", ["AVX2", "ALL"])
def test_automatic_kernels_lose_no_sums_where_others_do_not(newest):
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": newest}
    done = subprocess.run([sys.executable, "-c", PICKED], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("fine onednn"), done.stderr


@pytest.mark.skipif(not IS_X86, reason="oneDNN's limit names x86 CPUs")
def test_a_cpu_without_vnni():
    """oneDNN can be told to use no newer instructions than AVX2's."""
    code = (
        "from dlkit.quantize.int8 import *\n"
        "print(weight_bits('onednn'), saturating_shapes('onednn', bits=7), saturation_note('onednn'))"
    )
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("7 () On this CPU onednn cuts off large sums in dense 2d convolutions")
    assert "linear layers" in done.stdout


def test_exact_kernels_lose_nothing():
    assert weight_bits("reference") == 8
    assert find_kernels("reference").is_available()
