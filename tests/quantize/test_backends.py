"""Which kernels a recipe is for, how many bits they carry here, and what users are told of it."""

import platform

import pytest
import torch
from torch import nn

from dlkit.errors import UsageError
from dlkit.quantize import Recipe, cpu_notes, pick_backend, pick_reduce
from dlkit.quantize.graph import convert
from dlkit.quantize.int8 import saturating_shapes
from dlkit.quantize.ptq import observe_network


@pytest.mark.parametrize(
    ("machine", "expected"), [("x86_64", "x86"), ("AMD64", "x86"), ("aarch64", "qnnpack"), ("arm64", "qnnpack")]
)
def test_auto_goes_by_the_machine(monkeypatch, machine, expected):
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert pick_backend("auto") == expected


def test_kernels_that_are_not_there_are_named_with_those_that_are():
    with pytest.raises(UsageError, match="no kernels are called 'cuda': take one of onednn, fbgemm, qnnpack"):
        pick_backend("cuda")


@pytest.mark.parametrize("backend", ["x86", "fbgemm", "onednn", "qnnpack"])
def test_weights_give_up_a_bit_where_large_sums_would_be_lost(backend):
    assert pick_reduce(backend) == ("weights" if saturating_shapes(backend) else "none")
    assert pick_reduce("qnnpack") == "none"


@pytest.mark.parametrize("backend", ["x86", "fbgemm", "onednn", "qnnpack"])
def test_notes_about_the_cpu(backend, monkeypatch):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.ReLU(), nn.Conv2d(16, 4, 1)).eval()
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")

    def told(reduce):
        recipe = Recipe("static", backend, reduce=reduce)
        return cpu_notes(recipe, convert(observe_network(network, recipe, [torch.randn(2, 16, 8, 8)]), recipe))

    # QNNPACK leaves layers that it cannot compute to others
    lost = {
        kind
        for kind in saturating_shapes("auto" if backend == "qnnpack" else backend)
        if kind.endswith("2d convolutions")
    }
    assert any("cuts off large sums" in note for note in told("none")) == bool(
        lost & {"depthwise 2d convolutions", "dense 2d convolutions"}
    )
    assert any("for ARM" in note for note in told("none")) == (backend == "qnnpack")
    assert not any("cuts off" in note for note in told("weights"))
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: False)
    assert any("gains less speed" in note for note in told("weights")) == (backend != "qnnpack")
