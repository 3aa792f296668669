"""Attention: what its projections compute in int8, and what stays whole."""

import pytest
import torch
from torch import nn
from torchvision.models import swin_transformer, vision_transformer

from dlkit.quantize import Recipe, layer_statuses
from dlkit.quantize.int8 import Int8Conv2d, Int8Linear


def count(program, kind):
    return sum(type(module) is kind for module in program.modules())


def floats(network, program, recipe):
    return {row.type for row in layer_statuses(network, program, recipe) if not row.is_int8}


@pytest.mark.parametrize("outlier", [1, 50])
def test_a_vision_transformer_is_near_float(tools, outlier):
    """Its class token is far smaller than its patches, or one channel far larger than the others."""
    sizes = {"image_size": 32, "patch_size": 8, "num_layers": 2, "num_heads": 4, "hidden_dim": 32, "mlp_dim": 64}
    network = vision_transformer.VisionTransformer(**sizes, num_classes=5).eval()
    nn.init.normal_(network.heads.head.weight)
    with torch.no_grad():
        network.conv_proj.weight[3] *= outlier
    recipe = Recipe("static", "x86", reduce="weights")
    found, program = tools.compared(network, tools.batches(4, 3, 32, 32), recipe)
    assert found > 20
    assert floats(network, program, recipe) <= {"LayerNorm", "add", "cat", "expand"}
    assert (count(program, Int8Conv2d), count(program, Int8Linear)) == (1, 2 * 4 + 1)


@pytest.mark.parametrize("is_second", [False, True])
def test_windowed_attention_is_taken_apart(tools, is_second):
    """For an image that windows do not cover, too."""
    options = {"patch_size": [4, 4], "embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4], "window_size": [3, 3]}
    parts = (
        {"block": swin_transformer.SwinTransformerBlockV2, "downsample_layer": swin_transformer.PatchMergingV2}
        if is_second
        else {}
    )
    network = swin_transformer.SwinTransformer(**options, num_classes=5, **parts).eval()
    found, program = tools.compared(network, tools.batches(2, 3, 40, 40))
    assert found > 20
    assert program.get_submodule("features.1.0.attn.in_proj").computes_int8


@pytest.mark.parametrize("options", [{"batch_first": True}, {"batch_first": False}, {"bias": False}], ids=str)
@pytest.mark.parametrize("shape", [(3, 5, 16), (5, 16)], ids=str)
def test_attention_taken_apart_computes_the_same(tools, options, shape):
    network = tools.Net(
        lambda self, x: self.attention(x, x, x, need_weights=False)[0],
        attention=nn.MultiheadAttention(16, 4, **options),
    ).eval()
    x = torch.randn(shape)
    nn.init.normal_(network.attention.in_proj_weight)
    found, program = tools.compared(network, [x])
    assert found > 25 and count(program, Int8Linear) == 2


def test_a_layer_that_is_taken_as_a_whole_says_so(tools):
    network = nn.Sequential(nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), nn.Linear(16, 4)).eval()
    found, program = tools.compared(network, [torch.randn(3, 5, 16)])
    assert found > 25
    statuses = {status.name: status for status in layer_statuses(network, program, tools.RECIPE)}
    assert statuses["1"].is_int8 and "--dynamic" in statuses["0.linear1"].reason


def test_attention_that_is_more_stays_whole(tools):
    network = tools.Net(
        lambda self, x: self.attention(x, self.other(x), x)[0],
        attention=nn.MultiheadAttention(16, 4, batch_first=True),
        other=nn.Linear(16, 16),
    )
    found, program = tools.compared(network, [torch.randn(3, 5, 16)])
    assert found > 25
    statuses = {status.name: status for status in layer_statuses(network, program, tools.RECIPE)}
    assert statuses["other"].is_int8 and "without masks" in statuses["attention"].reason
