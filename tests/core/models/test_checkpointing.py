import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dlkit.config import Segments
from dlkit.core.components import ComponentError
from dlkit.core.models import build_layers, disable_checkpointing, enable_checkpointing, lstm, resnet_small, small_cnn


def block(norm=nn.BatchNorm2d):
    return nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), norm(4), nn.Hardswish(inplace=True), nn.Dropout(0.3))


def instance_norm(channels):
    return nn.InstanceNorm2d(channels, affine=True, track_running_stats=True)


def spectral(channels):
    return nn.utils.parametrizations.spectral_norm(nn.Conv2d(channels, channels, 1))


def chain(norm=nn.BatchNorm2d, length=4):
    return nn.Sequential(*(block(norm) for _ in range(length)), nn.Flatten(), nn.Linear(4 * 36, 3))


def nested():
    """What `layers:` makes of a `repeat:` inside a `sequential:`."""
    return nn.Sequential(nn.Sequential(chain()[:4], nn.ReLU()), nn.Flatten(), nn.Linear(4 * 36, 3))


class OwnBlock(nn.Sequential):
    """A block that adds its input, as many write it."""

    def __init__(self):
        super().__init__(*block())

    def forward(self, x):
        return x + super().forward(x)


def train_steps(model, channels, steps=3):
    """Losses and gradients of a few steps in float64 with dropout, from one seed."""
    torch.manual_seed(7)
    generator = torch.Generator().manual_seed(1)
    model.double().train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    seen = []
    for _ in range(steps):
        x = torch.randn(6, channels, 6, 6, dtype=torch.float64, generator=generator)
        loss = F.cross_entropy(model(x), torch.arange(6) % 3)
        optimizer.zero_grad()
        loss.backward()
        seen += [loss.detach(), *(p.grad.clone() for p in model.parameters())]
        optimizer.step()
    return seen


CASES = [
    (lambda: chain(), 4, True),
    (lambda: chain(), 4, 3),
    (lambda: chain(), 4, Segments(segments=2)),
    (lambda: chain(instance_norm), 4, 3),
    (lambda: nested(), 4, True),
    (lambda: nested(), 4, Segments(segments=4)),
    (lambda: nn.Sequential(*(OwnBlock() for _ in range(3)), nn.Flatten(), nn.Linear(4 * 36, 3)), 4, True),
    (lambda: chain(spectral), 4, ["0", "2"]),
    (lambda: small_cnn(4, 3, input_size=(4, 6, 6), width=4, dropout=0.2), 4, True),
    (lambda: resnet_small(4, 3, depth=14, width=4), 4, True),
    (lambda: resnet_small(4, 3, depth=14, width=4), 4, ["layer[12]"]),
    (lambda: resnet_small(4, 3, depth=14, width=4), 4, ["layer1", "layer1.*", "layer3.1"]),
]


@pytest.mark.parametrize(("build", "channels", "setting"), CASES)
def test_training_is_the_same_with_dropout_and_running_statistics(build, channels, setting):
    torch.manual_seed(0)
    plain = build()
    checkpointed = copy.deepcopy(plain)
    types = [type(module) for module in plain.modules()]
    assert enable_checkpointing(checkpointed, setting) > 0
    assert [type(module) for module in checkpointed.modules()] == types
    assert list(checkpointed.state_dict()) == list(plain.state_dict())
    for ours, reference in zip(train_steps(checkpointed, channels), train_steps(plain, channels), strict=True):
        torch.testing.assert_close(ours, reference, rtol=1e-12, atol=1e-12)
    for (name, ours), reference in zip(checkpointed.state_dict().items(), plain.state_dict().values(), strict=True):
        torch.testing.assert_close(ours, reference, rtol=1e-12, atol=1e-12, msg=name)


def test_naive_checkpointing_would_have_moved_the_statistics_twice():
    # proves that the comparison above can fail
    norm = nn.BatchNorm2d(4)
    x = torch.randn(2, 4, 3, 3, requires_grad=True)
    torch.utils.checkpoint.checkpoint(norm, x, use_reentrant=False).sum().backward()
    assert int(norm.num_batches_tracked) == 2


@pytest.mark.parametrize("setting", [True, 2])
def test_a_copy_computes_with_its_own_weights(setting):
    model = chain(length=4)
    enable_checkpointing(model, setting)
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    twin.eval()
    assert torch.equal(twin(torch.randn(2, 4, 6, 6)), torch.zeros(2, 3))


