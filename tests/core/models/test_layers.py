import pytest
import torch
from torch import nn

from dlkit.core.components import ComponentError
from dlkit.core.models import KINDS, build_layers, meta_copy, output_shape


def build(*layers, size=(3, 16, 16), classes=10):
    return build_layers(list(layers), size, classes)


def after(layer, size):
    """The module of one layer and the shape behind it, with a head that makes the whole valid."""
    model = build(layer, "flatten", {"linear": "auto"}, size=size)
    return model[0], output_shape(meta_copy(model[0]), size)


CASES = [
    ({"conv": {"out": 8, "kernel": 3}}, (3, 16, 16), nn.Conv2d, (8, 14, 14)),
    ({"conv": 8}, (3, 16), nn.Conv1d, (8, 14)),
    (
        {"conv2d": {"out_channels": 8, "kernel_size": [5, 3], "padding": "same", "stride": 2}},
        (3, 15, 16),
        nn.Conv2d,
        (8, 8, 8),
    ),
    ({"conv": {"out": 6, "kernel": [1, 3, 5], "padding": "same"}}, (3, 8, 8, 8), nn.Conv3d, (6, 8, 8, 8)),
    ({"conv": {"out": 6, "groups": 3, "dilation": 2, "bias": False}}, (3, 9, 9), nn.Conv2d, (6, 5, 5)),
    ({"tconv": {"out": 4, "kernel": 4, "stride": 2, "padding": 1}}, (3, 8, 8), nn.ConvTranspose2d, (4, 16, 16)),
    ({"maxpool": 2}, (3, 9, 9), nn.MaxPool2d, (3, 4, 4)),
    ({"maxpool": {"kernel": 3, "stride": 2, "padding": 1, "ceil_mode": True}}, (3, 8, 8), nn.MaxPool2d, (3, 5, 5)),
    ({"avgpool": {"kernel_size": 2, "count_include_pad": False}}, (3, 8), nn.AvgPool1d, (3, 4)),
    ({"lppool": {"kernel": 2, "norm": 3}}, (3, 8, 8), nn.LPPool2d, (3, 4, 4)),
    ({"adaptiveavgpool": [2, 3]}, (3, 8, 8), nn.AdaptiveAvgPool2d, (3, 2, 3)),
    ({"AdaptiveMaxPool1d": 2}, (3, 8), nn.AdaptiveMaxPool1d, (3, 2)),
    ("globalavgpool", (3, 8, 8), nn.Sequential, (3,)),
    ({"linear": 5}, (4, 6), nn.Linear, (4, 5)),
    ({"linear": {"out_features": 5, "in": 6, "bias": False}}, (6,), nn.Linear, (5,)),
    ("flatten", (3, 4, 4), nn.Flatten, (48,)),
    ({"flatten": {"start_dim": 2}}, (3, 4, 4), nn.Flatten, (3, 16)),
    ({"unflatten": [3, 4, 4]}, (48,), nn.Unflatten, (3, 4, 4)),
    ("batchnorm", (6,), nn.BatchNorm1d, (6,)),
    ({"batchnorm": {"eps": 0.1}}, (6, 4), nn.BatchNorm1d, (6, 4)),
    ("batch_norm", (6, 4, 4), nn.BatchNorm2d, (6, 4, 4)),
    ("layernorm", (6, 4, 4), nn.LayerNorm, (6, 4, 4)),
    ({"layernorm": [4]}, (6, 4), nn.LayerNorm, (6, 4)),
    ({"groupnorm": 2}, (6, 4, 4), nn.GroupNorm, (6, 4, 4)),
    ({"instancenorm": {"affine": True}}, (6, 4, 4), nn.InstanceNorm2d, (6, 4, 4)),
    ({"dropout": 0.2}, (6,), nn.Dropout, (6,)),
    ({"channeldropout": 0.2}, (6, 4, 4), nn.Dropout2d, (6, 4, 4)),
    ({"upsample": 2}, (6, 4, 4), nn.Upsample, (6, 8, 8)),
    ({"upsample": {"size": [5, 7], "mode": "bilinear", "align_corners": False}}, (6, 4, 4), nn.Upsample, (6, 5, 7)),
    ({"pixelshuffle": 2}, (8, 4, 4), nn.PixelShuffle, (2, 8, 8)),
    ("relu", (6,), nn.ReLU, (6,)),
    ({"leaky_relu": {"negative_slope": 0.2}}, (6,), nn.LeakyReLU, (6,)),
    ("GLU", (6, 4, 4), nn.GLU, (6, 4, 2)),
    ({"sequential": [{"conv": 4}, "relu"]}, (3, 8, 8), nn.Sequential, (4, 6, 6)),
]


