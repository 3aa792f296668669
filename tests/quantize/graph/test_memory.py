"""What is overwritten, read again, added in place or freed: a program computes what the network does, and again the same."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dlkit.quantize.graph import prepare


def conv(channels=8, out=8, kernel=3, **options):
    return nn.Conv2d(channels, out, kernel, padding=kernel // 2, **options)


def in_place_on_view(self, x):
    y = self.a(x)
    y[:, :2].relu_()
    return self.b(y)


def in_place_on_views(self, x):
    y = self.a(x)
    y[:, :2].relu_()
    y[:, 2:4].mul_(2)
    z = self.relu(self.b(y))
    z[:, 1:].add_(1)
    z += y
    return self.c(z)


def in_place_on_view_after_a_reader(self, x):
    y = self.a(x)
    before = self.b(y)
    y[:, :2].relu_()
    return before + self.c(y)


def in_place_on_chunk(self, x):
    y = self.a(x)
    first, second = y.chunk(2, 1)
    return self.b(torch.cat([first.relu_(), second], 1)) + self.c(y)


def view_before_in_place(self, x):
    y = self.a(x)
    part = y[:, :4]
    y.relu_()
    return self.b(torch.cat([part, part], 1))


def module_that_views(self, x):
    y = self.a(x)
    F.relu_(self.flatten(y))
    return self.b(y)


def narrow(self, x):
    y = self.a(x)
    y.narrow(1, 0, 4).mul_(-1)
    return self.b(y)


def view_that_nobody_else_reads(self, x):
    return self.b(torch.cat([self.a(x)[:, :4].relu_()] * 2, 1))


def masked_fill(self, x):
    y = self.a(x)
    return self.b(y.masked_fill_(x[:, :1] > 0.5, 0.0)) + self.c(y)


def whole_read_again(self, x):
    y = self.a(x)
    return self.b(y.relu_()) + self.c(y)


def module_in_place_read_again(self, x):
    y = self.a(x)
    return self.b(self.relu(y)) + self.c(y)


def module_in_place_twice(self, x):
    y = self.a(x)
    return self.c(self.relu(self.b(self.relu(y)))) + y


def function_in_place_read_before_and_again(self, x):
    y = self.a(x)
    return self.b(y) + self.c(F.leaky_relu_(y, 0.1)) + self.d(y)


def in_place_on_the_input(self, x):
    return self.a(x.mul_(2)) + self.e(x)


def in_place_power(self, x):
    y = self.a(x)
    z = y
    z **= 2
    return self.b(z) + self.c(y)


def sum_in_place(self, x):
    y = self.a(x)
    z = self.b(y)
    z += y
    return self.c(z) + y


def sum_in_place_of_what_is_read_again(self, x):
    y = z = self.a(x)
    y += self.b(y)
    return self.c(y) + z


def sum_into_what_is_read_again(self, x):
    y = self.a(x)
    return self.c(y.add_(self.b(y))) + y


IN_PLACE = [
    in_place_on_view, in_place_on_views,
    in_place_on_view_after_a_reader, in_place_on_chunk, view_before_in_place, module_that_views, narrow,
    view_that_nobody_else_reads, masked_fill, whole_read_again, module_in_place_read_again, module_in_place_twice,
    function_in_place_read_before_and_again, in_place_on_the_input, in_place_power, sum_in_place, sum_in_place_of_what_is_read_again,
    sum_into_what_is_read_again,
]  # fmt: skip


def residual(self, x):
    y = self.a(x)
    return self.c(self.b(y) + y)


def residual_relu(self, x):
    y = self.a(x)
    return self.c(F.relu(self.b(y) + y))


def residual_silu(self, x):
    y = self.a(x)
    return self.c(F.silu(y + self.b(y)))


def residual_twice(self, x):
    y = self.a(x)
    return self.d(y + self.b(y) + self.c(y))


def residual_read_again(self, x):
    y = self.a(x)
    return self.c(self.b(y) + y) + self.d(y)


def residual_of_two_sums(self, x):
    y = self.a(x)
    z = self.b(y) + y
    return self.d(self.c(z) + y) + y


def residual_that_is_given_out(self, x):
    y = self.a(x)
    return y, self.c(self.b(y) + y)


def residual_read_by_a_pool_of_one_place(self, x):
    y = self.a(x)
    pooled = F.max_pool2d(y, 1, 2)
    return self.c(self.b(self.d(y)) + y)[:, :, ::2, ::2] + self.d(pooled)


def residual_that_is_a_pool_of_one_place(self, x):
    y = self.a(x)
    pooled = F.max_pool2d(y, 1, 1)
    return self.c(self.b(self.d(pooled)) + pooled) + self.d(y)


def residual_that_is_clamped(self, x):
    y = self.a(x)
    z = F.relu(y)
    return self.c(self.b(self.d(z)) + z) + self.d(y) + self.d(z)


def residual_that_is_permuted(self, x):
    y = self.a(x)
    z = y.permute(0, 1, 3, 2)
    return self.c(self.b(self.d(z)) + z) + self.d(y) + self.d(z)


def residual_that_is_a_part(self, x):
    y = self.a(x)
    z = torch.cat([y, y], 1)[:, 8:]
    return self.c(self.b(self.d(z)) + z) + self.d(y)


def residual_after_an_activation(self, x):
    y = self.a(x)
    return self.c(F.hardswish(self.b(y)) + y)


def residual_of_the_input(self, x):
    return self.f(x + self.e(x)[:, :3])


def residual_that_broadcasts(self, x):
    y = self.a(x)
    return self.c(y + self.b(y.mean((2, 3), keepdim=True)))


def sum_of_two_layers(self, x):
    return self.c(F.relu(self.a(x) + self.e(x)))


def sum_with_a_transposed_layer(self, x):
    y = self.a(x)
    return self.c(self.up(y) + y)


def sum_with_a_kept_code(self, x):
    y = F.relu(self.a(x))
    return self.c(self.b(y) + y) + F.max_pool2d(y, 3, 1, 1)


RESIDUALS = [
    residual, residual_relu, residual_silu, residual_twice, residual_read_again, residual_of_two_sums, residual_that_is_given_out,
    residual_read_by_a_pool_of_one_place, residual_that_is_a_pool_of_one_place, residual_that_is_clamped, residual_that_is_permuted,
    residual_that_is_a_part, residual_after_an_activation, residual_of_the_input, residual_that_broadcasts, sum_of_two_layers,
    sum_with_a_transposed_layer, sum_with_a_kept_code,
]  # fmt: skip


def build(tools, forward):
    layers = {name: conv() for name in "bcd"} | {"a": conv(3), "e": conv(3), "f": conv(3)}
    return tools.Net(
        forward, **layers, relu=nn.ReLU(inplace=True), flatten=nn.Flatten(), up=nn.ConvTranspose2d(8, 8, 3, 1, 1)
    )


@pytest.mark.parametrize("forward", [*IN_PLACE, *RESIDUALS], ids=lambda forward: forward.__name__)
def test_memory(tools, forward):
    network, data = build(tools, forward), tools.batches(4, 3, 8, 8)
    found, _ = tools.compared(network, data)
    assert found > 25


@pytest.mark.parametrize("forward", [whole_read_again, sum_in_place, in_place_on_the_input])
def test_inputs_stay_and_what_is_overwritten_as_a_whole_is_on_codes(tools, forward):
    network, data = build(tools, forward), tools.batches(4, 3, 8, 8)
    before = [batch.clone() for batch in data]
    _, program = tools.compared(network, data)
    assert tools.borders(program) == (1, 0)
    assert all(map(torch.equal, data, before))


def test_a_parameter_that_is_overwritten_keeps_what_it_was_given(tools):
    """The next run reads it; a program that made a new tensor would count from the start each time."""

    def forward(self, x):
        return self.a(x) + self.count.add_(1)

    network, data = tools.Net(forward, a=conv(3)), tools.batches(2, 3, 8, 8)
    network.count = nn.Parameter(torch.zeros(()), requires_grad=False)
    prepared = prepare(network, tools.RECIPE, data[0])
    with torch.no_grad():
        first, second = prepared(data[0]), prepared(data[0])
    assert torch.allclose(second - first, torch.ones(()), atol=1e-5)
