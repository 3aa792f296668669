"""Which engine, and what is said about the CPU."""

import platform
import re

import pytest
import torch
from torch import nn

from dlkit.errors import UsageError
from dlkit.quantize import Recipe, cpu_notes, pick_backend, pick_reduce

DEPTHWISE = nn.Sequential(nn.Conv2d(8, 8, 3, groups=8))
PLAIN = nn.Sequential(nn.Conv2d(8, 8, 3))
ONE_CHANNEL = nn.Conv2d(1, 4, 3)


@pytest.mark.parametrize(
    ("machine", "expected"), [("x86_64", "x86"), ("AMD64", "x86"), ("aarch64", "qnnpack"), ("arm64", "qnnpack")]
)
def test_auto_goes_by_the_machine(monkeypatch, machine, expected):
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert pick_backend("auto") == expected


def test_an_engine_that_is_not_there_is_named_with_those_that_are(monkeypatch):
    with pytest.raises(UsageError, match="no int8 backend 'cuda' on this machine; it has x86, fbgemm, onednn, qnnpack"):
        pick_backend("cuda")
    monkeypatch.setattr(type(torch.backends.quantized), "supported_engines", ["none", "qnnpack"])
    with pytest.raises(UsageError, match="it has qnnpack$"):
        pick_backend("x86")


@pytest.mark.parametrize(("backend", "vnni", "expected"), [
    ("x86", True, "weights"), ("fbgemm", True, "weights"), ("onednn", True, "none"), ("onednn", False, "weights"),
    ("qnnpack", False, "none"),
])  # fmt: skip
def test_who_gives_up_a_bit(monkeypatch, backend, vnni, expected):
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: vnni)
    assert pick_reduce(backend) == expected


@pytest.mark.parametrize(("backend", "reduce", "network", "vnni", "words"), [
    ("x86", "weights", DEPTHWISE, True, []),
    ("x86", "none", DEPTHWISE, True, ["depthwise kernels.*overflow"]),
    ("x86", "none", PLAIN, True, []),
    ("x86", "none", ONE_CHANNEL, True, []),
    ("x86", "none", PLAIN, False, ["Without VNNI", "gains less speed"]),
    ("fbgemm", "none", PLAIN, True, ["Without VNNI"]),
    ("onednn", "none", PLAIN, True, ["CPUs without it"]),
    ("onednn", "none", DEPTHWISE, False, ["this CPU, which has none", "depthwise convolutions slowly", "gains less"]),
    ("onednn", "weights", DEPTHWISE, True, ["depthwise convolutions slowly"]),
    ("qnnpack", "none", DEPTHWISE, True, ["for ARM"]),
])  # fmt: skip
def test_notes_about_the_cpu(monkeypatch, backend, reduce, network, vnni, words):
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: vnni)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    notes = cpu_notes(Recipe("static", backend, reduce=reduce), network)
    assert len(notes) == len(words)
    for note, pattern in zip(notes, words, strict=True):
        assert re.search(pattern, note)
