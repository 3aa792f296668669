import pytest
import torch
from torch import nn

from dlkit.quantize import Recipe
from dlkit.quantize.graph import convert
from dlkit.quantize.ptq import (
    Remedies,
    fidelity_of,
    find_smoothable,
    observe_network,
    outputs_of,
    quantize_accurately,
    smooth,
)

RECIPE = Recipe("static", "x86", "minmax", reduce="weights")


class Block(nn.Module):
    """A transformer's block: attention and a perceptron, each behind a layer norm and beside a residual."""

    def __init__(self, width=32):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, 4, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(width, 64), nn.GELU(), nn.Linear(64, width))

    def forward(self, x):
        y = self.norm1(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return x + self.mlp(self.norm2(x))


class TinyViT(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.Sequential(Block(), Block())
        self.norm, self.head = nn.LayerNorm(32), nn.Linear(32, 5)

    def forward(self, x):
        return self.head(self.norm(self.blocks(x)).mean(1))


def with_outliers(factor=80.0):
    """One channel behind every norm is far larger than the others, and read with weights that are smaller by as much."""
    torch.manual_seed(0)
    network = TinyViT()
    for channel, block in enumerate(network.blocks):
        for norm, reader in ((block.norm1, block.attention.in_proj_weight), (block.norm2, block.mlp[0].weight)):
            norm.weight.data[channel] *= factor
            norm.bias.data[channel] *= factor
            reader.data[:, channel] /= factor
    return network.eval()


@pytest.fixture
def batches():
    return list(torch.randn(4, 16, 9, 32, generator=torch.Generator().manual_seed(3)))


def smoothed_copy(network, batches, alpha=0.5):
    return smooth(network, find_smoothable(network, batches), alpha=alpha)


def fidelity_in_int8(network, origin, batches):
    prepared = observe_network(network, RECIPE, batches)
    return fidelity_of(outputs_of(origin, batches), outputs_of(convert(prepared, RECIPE), batches))


def test_norms_and_what_they_feed_are_found(batches):
    found = [(link.source, link.readers) for link in smoothed_copy(with_outliers(), batches).links]
    assert found == [
        ("blocks.0.norm1", ("blocks.0.attention",)),
        ("blocks.0.norm2", ("blocks.0.mlp.0",)),
        ("blocks.1.norm1", ("blocks.1.attention",)),
        ("blocks.1.norm2", ("blocks.1.mlp.0",)),
    ]


@pytest.mark.parametrize("alpha", [0.3, 0.5, 0.9])
def test_the_network_computes_the_same(alpha, batches):
    network = with_outliers()
    smoothed = smoothed_copy(network, batches, alpha=alpha).network
    torch.testing.assert_close(outputs_of(smoothed, batches), outputs_of(network, batches), rtol=1e-5, atol=1e-5)
    assert list(smoothed.state_dict()) == list(network.state_dict())


def test_smoothed_beats_plain_where_a_channel_is_far_larger(batches):
    """Trap 4.21."""
    network = with_outliers()
    plain = fidelity_in_int8(network, network, batches)
    smoothed = fidelity_in_int8(smoothed_copy(network, batches).network, network, batches)
    assert smoothed.sqnr_db > plain.sqnr_db + 10
    assert smoothed.agreement >= plain.agreement


def test_outliers_are_gone_from_what_linear_layers_read(batches):
    network = smoothed_copy(with_outliers(), batches).network
    hidden = network.blocks[0].norm2(torch.randn(100, 9, 32)).abs().amax((0, 1))
    assert hidden.max() / hidden.median() < 10


def test_a_perceptron_is_smoothed_through_relu(batches):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(32, 16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 3)).eval()
    smoothed = smoothed_copy(network, batches)
    assert [link.source for link in smoothed.links] == ["0"]
    torch.testing.assert_close(
        outputs_of(smoothed.network, batches), outputs_of(network, batches), rtol=1e-5, atol=1e-5
    )


def test_it_is_kept_only_where_it_measures_better(batches):
    remedies = Remedies(bias_correction=False, equalization="off")
    found = quantize_accurately(with_outliers(), RECIPE, batches, remedies=remedies)
    tried = {trial.what: trial for trial in found.trials}
    kept = [trial.what for trial in found.trials if trial.is_kept]
    assert list(tried) == ["observer minmax", "smoothing 0.3", "smoothing 0.5", "smoothing 0.7"]
    assert len(kept) == 2
    assert found.fidelity == min((trial.fidelity for trial in found.trials), key=lambda fidelity: fidelity.error)
    even = quantize_accurately(with_outliers(1.0), RECIPE, batches, remedies=remedies)
    best = min(even.trials, key=lambda trial: trial.fidelity.error)
    assert even.fidelity == best.fidelity
