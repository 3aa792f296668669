"""Networks that no graph can be made of, and what a user is told."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dlkit.errors import UsageError
from dlkit.quantize import Recipe
from dlkit.quantize.graph import trace


class DataIf(nn.Module):
    def forward(self, x):
        if x.sum() > 0:
            return x
        return -x


class Flag(nn.Module):
    flag = True

    def forward(self, x):
        return x * 2 if self.flag else x


class ShapeIf(nn.Module):
    def forward(self, x):
        return x * 2 if x.shape[-1] > 4 else x


def between(part):
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(nn.ReLU(), part), nn.Conv2d(4, 2, 1))


def test_what_cannot_be_traced_is_named_and_can_be_left_out(tools):
    network, data = between(DataIf()), tools.batches(2, 3, 8, 8)
    line = DataIf.forward.__code__.co_firstlineno + 1
    with pytest.raises(UsageError, match=rf"test_tracing\.py:{line}: .*--keep-float 1\.1") as caught:
        tools.compared(network, data)
    assert "--dynamic" in str(caught.value)
    kept = Recipe("static", "x86", "minmax", keep_float=("1.1",), reduce="weights")
    found, program = tools.compared(network, data, kept)
    assert found > 25 and tools.borders(program) == (2, 0)


@pytest.mark.parametrize("part", [ShapeIf(), Flag()], ids=["shape", "flag"])
def test_decisions_by_size_and_by_flag_are_no_trouble(tools, part):
    assert tools.compared(between(part), tools.batches(2, 3, 8, 8))[0] > 25


def test_untraceable_in_the_network_itself(tools):
    network = tools.Net(lambda self, x: self.c(x) if x.sum() > 0 else x, c=nn.Conv2d(3, 3, 1))
    with pytest.raises(UsageError, match="own forward: move it to a submodule"):
        tools.compared(network, [torch.randn(1, 3, 4, 4)])


def overwritten(self, x):
    y = self.a(x)
    y[:, :2].relu_()
    return self.b(y)


def nested(self, x):
    y = self.a(x)
    return {"first": y, "rest": (self.b(F.relu_(y)), y)}


def options(self, x):
    y = F.elu(F.leaky_relu(self.a(x), 0.2), 0.5)
    return self.b(F.adaptive_avg_pool2d(F.max_pool2d(y, 3, 1, 1), 2) * 0.5).mean((2, 3))


def norms(self, x):
    weight = torch.linspace(0.5, 1.5, 8)
    y = F.layer_norm(self.a(x).movedim(1, -1), (8,), weight, weight - 1, 1e-6)
    return self.b(F.group_norm(y.movedim(-1, 1), 4, weight, None))


@pytest.mark.parametrize("forward", [overwritten, nested, options, norms])
def test_what_torch_export_follows_computes_the_same(tools, forward):
    """torch.fx stops at the size."""
    network = tools.Net(
        lambda self, x: forward(self, x if x.shape[-1] > 4 else -x), a=nn.Conv2d(3, 8, 3), b=nn.Conv2d(8, 4, 1)
    )
    found, program = tools.compared(network, tools.batches(4, 3, 8, 8))
    assert found > 25
    assert forward in (overwritten, norms) or tools.borders(program)[0] == 1


class Masked(nn.Module):
    """A forward with more inputs than it needs."""

    def __init__(self):
        super().__init__()
        self.conv, self.last = nn.Conv2d(3, 8, 1), nn.Linear(8, 4)

    def forward(self, x, mask=None, scale=2.0, *, is_long=False):
        y = self.conv(x) * scale
        if mask is not None:
            y = y * mask
        return self.last(y.relu().mean((2, 3)) if not is_long else y.flatten(1))


def test_inputs_that_need_not_be_given_have_their_defaults(tools):
    found, program = tools.compared(Masked(), tools.batches(4, 3, 8, 8))
    assert found > 25
    assert [node.name for node in program.graph.nodes if node.op == "placeholder"] == ["x"]


def test_two_inputs_stay_two():
    class Two(nn.Module):
        def forward(self, x, y, scale=2):
            return x * y * scale

    graph = trace(Two(), []).graph
    assert [node.name for node in graph.nodes if node.op == "placeholder"] == ["x", "y"]
