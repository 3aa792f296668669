"""Sums at the end of an int8 network, which runtimes round and cut off once more: files are judged by that arithmetic."""

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from dlkit.core.export import export_onnx, start_session
from dlkit.errors import DlkitError
from dlkit.quantize import Recipe, observe_network
from dlkit.quantize.graph import convert

RECIPE = Recipe("static", "x86", reduce="weights")


class TwoHeads(nn.Module):
    """The sum of two heads, enlarged, as in LRASPP."""

    def __init__(self):
        super().__init__()
        self.low, self.high = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x):
        return nn.functional.interpolate(self.low(x) + self.high(x.relu()), scale_factor=4, mode="bilinear")


def images(count=8, seed=1):
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def int8():
    torch.manual_seed(0)
    return convert(observe_network(TwoHeads().eval(), RECIPE, [images()]), RECIPE)


def last_sum(network):
    return next(layer for layer in network.modules() if getattr(layer, "inner", None) is not None)


def test_what_is_cut_off_beyond_the_calibrated_range_is_no_fault(int8, tmp_path):
    layer = last_sum(int8)
    assert layer.y is None and layer.residual is not None
    far = images(seed=2)
    parity = export_onnx(int8, tmp_path / "near.onnx", images(), inputs=far)
    assert parity.max_abs <= 3 * layer.inner.scale  # a code of either head that is rounded the other way
    with torch.no_grad():
        layer.replace_bias(layer.bias + 100 * layer.inner.scale)  # as sums are that calibration never saw
    parity = export_onnx(int8, tmp_path / "far.onnx", images(), inputs=far)
    assert parity.max_abs > 30 * layer.inner.scale and parity.max_abs > 0.05 * parity.output_max
    session, inner = start_session(tmp_path / "far.onnx"), layer.inner
    highest = (inner.highest - inner.zero_point) * inner.scale + (
        255 - layer.residual.zero_point
    ) * layer.residual.scale
    assert session.run(None, {"input": far.numpy()})[0].max() <= highest * 1.0001


def test_a_file_with_another_bias_is_not_written(int8, tmp_path, monkeypatch):
    scale, check = last_sum(int8).inner.scale, onnx.checker.check_model

    def spoil(model, **options):  # the last that is done before a file is compared with its network
        constants = {item.name: item for item in model.graph.initializer}
        for node in model.graph.node:
            item = constants.get(node.input[0])
            if item is not None and item.data_type == onnx.TensorProto.INT32:
                steps = moves * scale / numpy_helper.to_array(constants[node.input[1]])
                moved = numpy_helper.to_array(item) + np.round(steps).astype(np.int32)
                item.CopyFrom(numpy_helper.from_array(moved, item.name))
        check(model, **options)

    monkeypatch.setattr(onnx.checker, "check_model", spoil)
    moves = 0
    assert export_onnx(int8, tmp_path / "same.onnx", images()).layer_steps <= 1
    moves = 3
    with pytest.raises(DlkitError, match="differs"):
        export_onnx(int8, tmp_path / "net.onnx", images())
    assert [path.name for path in tmp_path.iterdir()] == ["same.onnx"]


def test_a_program_that_computes_something_else_than_its_numbers_say(int8, tmp_path):
    layer = last_sum(int8)
    layer.register_forward_hook(lambda layer, inputs, output: output + 3 * layer.inner.scale)
    with pytest.raises(DlkitError, match="on equal input its .* differs by 3 steps"):
        export_onnx(int8, tmp_path / "net.onnx", images())
