"""Quantizing a large network takes little more memory than its weights, and leaves none behind."""

import copy
import gc
import subprocess
import sys
import weakref

import pytest
import torch
from torch import nn

from dlkit.quantize import Recipe
from dlkit.quantize.graph import convert, prepare, without_observers
from dlkit.quantize.ptq import observe_network

RECIPE = Recipe("static", "x86", keep_float=("1",), reduce="weights")


def network():
    torch.manual_seed(0)
    shared = nn.Linear(8, 8)
    return nn.Sequential(nn.Linear(8, 8), shared, nn.BatchNorm1d(8), nn.ReLU(), shared, nn.Linear(8, 2)).eval()


def test_a_graph_has_modules_of_its_own_and_the_same_parameters():
    original = nn.Sequential(nn.BatchNorm1d(8), nn.Linear(8, 2)).eval()
    prepared = prepare(original, Recipe("static", "x86"), torch.randn(4, 8))
    assert [id(parameter) for parameter in prepared.parameters()] == [
        id(parameter) for parameter in original.parameters()
    ]
    prepared.train()(torch.randn(4, 8))
    assert prepared.get_submodule("0").running_mean.any() and not original[0].running_mean.any()
    assert not original[0].training
    assert copy.deepcopy(original)[1].weight is not original[1].weight  # an ordinary copy is one again


def test_graphs_share_weights_and_change_none():
    original, inputs = network(), torch.randn(4, 8)
    before = copy.deepcopy(original.state_dict())
    prepared = observe_network(original, RECIPE, [inputs])
    own = {id(parameter) for parameter in original.parameters()}
    for graph in (prepared, without_observers(prepared)):  # all but the batch norm, which is folded
        assert len({id(parameter) for parameter in graph.parameters()} & own) >= 4
    convert(prepared, RECIPE)(inputs)
    assert all(torch.equal(before[name], tensor) for name, tensor in original.state_dict().items())


def test_nothing_keeps_a_network_when_all_is_done():
    original, inputs = network(), torch.randn(4, 8)
    prepared = observe_network(original, RECIPE, [inputs])
    converted = convert(prepared, RECIPE)
    left = [weakref.ref(original[0].weight), weakref.ref(prepared), weakref.ref(converted)]
    del original, prepared, converted
    gc.collect()
    assert [reference() for reference in left] == [None, None, None]


PEAK = """
import sys, torch
from torch import nn
from pathlib import Path
from dlkit.quantize import Recipe
from dlkit.quantize.ptq import Remedies, quantize_accurately

def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) * 1024

torch.set_num_threads(1)
layers = [part for _ in range(16) for part in (nn.LayerNorm(2048), nn.Linear(2048, 2048), nn.ReLU())]
network = nn.Sequential(*layers).eval()
weights = sum(parameter.nbytes for parameter in network.parameters())
batches = [torch.randn(8, 2048) for _ in range(2)]
recipe = Recipe("static", "x86", reduce="weights")
before = peak()
quantize_accurately(network, recipe, batches, remedies=Remedies())
print((peak() - before) / weights)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_peak_of_a_large_network():
    """In bytes of its weights, with every remedy tried. It was 15 when each graph had weights of its own; 3.5 to 5.3 were seen since.

    The least of three processes: some hold a freed network a little longer, and why was not found.
    """
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr
        if float(done.stdout) < 6:
            return
    raise AssertionError(f"the peak is {done.stdout.strip()} times the weights, and not below 6")
