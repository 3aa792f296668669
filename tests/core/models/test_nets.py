import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dlkit.core.components import ComponentError
from dlkit.core.models import cifarnet, lstm, mlp, parameter_count, resnet_small, small_cnn


@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
def test_mlp_shapes_and_parts(norm):
    model = mlp((3, 4, 4), 5, hidden=[16, 8], norm=norm, dropout=0.1, activation={"name": "swish", "learnable": True})
    assert model(torch.randn(2, 3, 4, 4)).shape == (2, 5)
    assert [m.out_features for m in model if isinstance(m, nn.Linear)] == [16, 8, 5]
    assert sum(isinstance(m, nn.Dropout) for m in model) == 2


def test_mlp_without_hidden_layers_is_linear():
    model = mlp((7,), 3, hidden=[])
    x = torch.randn(4, 7)
    torch.testing.assert_close(model(x), F.linear(x, model[1].weight, model[1].bias))


@pytest.mark.parametrize("side", [8, 16, 28, 32, 48, 64])
@pytest.mark.parametrize("norm", ["batch", "group", "layer", "none"])
def test_small_cnn_takes_small_images_and_keeps_some_places(side, norm):
    model = small_cnn(3, 10, input_size=(3, side, side), width=8, norm=norm)
    x = torch.randn(2, 3, side, side)
    assert model(x).shape == (2, 10)
    assert 4 <= model.features(x).shape[-1] <= 8


def test_small_cnn_for_fashion_mnist_is_within_its_budget():
    total, trainable = parameter_count(small_cnn(1, 10, input_size=(1, 28, 28)))
    assert total == trainable == 131_178


def test_dropout_and_activation_reach_small_cnn():
    model = small_cnn(1, 4, input_size=(1, 8, 8), activation="hardswish", dropout=0.3, convs=[1, 3])
    assert model.dropout.p == 0.3
    assert sum(isinstance(m, nn.Hardswish) for m in model.modules()) == 4


@pytest.mark.parametrize("depth", [8, 20, 32])
@pytest.mark.parametrize("norm", ["batch", "none"])
def test_resnet_small_depth_counts_its_layers(depth, norm):
    model = resnet_small(1, 10, depth=depth, width=4, norm=norm)
    layers = [
        m for name, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear) and "downsample" not in name
    ]
    assert len(layers) == depth
    assert model(torch.randn(2, 1, 16, 16)).shape == (2, 10)


def test_resnet20_has_the_papers_size():
    # He et al. (2016), table 6: 0.27 M
    assert parameter_count(resnet_small(3, 10))[0] == pytest.approx(0.27e6, rel=0.02)


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_zero_init_residual_begins_as_the_identity(norm):
    model = resnet_small(3, 10, depth=14, width=4, norm=norm, zero_init_residual=True).eval()
    x = torch.rand(2, 4, 8, 8)
    torch.testing.assert_close(model.layer1(x), x)
    plain = resnet_small(3, 10, depth=14, width=4, norm=norm).eval()
    assert not torch.allclose(plain.layer1(x), x)


