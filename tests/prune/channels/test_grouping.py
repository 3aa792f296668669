"""Channels that depend on each other: what is found, what is cut, and that nothing but the removed channels is missing."""

import copy
import json
import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from dlkit.core.models import tensors_in
from dlkit.prune.channels import (
    ChannelLimits,
    choose,
    describe_sizes,
    find_groups,
    resize,
    shrink,
    shrink_verified,
    unit_importance,
)

FREE = ChannelLimits(round_to=1, min_keep=0.0)


def conv(first, second, **options):
    return nn.Conv2d(first, second, 3, padding=1, **options)


class Net(nn.Module):
    """A network of named layers and a function that runs them."""

    def __init__(self, run, **layers):
        super().__init__()
        self.run = run
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x):
        return self.run(self, x)


def pooled(x):
    return x.mean((2, 3))


def plain():
    return Net(
        lambda net, x: net.head(net.b(net.norm(net.a(x)).relu()).relu().flatten(1)),
        a=conv(3, 8, bias=False), norm=nn.BatchNorm2d(8), b=conv(8, 8), head=nn.Linear(128, 5),
    )  # fmt: skip


def channels_last_flatten():
    return Net(
        lambda net, x: net.head(net.a(x).relu().permute(0, 2, 3, 1).flatten(1)), a=conv(3, 8), head=nn.Linear(128, 5)
    )


def residual():
    def run(net, x):
        x = net.norm(net.a(x)).relu()
        x = (x + net.c(net.b(x).relu())).relu()
        return net.head(pooled(x))

    return Net(run, a=conv(3, 8), norm=nn.BatchNorm2d(8), b=conv(8, 8), c=conv(8, 8), head=nn.Linear(8, 5))


def dense_concat():
    def run(net, x):
        first = net.a(x).relu()
        second = net.b(torch.cat([x, first], 1)).relu()
        return net.head(pooled(torch.cat([first, second, x], 1)))

    return Net(run, a=conv(3, 8), b=conv(11, 8), head=nn.Linear(19, 5))


def depthwise():
    def run(net, x):
        return net.head(pooled(net.point(net.norm(net.deep(net.a(x))).relu()).relu()))

    return Net(
        run, a=conv(3, 8), deep=conv(8, 8, groups=8, bias=False), norm=nn.BatchNorm2d(8), point=nn.Conv2d(8, 8, 1),
        head=nn.Linear(8, 5),
    )  # fmt: skip


def depthwise_multiplier():
    return Net(
        lambda net, x: net.head(pooled(net.deep(net.a(x)).relu())),
        a=conv(3, 8), deep=conv(8, 16, groups=8), head=nn.Linear(16, 5),
    )  # fmt: skip


def one_channel():
    """groups == in_channels == out_channels, and yet no depthwise convolution of many."""
    return Net(
        lambda net, x: net.head(pooled(net.b(net.a(x.mean(1, keepdim=True))).relu())),
        a=conv(1, 1), b=conv(1, 8), head=nn.Linear(8, 5),
    )  # fmt: skip


def grouped():
    def run(net, x):
        return net.head(pooled(net.b(net.a(x).relu()).relu()))

    return Net(run, a=conv(3, 16), b=conv(16, 16, groups=4), head=nn.Linear(16, 5))


