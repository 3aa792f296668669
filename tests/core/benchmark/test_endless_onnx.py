"""An ONNX file that never answers is given up, and one whose input is far too large is refused."""

import onnx
import pytest
import torch
from onnx import TensorProto, helper

from dlkit.core.benchmark import start_onnx_file


def endless(path):
    """A file that applies a ReLU 2^62 times."""
    value, node = helper.make_tensor_value_info, helper.make_node
    ends = [value("i", TensorProto.INT64, []), value("on", TensorProto.BOOL, []), value("v", TensorProto.FLOAT, None)]
    made = [value("again", TensorProto.BOOL, []), value("w", TensorProto.FLOAT, None)]
    body = helper.make_graph([node("Identity", ["on"], ["again"]), node("Relu", ["v"], ["w"])], "body", ends, made)
    start = [
        helper.make_tensor("m", TensorProto.INT64, [], [2**62]),
        helper.make_tensor("c", TensorProto.BOOL, [], [True]),
    ]
    x, y = value("x", TensorProto.FLOAT, [1, 4]), value("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([node("Loop", ["m", "c", "x"], ["y"], body=body)], "g", [x], [y], start)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


def test_a_file_that_never_answers_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setitem(start_onnx_file.__globals__, "FIRST_RUN_S", 0.2)
    run = start_onnx_file(endless(tmp_path / "loop.onnx"))
    with pytest.raises(TimeoutError, match=r"it has not answered within 0\.2 s"):
        run(torch.zeros(1, 4))


def test_a_huge_input_is_refused(dlkit, tmp_path):
    for sizes in ([1, 10**5, 10**5], [1, 2**40, 2**40], [1, 0, 8]):
        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes) for name in "xy"]
        graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", ends[:1], ends[1:])
        onnx.save(
            helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "n.onnx"
        )
        done = dlkit("bench", tmp_path / "n.onnx", "--batch", "1", "--seconds", "0.05")
        assert done.code == 4 and "a sample has 1 to 67,108,864 numbers" in done.err