@pytest.mark.parametrize("setting", [True, 2, ["0"]])
def test_disabling_restores_the_class_forward(setting):
    model = chain()
    enable_checkpointing(model, setting)
    assert any("forward" in vars(module) for module in model.modules())
    disable_checkpointing(model)
    assert not any("forward" in vars(module) for module in model.modules())


class LiveBytes(TorchDispatchMode):
    """The most bytes of tensors, made inside, that were alive at once."""

    def __init__(self):
        super().__init__()
        self.alive = {}
        self.peak = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                reference = StorageWeakRef(tensor.untyped_storage())
                self.alive[reference.cdata] = (reference, tensor.untyped_storage().nbytes())
        self.alive = {key: pair for key, pair in self.alive.items() if not pair[0].expired()}
        self.peak = max(self.peak, sum(size for _, size in self.alive.values()))
        return out


def peak_bytes(model, size=(32, 8, 16, 16)):
    x = torch.randn(*size)
    with LiveBytes() as live:
        model(x).sum().backward()
    return live.peak


def deep_chain(setting):
    # 16 equal layers, each of which saves several activations
    torch.manual_seed(0)
    layer = lambda: nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.SiLU(), nn.Tanh())  # noqa: E731
    model = nn.Sequential(*(layer() for _ in range(16)))
    enable_checkpointing(model, setting)
    return peak_bytes(model)


def test_memory_falls_and_is_least_near_the_square_root():
    # a layer here saves four times its output, so sqrt(4 * 16) = 8 segments are best
    plain, two, four, eight, sixteen = (deep_chain(setting) for setting in (False, 2, 4, 8, 16))
    assert eight < four < two < 0.6 * plain
    assert eight < sixteen
    assert eight < 0.35 * plain


def test_true_saves_memory_in_a_residual_network():
    def peak(setting):
        torch.manual_seed(0)
        model = resnet_small(8, 3, depth=20, width=8)
        enable_checkpointing(model, setting)
        return peak_bytes(model)

    assert peak(True) < 0.6 * peak(False)


def test_how_many_pieces():
    assert enable_checkpointing(resnet_small(3, 10, depth=20), True) == 9
    assert enable_checkpointing(resnet_small(3, 10, depth=20), ["layer1.*"]) == 3
    assert enable_checkpointing(nn.Sequential(*(nn.Linear(2, 2) for _ in range(9))), True) == 2
    assert enable_checkpointing(chain(), False) == 0


@pytest.mark.parametrize(
    ("model", "setting", "words"),
    [
        (resnet_small(3, 10, depth=8), ["layr1"], "no module matches 'layr1'. Did you mean 'layer1'"),
        (resnet_small(3, 10, depth=8), ["layer1", "stage*"], "no module matches 'stage\\*'.*conv1, bn1"),
        (chain(), 19, "segments must be from 2 to 18, the number of layers of the model, got 19"),
        (chain(), 1, "got 1; the last segment is never recomputed"),
        (nn.Linear(2, 2), 2, "segments need a sequential model"),
        (nn.Linear(2, 2), True, "nothing to recompute"),
        (lstm((6, 4), 3), True, "nothing to recompute.*train.accumulate.*The outermost are: lstm, fc"),
        (lstm((6, 4), 3), Segments(segments=2), "segments need a sequential model"),
        (lstm((6, 4), 3), ["fc"], "fc: single layers, which keep nothing but their input"),
    ],
)
def test_mistakes(model, setting, words):
    with pytest.raises(ComponentError, match=words):
        enable_checkpointing(model, setting)


@pytest.mark.parametrize(("setting", "pieces"), [(True, 8), (Segments(segments=4), 3)])
def test_repeated_layers_of_a_list_save_memory(setting, pieces):
    layers = [{"repeat": 24, "layers": [{"conv": {"out": 8, "kernel": 3, "padding": "same"}}, "batchnorm", "silu"]}]
    layers = [{"sequential": layers}, "flatten", {"linear": "auto"}]

    def build():
        torch.manual_seed(0)
        return build_layers(layers, (8, 16, 16), 3)

    model = build()
    assert enable_checkpointing(model, setting) == pieces
    assert peak_bytes(model) < 0.4 * peak_bytes(build())


def test_segments_leave_a_forward_of_ones_own_alone():
    with pytest.raises(ComponentError, match="segments need a sequential model"):
        enable_checkpointing(OwnBlock(), 2)


def test_evaluation_without_gradients_runs_straight_through():
    model = chain().eval()
    x = torch.randn(2, 4, 6, 6)
    with torch.no_grad():
        expected = model(x)
        enable_checkpointing(model, True)
        assert torch.equal(model(x), expected)