@pytest.mark.parametrize(("layer", "size", "kind", "shape"), CASES, ids=lambda value: str(value)[:40])
def test_each_kind(layer, size, kind, shape):
    module, found = after(layer, size)
    assert type(module) is kind
    assert found == shape
    assert tuple(module(torch.randn(2, *size)).shape) == (2, *shape)


def test_every_kind_has_a_case():
    written = " ".join(str(layer).lower().replace("_", "") for layer, *_ in CASES)
    assert all(kind in written for kind in KINDS)


def test_options_reach_torch():
    assert (
        after({"conv": {"out": 8, "padding": 1, "padding_mode": "reflect", "bias": False}}, (3, 8, 8))[0].padding_mode
        == "reflect"
    )
    assert after({"batchnorm": {"eps": 0.1, "momentum": 0.3}}, (3, 8, 8))[0].momentum == 0.3
    assert after({"leaky_relu": {"negative_slope": 0.2}}, (3,))[0].negative_slope == 0.2
    assert after({"lppool": {"norm": 3}}, (3, 8))[0].norm_type == 3


def test_state_dict_keys_are_positions():
    model = build(
        {"conv": 4},
        "relu",
        {"repeat": 2, "layers": [{"conv": {"out": 4, "padding": "same"}}, "batchnorm"]},
        "flatten",
        {"linear": "auto"},
    )
    assert [key for key in model.state_dict() if key.endswith("weight")] == [
        "0.weight",
        "2.0.weight",
        "2.1.weight",
        "2.2.weight",
        "2.3.weight",
        "4.weight",
    ]
    assert not torch.equal(model[2][0].weight, model[2][2].weight)


def test_residual_adds_its_input():
    model = build({"residual": [{"conv": {"out": 3, "padding": "same"}}, "relu"]}, "flatten", {"linear": "auto"})
    x = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(model[0](x), x + model[0].body(x))
    assert not [key for key in model.state_dict() if "shortcut" in key]


@pytest.mark.parametrize(
    ("inner", "size"),
    [
        ({"conv": {"out": 6, "padding": "same"}}, (3, 9, 9)),
        ({"conv": {"out": 6, "padding": "same", "stride": 2}}, (3, 9, 9)),
        ({"conv": {"out": 6, "padding": "same", "stride": 2}}, (3, 9)),
        ({"linear": 6}, (3,)),
    ],
)
def test_residual_projects_where_shapes_differ(inner, size):
    module, shape = after({"residual": [inner]}, size)
    x = torch.randn(2, *size)
    torch.testing.assert_close(module(x), module.body(x) + module.shortcut(x))
    assert tuple(module(x).shape[1:]) == shape != size


def test_a_layer_list_is_traceable():
    model = build(
        {"residual": [{"conv": {"out": 6, "padding": "same"}}, "swish"]},
        {"repeat": 2, "layers": [{"maxpool": 2}]},
        "globalavgpool",
        {"linear": "auto"},
    )
    x = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(torch.fx.symbolic_trace(model.eval())(x), model(x))


def test_building_draws_weights_as_torch_would():
    torch.manual_seed(0)
    ours = build({"conv": 8}, "flatten", {"linear": "auto"})
    torch.manual_seed(0)
    theirs = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8 * 14 * 14, 10))
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


