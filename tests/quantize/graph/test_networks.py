"""How whole networks become programs: shared layers, norms, functions with parameters, attention, sizes, outputs."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import densenet121, resnet18
from torchvision.ops import SqueezeExcitation, StochasticDepth

from dlkit.core.benchmark import start_engine
from dlkit.errors import UsageError
from dlkit.quantize import Recipe, count_int8_kernels, layer_statuses
from dlkit.quantize.graph import convert, prepare, without_observers
from dlkit.quantize.int8 import (
    Int8Conv2d,
    Int8Conv3d,
    Int8ConvTranspose,
    Int8Linear,
    Int8Lookup,
    Int8Mul,
    available_kernels,
    bind_kernels,
    int8_layers,
)

BACKENDS = ("x86", "fbgemm", "onednn", "qnnpack")


def warmed(network, data):
    """In evaluation mode, with batch norms that have seen the inputs, and whose weights do show when a norm is left out."""
    with torch.no_grad():
        for batch in data:
            network.train()(batch)
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias)
    return network.eval()


def count(program, kind):
    return sum(type(module) is kind for module in program.modules())


def floats(network, program, recipe):
    return {row.type for row in layer_statuses(network, program, recipe) if not row.is_int8}


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_residual_network_is_int8_near_float_and_takes_any_batch(tools, backend):
    data = tools.batches(4, 3, 32, 32)
    network, recipe = warmed(resnet18(num_classes=7), data), Recipe("static", backend, reduce="weights")
    found, program = tools.compared(network, data, recipe)
    assert found > 20
    assert not floats(network, program, recipe) and tools.borders(program) == (1, 0)
    assert (count(program, Int8Conv2d), count(program, Int8Linear)) == (20, 1)
    assert sum(count_int8_kernels(program, data[0]).values()) >= 21
    with torch.no_grad():
        for batch in (1, 3, 4):
            assert torch.equal(program(data[0][:batch]), program(data[0])[:batch])


def test_backends_have_the_same_numbers_and_results_within_steps(tools):
    """The file is the same for all; kernels differ where a sum lies between two codes."""
    data = tools.batches(4, 3, 16, 16)
    network = warmed(nn.Sequential(conv(3), nn.BatchNorm2d(8), nn.SiLU(), conv(), nn.ReLU(), conv(8, 4)), data)
    programs = {}
    for backend in BACKENDS:
        programs[backend] = tools.quantized(network, data, Recipe("static", backend, "minmax", reduce="weights"))
    states = [program.state_dict() for program in programs.values()]
    assert all(state.keys() == states[0].keys() for state in states)
    assert all(torch.equal(state[key], states[0][key]) for state in states for key in states[0])
    program = programs["x86"]
    with torch.no_grad():
        results = []
        for kernels in available_kernels():
            bind_kernels(program, kernels.name)
            results.append(program(data[0]))
    assert len(results) >= 2 and all(tools.sqnr_db(results[0], each) > 38 for each in results[1:])


def conv(channels=8, out=8, kernel=3, **options):
    return nn.Conv2d(channels, out, kernel, padding=kernel // 2, **options)


def norm_after_cat(self, x):
    return self.n7(torch.cat([x, self.c4(x)], 1))


def norms_of_one_layer(self, x):
    return self.n3(self.c3(x)) + self.m3(self.c3(x * 3))


def with_and_without_norm(self, x):
    return self.n3(self.c3(x)) + self.c3(x)


def norm_before_a_layer(self, x):
    return self.c4(F.relu(self.n3(self.c3(x) + self.d3(x))))


def norm_along_another_dimension(self, x):
    return self.last(self.n1(self.rows(x.flatten(2))))


NORMS = {
    "conv": nn.Sequential(conv(3), nn.BatchNorm2d(8)),
    "conv relu": nn.Sequential(conv(3), nn.BatchNorm2d(8), nn.ReLU()),
    "twice": nn.Sequential(conv(3), nn.BatchNorm2d(8), nn.BatchNorm2d(8)),
    "first": nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), conv(3)),
    "transposed": nn.Sequential(nn.ConvTranspose2d(3, 8, 3), nn.BatchNorm2d(8)),
    "linear": nn.Sequential(nn.Flatten(), nn.Linear(192, 16), nn.BatchNorm1d(16)),
    "transposed groups": nn.Sequential(nn.ConvTranspose2d(3, 6, 3, groups=3), nn.BatchNorm2d(6)),
    "no weights": nn.Sequential(conv(3), nn.BatchNorm2d(8, affine=False), conv()),
    "no statistics": nn.Sequential(conv(3), nn.BatchNorm2d(8, track_running_stats=False), conv()),
    **{
        each.__name__: each
        for each in (
            norm_after_cat,
            norms_of_one_layer,
            with_and_without_norm,
            norm_before_a_layer,
            norm_along_another_dimension,
        )
    },
}


@pytest.mark.parametrize("name", NORMS)
def test_batch_norms_fold_soundly_or_stay(tools, name):
    network = NORMS[name]
    if not isinstance(network, nn.Module):
        layers = {"n3": nn.BatchNorm2d(3), "m3": nn.BatchNorm2d(3), "n7": nn.BatchNorm2d(7), "n1": nn.BatchNorm1d(3)}
        layers |= {"c3": conv(3, 3), "d3": conv(3, 3), "c4": conv(3, 4), "rows": nn.Linear(64, 3)}
        network = tools.Net(network, **layers, last=nn.Linear(3, 4))
    data = tools.batches(8, 3, 8, 8)
    for module in network.modules():  # they meet the data of one case only
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats:
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.normal_(module.running_mean)
            if module.affine:
                nn.init.uniform_(module.weight, 0.5, 2)
                nn.init.normal_(module.bias)
    network.eval()
    with torch.no_grad():
        plain = without_observers(prepare(network, tools.RECIPE, data[0]))
        assert torch.allclose(plain(data[0]), network(data[0]), atol=1e-4)
    assert tools.compared(network, data)[0] > 25


def test_norms_of_a_densenet_are_products(tools):
    network, data = densenet121(num_classes=4, weights=None), tools.batches(2, 3, 32, 32, count=1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 2)
    found, program = tools.compared(network.eval(), data)
    assert found > 20
    assert not floats(network, program, tools.RECIPE) and tools.borders(program) == (1, 0)


def test_a_shared_layer_gets_a_scale_for_each_call(tools):
    """One observer for two uses would clip the larger or lose the smaller."""
    network = tools.Net(lambda self, x: (self.c(x), self.c(x * 100)), c=nn.Conv2d(3, 4, 3))
    network_data = tools.batches(4, 3, 8, 8)
    found, program = tools.compared(network, network_data)
    assert found > 25
    statuses = {status.name: status for status in layer_statuses(network, program, tools.RECIPE)}
    assert statuses["c"].is_int8 and "2 times" in statuses["c"].reason
    scales = [program.get_submodule(name).x.scale for name in ("c", "c_call2")]
    assert scales[1] / scales[0] == pytest.approx(100, rel=0.01)


@pytest.mark.parametrize(
    "shared", [nn.Hardswish(), nn.ReLU(inplace=True), nn.Sigmoid(), nn.LeakyReLU(), nn.ReLU6(), nn.PReLU(), nn.MaxPool2d(2)], ids=str
)  # fmt: skip
def test_shared_layers_without_weights(tools, shared):
    def forward(self, x):
        return self.c3(self.act(self.c2(self.act(self.c1(x)))))

    network = tools.Net(forward, c1=conv(3), c2=conv(), c3=conv(), act=shared)
    found, program = tools.compared(network, [batch * 10 for batch in tools.batches(4, 3, 8, 8)])
    assert found > 25 and tools.borders(program) == (1, 0)


@pytest.mark.parametrize(
    "relu",
    [torch.relu, torch.relu_, F.relu_, lambda x: x.relu(), lambda x: x.relu_(), lambda x: F.relu(x, inplace=True)],
    ids=["torch.relu", "torch.relu_", "F.relu_", "x.relu()", "x.relu_()", "F.relu"],
)
def test_every_way_to_write_a_relu_is_joined_to_the_layer_before_it(tools, relu):
    def forward(self, x):
        x = relu(self.norm(self.conv(x)))
        return self.fc(relu(x + self.other(x)).mean((2, 3)))

    layers = {"conv": nn.Conv2d(3, 8, 3), "norm": nn.BatchNorm2d(8), "other": nn.Conv2d(8, 8, 1), "fc": nn.Linear(8, 4)}
    network, data = tools.Net(forward, **layers), tools.batches(4, 3, 8, 8)
    found, program = tools.compared(warmed(network, data), data)
    assert found > 25 and not floats(network, program, tools.RECIPE)
    assert [program.get_submodule(name).activation for name in ("conv", "other")] == ["relu", "relu"]
    assert program.other.residual is not None


def test_squeeze_and_excitation(tools):
    network = nn.Sequential(nn.Conv2d(3, 16, 3), SqueezeExcitation(16, 4), nn.Hardswish(), nn.Conv2d(16, 4, 1))
    found, program = tools.compared(network, tools.batches(8, 3, 12, 12))
    assert found > 30 and count(program, Int8Mul) == 1 and tools.borders(program) == (1, 0)
    assert not floats(network, program, tools.RECIPE)


@pytest.mark.parametrize("activation", [nn.ReLU, nn.ReLU6, nn.SiLU, nn.Hardswish, nn.Identity])
@pytest.mark.parametrize("gate", [nn.Sigmoid, nn.Hardsigmoid])
def test_codes_of_one_place_travel_in_float(tools, activation, gate):
    squeeze = SqueezeExcitation(16, 4, activation=activation, scale_activation=gate)
    network = nn.Sequential(nn.Conv2d(3, 16, 3), nn.Hardswish(), squeeze, nn.Conv2d(16, 4, 1))
    data = tools.batches(8, 3, 12, 12)
    _, program = tools.compared(network, data)
    in_float = {name for name, layer in int8_layers(program).items() if layer.codes_in_float}
    assert in_float == {"2.avgpool", "2.fc1", "2.fc2", "2.scale_activation"}
    others = torch.randn(3, 3, 17, 9) * 2
    with torch.no_grad():
        results = [
            program(others),
            copy.deepcopy(program)(others),
            start_engine("frozen", program, others).run(others),
        ]
        bind_kernels(program, "reference")
        assert not any(layer.codes_in_float for layer in int8_layers(program).values())
        exact = program(others)
    for found in results:
        assert (found - exact).abs().max() <= 0.02 * exact.abs().max()


@pytest.mark.parametrize("backend", BACKENDS)
def test_layers_that_had_no_int8_kernel_are_int8_on_every_backend(tools, backend):
    up = nn.ConvTranspose2d(8, 4, 2, stride=2, groups=4)
    network = nn.Sequential(conv(3), nn.ELU(), up, nn.LeakyReLU(), conv(4, 8), nn.Mish(), conv(8, 2))
    recipe = Recipe("static", backend, "minmax", reduce="weights")
    found, program = tools.compared(network, tools.batches(4, 3, 8, 8), recipe)
    assert found > 25 and not floats(network, program, recipe)
    assert count(program, Int8ConvTranspose) == 1 and count(program, Int8Lookup) == 3
    volume = nn.Sequential(nn.Conv3d(2, 8, 3), nn.ReLU(), nn.Conv3d(8, 4, 3, groups=4))
    found, program = tools.compared(volume, tools.batches(2, 2, 8, 8, 8), recipe)
    assert found > 25 and count(program, Int8Conv3d) == 2


def linear_function(self, x):
    return F.linear(self.fc(x.flatten(1)), self.other.weight, self.other.bias)


def own_parameter(self, x):
    return F.linear(self.fc(x.flatten(1)), self.table)


def conv_function(self, x):
    return F.conv2d(self.c(x), self.grouped.weight, self.grouped.bias, 2, 1, 1, 2)


def conv_function_same(self, x):
    return F.conv2d(input=self.c(x), weight=self.d.weight, padding="same")


def two_calls(self, x):
    return F.conv2d(self.c(x), self.d.weight) + F.conv2d(self.c(x), self.d.weight, self.d.bias)


@pytest.mark.parametrize("forward", [linear_function, own_parameter, conv_function, conv_function_same, two_calls])
def test_functions_with_parameters_are_layers(tools, forward):
    layers = {"fc": nn.Linear(192, 8), "other": nn.Linear(8, 4), "c": conv(3), "d": conv()}
    network = tools.Net(forward, **layers, grouped=conv(groups=2))
    network.table = nn.Parameter(torch.randn(4, 8))
    found, program = tools.compared(network, tools.batches(4, 3, 8, 8))
    assert found > 25 and tools.borders(program) == (1, 0)
    assert count(program, Int8Conv2d) + count(program, Int8Linear) == (4 if forward is two_calls else 2)


def told_size(self, x):
    return self.after(self.up(x, output_size=[16, 16]))


def told_size_by_place(self, x):
    return self.after(self.up(x, [16, 16]))


def told_size_of_another(self, x):
    return self.after(self.up(self.down(x), output_size=x.shape))


def named_input(self, x):
    return self.after(input=self.up(input=x))


def transposed_attribute(self, x):
    return self.last(self.fc(x.flatten(1)).T.T)


def dtype_of_codes(self, x):
    y = self.c(x)
    return self.after(y) * torch.full((8,), 0.5, dtype=y.dtype) + torch.arange(8, device=y.device)


def weight_of_a_called_layer(self, x):
    """Its int8 layer has codes in its place."""
    y = self.c(x) + self.c.bias.view(1, -1, 1, 1)
    return self.after(y) * self.after.weight.mean()


def sizes_that_change(self, x):
    y = self.c(x)
    size = half = y.shape[2]
    half //= 2
    return self.after(F.interpolate(y, size=(half, size)))


def view_of_codes(self, x):
    y = self.after(self.c(x))
    return self.flat(y.view(y.size(0), -1))


def view_of_an_output(self, x):
    y = self.after(self.c(x))
    return y.view(size=(y.size(0), -1))


@pytest.mark.parametrize("forward", [
    weight_of_a_called_layer, told_size, told_size_by_place, told_size_of_another,
    named_input, transposed_attribute, dtype_of_codes, sizes_that_change,
    view_of_codes,
    view_of_an_output,
])  # fmt: skip
def test_what_else_is_passed_on(tools, forward):
    layers = {"up": nn.ConvTranspose2d(3, 8, 3, 2, 1), "after": conv(), "down": nn.Conv2d(3, 3, 3, 2, 1), "c": conv(3)}
    network = tools.Net(forward, **layers, fc=nn.Linear(192, 16), last=nn.Linear(16, 4), flat=nn.Linear(512, 4))
    assert tools.compared(network, tools.batches(4, 3, 8, 8))[0] > 25


def nest(self, x):
    y = self.a(x)
    return {"first": y, "others": [self.b(y), (F.relu(y), x)]}


def same_twice(self, x):
    y = self.a(x)
    return y, y


def part_unused(self, x):
    self.b(self.a(x))
    return self.a(x)


def recurrent(self, x):
    found, (state, _) = self.lstm(self.a(x).flatten(2))
    return self.fc(found), state


@pytest.mark.parametrize("forward", [nest, same_twice, part_unused, recurrent])
def test_outputs(tools, forward):
    network = tools.Net(forward, a=conv(3), b=conv(), lstm=nn.LSTM(64, 6, batch_first=True), fc=nn.Linear(6, 4))
    assert tools.compared(network, tools.batches(4, 3, 8, 8))[0] > 25


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.act = nn.Hardswish()

    def forward(self, x):
        return F.relu(self.act(self.conv(x)) + x) * x


@pytest.mark.parametrize("keep", [("0",), ("2",), ("1",), ("1.conv",), ("0", "2")], ids=str)
def test_keep_float_changes_exactly_those(tools, keep):
    network, data = nn.Sequential(nn.Conv2d(3, 4, 3), Block(), nn.Conv2d(4, 2, 1)), tools.batches(2, 3, 8, 8)
    recipe = Recipe("static", "x86", "minmax", keep_float=keep, reduce="weights")
    _, program = tools.compared(network, data, recipe)
    assert not floats(network, tools.quantized(network, data), tools.RECIPE)
    rows = {row.name: row for row in layer_statuses(network, program, recipe)}
    layers = {"0": ["0"], "2": ["2"], "1": ["1.conv", "1.act"], "1.conv": ["1.conv"]}
    for name in [name for kept in keep for name in layers[kept]]:
        assert not rows[name].is_int8 and "user" in rows[name].reason
    assert all(rows[name].is_int8 for name in ("0", "2", "1.conv") if not any(name.startswith(kept) for kept in keep))
    if keep == ("1",):  # its functions, too
        assert type(program.get_submodule("1")) is Block


def test_names_that_no_module_has_are_refused(tools):
    with pytest.raises(UsageError, match=r"no module 'laast'.*last"):
        prepare(
            tools.Net(lambda self, x: self.last(x), last=conv(3)),
            Recipe("static", "x86", keep_float=("laast",)),
            torch.ones(1, 3, 4, 4),
        )


def test_branches_on_the_mode_are_fixed_to_evaluation_also_for_training(tools):
    """Else an int8 network would keep its auxiliary head, and drop whole blocks at random."""

    def forward(self, x):
        out = self.depth(self.conv(F.dropout(x, 0.5, self.training)))
        return (out, self.aux(out)) if self.training else out

    layers = {"conv": nn.Conv2d(3, 4, 3), "depth": StochasticDepth(0.9, "row"), "aux": nn.Conv2d(4, 1, 1)}
    network, data = tools.Net(forward, **layers).train(), tools.batches(2, 3, 8, 8)
    recipe = Recipe("qat", "x86", reduce="weights")
    prepared = prepare(network, recipe, data[0])
    assert prepared.training and isinstance(prepared(data[0]), torch.Tensor)
    with torch.no_grad():
        expected = network.eval()(data[0])
        assert tools.sqnr_db(expected, prepared.eval()(data[0])) > 25
        program = convert(prepared, recipe)
        assert tools.sqnr_db(expected, program(data[0])) > 25
    statuses = {status.name: status for status in layer_statuses(network, program, recipe)}
    assert statuses["conv"].is_int8 and "does not run" in statuses["aux"].reason
    assert not any("depth" in name for name in statuses)


class Terms(nn.Module):
    """Three branches that are added one after another, the last sum with a norm of its own, as RepGhost does."""

    def __init__(self, first):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU())
        self.one, self.two = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 1)
        self.first = first

    def forward(self, x):
        x = self.stem(x)
        branches = [self.one(x), self.two(x), x]
        return branches.pop(self.first) + (branches[0] + branches[1])


@pytest.mark.parametrize("first", range(3))
def test_a_sum_of_three_keeps_all_terms(tools, first):
    found, program = tools.compared(Terms(first), tools.batches(4, 3, 8, 8))
    assert found > 25 and count(program, Int8Conv2d) == 3


class WithoutAutocast(nn.Module):
    """A part in full precision and one without gradients, which torch.export writes as graphs of their own."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3)

    def forward(self, x):
        x = self.first(x)
        assert x.shape[-1] > 2  # which torch.fx cannot follow
        with torch.autocast("cpu", enabled=False):
            x, scale = torch.relu(x), x.mean((2, 3), keepdim=True)
        with torch.no_grad():
            x = x + scale
        return self.second(x)


def test_parts_in_a_context_of_their_own_are_written_out(tools):
    found, program = tools.compared(WithoutAutocast(), tools.batches(4, 3, 8, 8))
    assert found > 25 and count(program, Int8Conv2d) == 2
