"""Nothing in a program is deprecated, so that nothing warns; users lose none of their own warnings, and keep their filters."""

import subprocess
import sys
import warnings

import pytest
import torch
from torch import nn

from dlkit.quantize import Recipe
from dlkit.quantize.ptq import observe_network

RUN = """
import sys, warnings, torch
import sympy  # which torch imports when it first follows shapes; it adds a filter of its own
from torch import nn
import torch.nn.functional as F
from dlkit.quantize import Recipe, quantize_dynamic
from dlkit.quantize.graph import convert
from dlkit.quantize.ptq import observe_network
torch.set_grad_enabled(False)
before = list(warnings.filters)
class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(5, 4))
    def forward(self, x):
        return F.linear(x, self.weight)
for words in sys.argv[1:]:
    kind, backend = words.split()
    x = torch.randn(6, 2, 4) if kind == "recurrent" else torch.randn(6, 4)
    if kind == "dynamic":
        network = quantize_dynamic(nn.Sequential(nn.Linear(4, 3)), Recipe("dynamic", backend), example=x)
    elif kind == "recurrent":
        network = quantize_dynamic(nn.LSTM(4, 3), Recipe("dynamic", backend), example=x)
    else:
        static = nn.Sequential(nn.Linear(4, 3), nn.Hardswish(), nn.Linear(3, 2))
        recipe = Recipe("static", backend, reduce="weights")
        network = convert(observe_network({"functional": Functional(), "static": static}[kind].eval(), recipe, [x]), recipe)
    network(x)
    assert warnings.filters == before, (words, warnings.filters)
"""
KINDS = ("static x86", "static onednn", "functional x86", "dynamic qnnpack", "recurrent qnnpack")


@pytest.mark.slow
def test_nothing_leaks_where_warnings_are_errors():
    """In a process of its own, as torch says some things once per process only (trap 4.25)."""
    command = [sys.executable, "-W", "error", "-c", RUN, *KINDS]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stderr == "", done.stderr


class Warns(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x):
        warnings.warn("from the user's own code", stacklevel=1)
        return self.layer(x)


def test_a_users_own_warnings_and_filters_stay():
    before = list(warnings.filters)
    recipe = Recipe("static", "x86")
    with pytest.warns(UserWarning, match="own code"):
        observe_network(Warns(), recipe, [torch.randn(2, 4)])
    assert warnings.filters == before