def shuffled():
    def run(net, x):
        x = net.a(x).relu()
        batch, channels, height, width = x.shape
        x = x.view(batch, 2, channels // 2, height, width).transpose(1, 2).reshape(batch, channels, height, width)
        return net.head(pooled(net.b(x).relu()))

    return Net(run, a=conv(3, 8), b=conv(8, 8, groups=2), head=nn.Linear(8, 5))


def split():
    def run(net, x):
        left, right = net.a(x).relu().chunk(2, 1)
        return net.head(pooled(torch.cat([left, net.b(right).relu()], 1)))

    return Net(run, a=conv(3, 16), b=conv(8, 8), head=nn.Linear(16, 5))


def squeeze_excite():
    def run(net, x):
        x = net.a(x).relu()
        gate = net.up(net.down(x.mean((2, 3), keepdim=True)).relu()).sigmoid()
        return net.head(pooled(x * gate))

    return Net(run, a=conv(3, 8), down=nn.Conv2d(8, 4, 1), up=nn.Conv2d(4, 8, 1), head=nn.Linear(8, 5))


def pixel_shuffle():
    return Net(
        lambda net, x: net.head(pooled(net.b(F.pixel_shuffle(net.a(x).relu(), 2)).relu())),
        a=conv(3, 16), b=conv(4, 8), head=nn.Linear(8, 5),
    )  # fmt: skip


def up_and_down():
    def run(net, x):
        skip = net.a(x).relu()
        x = net.up(net.b(F.max_pool2d(skip, 2)).relu()).relu()
        return net.head(pooled(net.c(torch.cat([skip, x], 1)).relu()))

    return Net(
        run, a=conv(3, 8), b=conv(8, 16), up=nn.ConvTranspose2d(16, 8, 2, stride=2), c=conv(16, 8), head=nn.Linear(8, 5)
    )


def slopes():
    return Net(
        lambda net, x: net.head(pooled(net.slope(net.a(x)))), a=conv(3, 8), slope=nn.PReLU(8), head=nn.Linear(8, 5)
    )


def called_twice():
    def run(net, x):
        x = net.a(x).relu()
        return net.head(pooled(net.b(net.b(x).relu())))

    return Net(run, a=conv(3, 8), b=conv(8, 8), head=nn.Linear(8, 5))


def tied_weights():
    return Net(
        lambda net, x: net.head(F.linear(net.a(pooled(x)).relu(), net.a.weight.t()).relu()),
        a=nn.Linear(3, 8, bias=False), head=nn.Linear(3, 5),
    )  # fmt: skip


class Positions(nn.Module):
    """Adds a parameter of its own to what a convolution makes."""

    def __init__(self):
        super().__init__()
        self.a, self.head = conv(3, 8), nn.Linear(8, 5)
        self.positions = nn.Parameter(torch.randn(1, 8, 4, 4))
        self.scale = nn.Parameter(torch.rand(8, 1, 1))

    def forward(self, x):
        return self.head(pooled((self.a(x) + self.positions).relu() * self.scale))


def several_outputs():
    def run(net, x):
        x = net.b(net.a(x).relu())
        return {"map": x, "classes": [net.head(pooled(x.relu()))]}

    return Net(run, a=conv(3, 8), b=conv(8, 8), head=nn.Linear(8, 5))


def unused():
    return Net(
        lambda net, x: net.head(pooled(net.a(x).relu())), a=conv(3, 8), forgotten=conv(8, 8), head=nn.Linear(8, 5)
    )


def norm_first():
    def run(net, x):
        return net.head(pooled(net.b(net.norm(net.a(x)).relu()).relu()))

    return Net(run, a=conv(3, 8), norm=nn.BatchNorm2d(8, affine=False), b=conv(8, 8), head=nn.Linear(8, 5))


def shifted_activation():
    return Net(lambda net, x: net.head(pooled(net.a(x).sigmoid())), a=conv(3, 8), head=nn.Linear(8, 5))


def group_norm():
    return Net(
        lambda net, x: net.head(pooled(net.norm(net.a(x)).relu())),
        a=conv(3, 8), norm=nn.GroupNorm(2, 8), head=nn.Linear(8, 5),
    )  # fmt: skip


def layer_norm():
    return Net(
        lambda net, x: net.head(net.norm(net.a(pooled(x)))),
        a=nn.Linear(3, 8),
        norm=nn.LayerNorm(8),
        head=nn.Linear(8, 5),
    )


def softmax_channels():
    return Net(lambda net, x: net.head(net.a(pooled(x)).softmax(1)), a=nn.Linear(3, 8), head=nn.Linear(8, 5))


def own_size():
    """Code that names a number of channels."""
    return Net(lambda net, x: net.head(net.a(x).relu().reshape(-1, 128)), a=conv(3, 8), head=nn.Linear(128, 5))


def attention():
    def run(net, x):
        tokens = net.a(x).flatten(2).transpose(1, 2)
        mixed, _ = net.mix(tokens, tokens, tokens, need_weights=False)
        return net.head((tokens + mixed).mean(1))

    return Net(run, a=conv(3, 8), mix=nn.MultiheadAttention(8, 2, batch_first=True), head=nn.Linear(8, 5))


def viewed_in_place():
    def run(net, x):
        x = net.a(x)
        x.transpose_(2, 3)
        x.unsqueeze_(0).squeeze_(0).swapaxes_(1, 3)
        x = x.mean((1, 2)).t_()
        return net.head(x.t_().swapdims_(0, 1).swapdims_(0, 1))

    return Net(run, a=conv(3, 8), head=nn.Linear(8, 5))


def resized_in_place():
    return Net(lambda net, x: net.head(net.a(x).clone().resize_(2, 8, 16).mean(2)), a=conv(3, 8), head=nn.Linear(8, 5))


def weight_normed():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the old form, which networks still use
        return Net(lambda net, x: net.head(pooled(net.a(x))), a=nn.utils.weight_norm(conv(3, 8)), head=nn.Linear(8, 5))


def parametrized():
    b = nn.utils.parametrizations.spectral_norm(conv(8, 8))
    return Net(lambda net, x: net.head(pooled(net.b(net.a(x)))), a=conv(3, 8), b=b, head=nn.Linear(8, 5))


def parametrized_head():
    head = nn.utils.parametrizations.orthogonal(nn.Linear(8, 5))
    return Net(lambda net, x: net.head(pooled(net.a(x))), a=conv(3, 8), head=head)


def standardized():
    class StandardConv(nn.Conv2d):
        def forward(self, x):
            weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
            return F.conv2d(x, weight, self.bias, self.stride, self.padding)

    return Net(lambda net, x: net.head(pooled(net.a(x))), a=StandardConv(3, 8, 3), head=nn.Linear(8, 5))


# channels that are left of each group when half is asked for; None stands for a group that stays whole
EXACT = {
    plain: {"a": 4, "b": 4, "head": None},
    channels_last_flatten: {"a": 4, "head": None},
    residual: {"a": 4, "b": 4, "head": None},
    dense_concat: {"a": 4, "b": 4, "head": None},
    depthwise: {"a": 4, "point": 4, "head": None},
    depthwise_multiplier: {"a": 4, "head": None},
    one_channel: {"b": 4, "head": None},
    grouped: {"a": 8, "b": 8, "head": None},
    shuffled: {"a": 4, "b": 4, "head": None},
    split: {"a": 8, "b": 4, "head": None},
    squeeze_excite: {"a": 4, "down": 2, "head": None},
    pixel_shuffle: {"a": 8, "b": 4, "head": None},
    up_and_down: {"a": 4, "b": 8, "up": 4, "c": 4, "head": None},
    slopes: {"a": 4, "head": None},
    called_twice: {"a": 4, "head": None},
    tied_weights: {"a": 4, "a#2": None, "head": None},
    Positions: {"a": 4, "head": None},
    several_outputs: {"a": 4, "b": None, "head": None},
    unused: {"a": 4, "head": None},
    viewed_in_place: {"a": 4, "head": None},
}
# groups whose removal changes more than zeros would, and why
APPROXIMATE = {
    norm_first: ("a", "batch norm without weight and bias"),
    shifted_activation: ("a", "sigmoid of 0 is not 0"),
    group_norm: ("a", "group norm's statistics go over channels"),
    layer_norm: ("a", "layer norm's statistics go over channels"),
    softmax_channels: ("a", "softmax over channels"),
}
# groups on whose sizes the network's own code relies
HELD = {
    own_size: ("a", "with fewer channels the network's own code fails"),
    attention: ("a", "with fewer channels the code of mix (MultiheadAttention) fails"),
    resized_in_place: ("a", "goes through resize_, which is not followed"),
    weight_normed: ("a", "its weight is computed by weight_norm at every call"),
    parametrized: ("a", "is read by b: its weight is computed by spectral_norm at every call"),
    parametrized_head: ("a", "is read by head: its weight is computed by orthogonal at every call"),
    standardized: ("a", "its weight is computed from other values at every call"),
}


def build_net(build):
    torch.manual_seed(0)
    network = build().eval()
    with torch.no_grad():  # statistics as training leaves them, so that a zero before a norm is none after it
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
                if module.affine:
                    module.weight.uniform_(0.5, 2)
                    module.bias.normal_()
    return network


def shrink_half(build):
    """A network, its groups, what is kept of them, and the verified result."""
    network, x = build_net(build), torch.randn(2, 3, 4, 4)
    groups = find_groups(network, x)
    keep = choose(groups, unit_importance(network, groups, "l1"), 0.5, limits=FREE)
    return network, groups, keep, shrink_verified(network, groups, keep, x)


@pytest.mark.parametrize("build", EXACT, ids=lambda build: build.__name__)
def test_what_is_cut_and_what_stays(build):
    _, groups, keep, verified = shrink_half(build)
    left = {
        group.id: group.num_channels * len(keep[group.id]) // group.size if group.id in keep else None
        for group in groups
    }
    assert left == EXACT[build] and not verified.rolled_back
    assert set(verified.kinds.values()) == {"exact"}
    assert verified.max_delta <= 1e-12 * verified.max_output


def zero_rows(network, groups, keep):
    """The same channels set to 0 by hand: rows of what makes them, and whatever has one number for each of these rows."""
    state = network.state_dict()
    for group in groups:
        gone = set(range(group.size)) - set(keep.get(group.id, range(group.size)))
        for member in group.members:
            if member.part != "reads" and "running" not in member.tensor:
                for unit in gone:
                    for place in member.places[unit]:
                        state[member.tensor].select(member.dim, place).zero_()


@pytest.mark.parametrize("build", [plain, residual, grouped, shuffled, dense_concat], ids=lambda build: build.__name__)
@pytest.mark.parametrize("batch", [1, 3])
def test_the_smaller_network_is_the_masked_one(build, batch):
    network, groups, keep, verified = shrink_half(build)
    masked, small = copy.deepcopy(network).double(), copy.deepcopy(verified.network).double()
    zero_rows(masked, groups, keep)
    x = torch.randn(batch, 3, 4, 4, dtype=torch.float64)
    with torch.no_grad():
        assert torch.allclose(small(x), masked(x), rtol=1e-10, atol=1e-12)
        assert not torch.allclose(small(x), network.double()(x), rtol=1e-2)


@pytest.mark.parametrize("build", [*EXACT, *APPROXIMATE], ids=lambda build: build.__name__)
def test_a_file_can_build_it_again_and_all_of_it_trains(build):
    network, _, _, verified = shrink_half(build)
    entry = json.loads(json.dumps(describe_sizes(network, verified.network)))  # plain values, as a file holds them
    rebuilt, x = build_net(build), torch.randn(2, 3, 4, 4)
    resize(rebuilt, entry["sizes"], entry["parameters"])
    rebuilt.load_state_dict(verified.network.state_dict())
    with torch.no_grad():
        pairs = zip(tensors_in(rebuilt(x)), tensors_in(verified.network(x)), strict=True)
        assert all(torch.equal(first, second) for first, second in pairs)
    small = verified.network.train()
    sum(tensor.square().mean() for tensor in tensors_in(small(x))).backward()
    forgotten = {"forgotten.weight", "forgotten.bias"}
    assert all(parameter.grad is not None for name, parameter in small.named_parameters() if name not in forgotten)
    assert all(parameter.numel() for parameter in small.parameters())


@pytest.mark.parametrize("build", APPROXIMATE, ids=lambda build: build.__name__)
def test_what_zeros_cannot_imitate_is_called_approximate(build):
    _, groups, _, verified = shrink_half(build)
    group_id, reason = APPROXIMATE[build]
    notes = {group.id: group.note for group in groups}
    assert verified.kinds[group_id] == "approximate" and reason in notes[group_id]
    assert group_id not in verified.rolled_back


@pytest.mark.parametrize("build", HELD, ids=lambda build: build.__name__)
def test_what_the_code_relies_on_stays_whole(build):
    network, groups, keep, verified = shrink_half(build)
    group_id, reason = HELD[build]
    assert reason in {group.id: group.refusal for group in groups}[group_id] and group_id not in keep
    assert sum(map(torch.numel, verified.network.parameters())) == sum(map(torch.numel, network.parameters()))


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
@pytest.mark.parametrize("options", [{}, {"batch_first": True}, {"batch_first": True, "bidirectional": True}])
def test_recurrent_layers_stay_whole_and_what_comes_after_them_does_not(kind, options):
    def run(net, x):
        return net.head(net.b(net.mix(net.a(x[:, 0]))[0].mean(1)).relu())

    torch.manual_seed(0)
    width = 24 if "bidirectional" in options else 12
    layers = {"a": nn.Linear(4, 6), "mix": kind(6, 12, **options), "b": nn.Linear(width, 8), "head": nn.Linear(8, 5)}
    network, x = Net(run, **layers), torch.randn(2, 3, 4, 4)
    groups = find_groups(network, x)
    reasons = {group.id: group.refusal for group in groups}
    assert reasons["a"] == f"is read by mix ({kind.__name__}): recurrent layers are not shrunk" and not reasons["b"]
    assert reasons["mix"] == f"{kind.__name__}: recurrent layers are not shrunk"
    verified = shrink_verified(network, groups, {"b": (0, 1, 2)}, x)
    assert verified.network.head.weight.shape == (5, 3) and verified.kinds == {"b": "exact"}


def test_equal_parts_lose_equally():
    _, groups, keep, _ = shrink_half(grouped)
    inputs = next(group for group in groups if group.id == "a")
    assert [len(set(block) & set(keep["a"])) for block in inputs.blocks] == [2, 2, 2, 2]
    with pytest.raises(ValueError, match="same share"):
        shrink(build_net(grouped), groups, {"a": tuple(range(8))})


@pytest.mark.parametrize("units", [(), (0, 0), (1, 0), (0, 8), (-1,)])
def test_units_that_are_no_choice_are_refused(units):
    network = build_net(plain)
    groups = find_groups(network, torch.randn(2, 3, 4, 4))
    with pytest.raises(ValueError, match="units must be"):
        shrink(network, groups, {"a": units})


def test_a_wrong_cut_does_not_pass():
    """Columns that belong to other channels: the same shapes, and wrong numbers."""
    network, x = build_net(plain), torch.randn(2, 3, 4, 4)
    groups = find_groups(network, x)

    def turn_places(member):
        return copy.copy(member) if member.tensor != "head.weight" else type(member)(
            member.tensor, member.dim, member.part, tuple(reversed(member.places))
        )  # fmt: skip

    wrong = [type(group)(**{**vars(group), "members": tuple(map(turn_places, group.members))}) for group in groups]
    verified = shrink_verified(network, wrong, {"b": (0, 1, 2, 3)}, x)
    assert "b" in verified.rolled_back and not verified.keep


def test_the_given_network_is_left_alone():
    network, x = build_net(residual), torch.randn(2, 3, 4, 4)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    network.train()
    groups = find_groups(network, x)
    shrink_verified(network, groups, choose(groups, unit_importance(network, groups, "l2"), 0.5, limits=FREE), x)
    assert network.training and all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