@pytest.mark.parametrize("side", [9, 16, 28, 32, 64])
@pytest.mark.parametrize("norm", ["batch", "group", "layer", "none"])
def test_cifarnet_halves_images_in_each_stage(side, norm):
    model = cifarnet(3, 10, input_size=(3, side, side), widths=[24, 32, 40], norm=norm)
    x = torch.randn(2, 3, side, side)
    assert model(x).shape == (2, 10)
    assert model.stages(model.stem(x)).shape == (2, 40, (side - 1) // 8, (side - 1) // 8)


@pytest.mark.parametrize("channels", [1, 3])
def test_cifarnet_begins_with_the_frequencies_of_patches(channels):
    """An orthonormal transform loses nothing, and the cosine one has the mean first and differences after it."""
    filters = cifarnet(channels, 10, input_size=(channels, 32, 32)).double().stem[0].weight.flatten(1)
    size = channels * 4
    torch.testing.assert_close(
        filters[:size] @ filters[:size].T, torch.eye(size, dtype=torch.float64), atol=1e-6, rtol=0
    )
    assert torch.equal(filters[size:], -filters[:size])
    torch.testing.assert_close(filters[0], torch.full_like(filters[0], size**-0.5))
    torch.testing.assert_close(filters[1:size].sum(1), torch.zeros(size - 1, dtype=torch.float64), atol=1e-6, rtol=0)


def test_stages_of_cifarnet_begin_as_the_identity_of_what_comes_in():
    model = cifarnet(1, 10, input_size=(1, 28, 28), widths=[24, 48])
    x = torch.randn(2, 8, 6, 6)
    torch.testing.assert_close(model.stages[0].conv1(x)[:, :8], x)
    assert not torch.allclose(model.stages[0].conv1(x)[:, 8:16], x)


def test_cifarnet_pools_no_more_than_there_is():
    model = cifarnet(1, 10, input_size=(1, 8, 8), widths=[8, 8, 8, 8])
    assert model.stages(model.stem(torch.randn(2, 1, 8, 8))).shape == (2, 8, 1, 1)


def test_cifarnet_names_what_it_does_not_take():
    with pytest.raises(ComponentError, match="widths must be a list of 1 to 6 numbers") as caught:
        cifarnet(1, 10, input_size=(1, 16, 16), widths=8)
    assert caught.value.option == "widths"


@pytest.mark.parametrize("bidirectional", [False, True])
def test_lstm_reads_images_row_by_row(bidirectional):
    model = lstm((2, 5, 3), 4, hidden_size=6, num_layers=2, bidirectional=bidirectional).double()
    x = torch.randn(3, 2, 5, 3, dtype=torch.float64)
    rows = torch.stack([torch.cat([x[:, 0, row], x[:, 1, row]], dim=1) for row in range(5)], dim=1)
    outputs, _ = model.lstm(rows)
    last = torch.cat([outputs[:, -1, :6], outputs[:, 0, 6:]], dim=1)
    torch.testing.assert_close(model(x), model.fc(last))


def test_lstm_reads_vectors_one_feature_at_a_time():
    model = lstm((7,), 2, hidden_size=5)
    x = torch.randn(3, 7)
    torch.testing.assert_close(model(x), model.fc(model.lstm(x[..., None])[0][:, -1]))


def test_lstm_forget_gate_starts_open():
    model = lstm((4, 3), 2, hidden_size=5, num_layers=2, bidirectional=True)
    for name, bias in model.lstm.named_parameters():
        if "bias" in name:
            assert torch.equal(bias[5:10], torch.ones(5) if "_ih_" in name else torch.zeros(5))


@pytest.mark.parametrize(
    "build",
    [
        lambda: small_cnn(1, 10, input_size=(1, 28, 28)),
        lambda: resnet_small(1, 10, depth=20),
        lambda: mlp((1, 28, 28), 10, hidden=[256, 256, 256, 256]),
    ],
)
def test_signals_neither_vanish_nor_explode_at_the_start(build):
    torch.manual_seed(0)
    model = build()
    loss = F.cross_entropy(model(torch.randn(64, 1, 28, 28)), torch.arange(64) % 10)
    loss.backward()
    assert 2.0 < loss.item() < 4.0  # log(10) = 2.3
    assert all(float(p.grad.norm()) > 1e-5 for p in model.parameters() if p.ndim > 1)


@pytest.mark.parametrize(
    "build", [lambda: small_cnn(1, 3, input_size=(1, 8, 8), width=4), lambda: resnet_small(1, 3, depth=8, width=4)]
)
def test_models_can_be_traced_and_scripted(build):
    model = build().eval()
    x = torch.randn(2, 1, 8, 8)
    torch.testing.assert_close(torch.fx.symbolic_trace(model)(x), model(x))