MISTAKES = [
    (
        [{"conv": {"out": 32, "kernel": 3}}, "relu", {"maxpool": 4}, "flatten", {"linear": {"in": 512, "out": 10}}],
        "layer 5 (linear): expects 512 features, gets 288 (32x3x3)",
        "layers.4.linear.in",
    ),
    (
        [{"maxpool": 4}, {"conv": {"out": 8, "kernel": 5}}],
        "layer 2 (conv): kernel 5 is larger than the padded input 4x4",
        "layers.1.conv.kernel",
    ),
    (
        [{"maxpool": 4}, {"conv": {"out": 8, "dilation": 3}}],
        "layer 2 (conv): kernel 3 (dilated to 7) is larger than the padded input 4x4",
        "layers.1.conv.kernel",
    ),
    (
        [{"maxpool": [17, 2]}],
        "layer 1 (maxpool): kernel 17x2 is larger than the padded input 16x16",
        "layers.0.maxpool.kernel",
    ),
    (["relu", "convv"], "layer 2: no layer kind 'convv'. Did you mean 'conv'", "layers.1.convv"),
    (
        [{"conv": {"out": 8, "kernal": 3}}],
        "layer 1 (conv): unknown option 'kernal'. Did you mean 'kernel'?",
        "layers.0.conv.kernal",
    ),
    ([{"conv": {"kernel": 3}}], "layer 1 (conv): needs 'out'", "layers.0"),
    (
        [{"conv": {"out": 8, "kernel": 3, "kernel_size": 3}}],
        "layer 1 (conv): kernel and kernel_size are the same option",
        "layers.0.conv.kernel_size",
    ),
    ([{"conv": {"out": 8, "in": 4}}], "layer 1 (conv): expects 4 channels, gets 3 (3x16x16)", "layers.0.conv.in"),
    (
        [{"conv": {"out": 8, "groups": 2}}],
        "layer 1 (conv): groups 2 must divide the 3 channels that come in and the 8 that go out",
        "layers.0.conv.groups",
    ),
    (
        [{"conv": {"out": 8, "stride": 0}}],
        "layer 1 (conv): stride must be a whole number from 1, or a list of 2, got 0",
        "layers.0.conv.stride",
    ),
    (
        [{"conv": {"out": 8, "kernel": 4, "padding": "same"}}],
        "layer 1 (conv): padding same needs odd kernels, got 4",
        "layers.0.conv.padding",
    ),
    ([{"linear": 10}], "layer 1 (linear): gets an image of 3x16x16; put flatten or globalavgpool in front", "layers.0"),
    (["flatten", {"conv": 3}], "layer 2 (conv): needs channels and 1 to 3 dimensions, gets 768", "layers.1"),
    ([{"groupnorm": 2}], "layer 1 (groupnorm): groups 2 must divide the 3 channels", "layers.0.groupnorm.groups"),
    ([{"dropout": 2}], "layer 1 (dropout): ", "layers.0"),
    ([{"upsample": {"mode": "nearest"}}], "layer 1 (upsample): needs one of scale and size", "layers.0"),
    ([{"swish": {"betta": 2}}], "layer 1 (swish): unknown key for Swish. Did you mean 'beta'?", "layers.0.swish.betta"),
    ([{"relu": 3}], "layer 1 (relu): takes its options as a mapping, got 3", "layers.0"),
    (
        [{"repeat": 4, "layers": [{"maxpool": 3}]}],
        "layer 1.1 (maxpool): kernel 3 is larger than the padded input 1x1 (in repetition 3)",
        None,
    ),
    ([{"repeat": 2}], "layer 1 (repeat): needs 'layers'", "layers.0"),
    ([{"repeat": 0, "layers": ["relu"]}], "layer 1 (repeat): needs a whole number above 0, got 0", "layers.0.repeat"),
    (
        ["relu", {"sequential": ["relu", {"conv": {"out": -1}}]}],
        "layer 2.2 (conv): out must be",
        "layers.1.sequential.1.conv.out",
    ),
    (
        [{"residual": [{"conv": 3}]}],
        "layer 1 (residual): its layers turn 3x16x16 into 3x14x14, which no 1x1 projection does",
        "layers.0",
    ),
    (
        [{"residual": [{"conv": 8}], "project": False}],
        "layer 1 (residual): its layers turn 3x16x16 into 8x14x14; without projection",
        "layers.0.project",
    ),
    (
        [{"conv": {"out": 3}, "relu": None}],
        "layer 1 (conv): 'relu' does not belong here: one layer an item",
        "layers.0.relu",
    ),
    (
        [{"concat": ["maxpool", {"conv": 8}]}],
        "layer 1 (concat): its layers turn 3x16x16 into 8x6x6; only channels may differ",
        "layers.0",
    ),
    ([{"conv": {"out": 10, "stride": 2}}], "for maps of 10x16x16 with {conv: {out: auto, kernel: 1}}", "layers"),
    ([3], "layer 1: a name or a mapping", "layers.0"),
    ([], "a list of layers is needed", "layers"),
    (["flatten"], "layer 1 gives 768, the model must give 10: end with {linear: auto}", "layers"),
    (["relu"], "layer 1 gives 3x16x16, the model must give 10: end with flatten and {linear: auto}", "layers"),
]


def test_a_list_may_end_in_a_map_of_the_classes():
    up = [{"maxpool": 2}, {"conv": {"out": 8, "padding": "same"}}, {"tconv": {"out": 4, "kernel": 2, "stride": 2}}]
    model = build({"concat": up}, {"tconv": {"out": "auto", "kernel": 1}}).eval()
    x = torch.randn(2, 3, 16, 16)
    inner = torch.cat([x, model[0].body(x)], 1)
    assert (
        inner.shape == (2, 7, 16, 16) and torch.equal(model(x), model[1](inner)) and model(x).shape == (2, 10, 16, 16)
    )
    with pytest.raises(ComponentError, match="the model must give 10"):
        build({"conv": {"out": "auto", "kernel": 1}}, size=(3, 16))


@pytest.mark.parametrize(("layers", "message", "option"), MISTAKES, ids=[message for _, message, _ in MISTAKES])
def test_mistakes_name_the_layer_and_the_key(layers, message, option):
    with pytest.raises(ComponentError) as caught:
        build(*layers)
    assert message in str(caught.value)
    if option is not None:
        assert caught.value.option == option
