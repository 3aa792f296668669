"""ONNX files that are none, take or give what no network does, fail when they run, run for ever, or ask for more memory than there is."""

from collections.abc import Iterator
from typing import Any

import onnx
from onnx import TensorProto, helper
from originals import Originals
from trials import Trial

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
COMMAND = ("bench", "{file}", "--batch", "1", "--engine", "onnx", "--seconds", "0.05", "--json")
SIZED = (*COMMAND, "--input", "1x8x8")
X = [1, 1, 8, 8]


def onnx_trials(originals: Originals) -> Iterator[Trial]:
    """All of them; `bench` runs such files, others refuse them."""
    raw = {
        "nothing": b"",
        "a line": b"hello",
        "zeros": bytes(100),
        "a field of 2^60 bytes": b"\x3a" + b"\xff" * 8 + b"\x0f",
        "nested fields": b"\x3a\x80\x80\x04" + b"\x0a\x80\x80\x04" * 4000,
    }
    models = {name: model.SerializeToString() for name, model in [*_ends(), *_graphs(), *_runs(), *_stored(originals)]}
    for name, data in (raw | models).items():
        yield Trial(f"onnx: {name}", ".onnx", lambda path, d=data: path.write_bytes(d) and None, (COMMAND, SIZED))
    data = models["sound"]
    for command in (("inspect", "{file}"), ("eval", "{file}", "--json"), ("predict", "{file}", "{file}")):
        yield Trial(f"onnx: {command[0]}", ".onnx", lambda path, d=data: path.write_bytes(d) and None, (command,))


def _value(name: str, shape: Any = X, kind: int = FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def _model(nodes: Any, inputs: Any = None, outputs: Any = None, initializers: Any = (), **options: Any) -> Any:
    inputs, outputs = [_value("x")] if inputs is None else inputs, [_value("y", None)] if outputs is None else outputs
    graph = helper.make_graph(nodes, "g", inputs, outputs, list(initializers))
    opsets = [helper.make_opsetid("", options.pop("opset", 17))]
    return helper.make_model(graph, opset_imports=opsets, ir_version=options.pop("ir_version", 8))


def _constant(name: str, values: list[Any], kind: int = INT64, dims: list[int] | None = None) -> Any:
    return helper.make_tensor(name, kind, [len(values)] if dims is None else dims, values)


def _relu(**options: Any) -> Any:
    return _model([helper.make_node("Relu", ["x"], ["y"])], **options)


def _ends() -> Iterator[tuple[str, Any]]:
    """What a file takes and gives."""
    yield "sound", _relu()
    shapes = {
        "a huge input": [1, 1, 10**5, 10**5],
        "an endless input": [1, 2**40, 2**40],
        "a huge batch": [2**40, 1, 8, 8],
        "an empty input": [1, 0, 8, 8],
        "a negative input": [1, -1, 8, 8],
        "a number": [],
        "300 dimensions": [1] * 300,
        "open sizes": ["n", "c", "h", "w"],
        "a name with a blank": ["\ud800".encode("utf-8", "replace").decode(), 1, 8, 8],
        "another size": [1, 3, 5, 5],
    }
    for name, shape in shapes.items():
        yield name, _relu(inputs=[_value("x", shape)])
    yield "no input", _model([helper.make_node("Constant", [], ["y"], value=_constant("c", [1.0], FLOAT))], inputs=[])
    yield "no output", _relu(outputs=[])
    yield "two inputs", _model([helper.make_node("Add", ["x", "z"], ["y"])], inputs=[_value("x"), _value("z")])
    for kind in (
        TensorProto.DOUBLE,
        TensorProto.STRING,
        TensorProto.BOOL,
        TensorProto.FLOAT16,
        TensorProto.COMPLEX64,
        99,
    ):
        yield f"an input of kind {kind}", _relu(inputs=[_value("x", X, kind)])
    for kind in (TensorProto.STRING, TensorProto.BFLOAT16, TensorProto.DOUBLE, TensorProto.BOOL, TensorProto.UINT64):
        cast = helper.make_node("Cast", ["x"], ["y"], to=kind)
        yield f"an output of kind {kind}", _model([cast], outputs=[_value("y", None, kind)])
    sequence = helper.make_tensor_sequence_value_info("y", FLOAT, None)
    yield "a sequence as output", _model([helper.make_node("SequenceConstruct", ["x", "x"], ["y"])], outputs=[sequence])
    optional = helper.make_node("Optional", ["x"], ["y"])
    kind = helper.make_optional_type_proto(helper.make_tensor_type_proto(FLOAT, X))
    yield "an optional output", _model([optional], outputs=[helper.make_value_info("y", kind)])


def _graphs() -> Iterator[tuple[str, Any]]:
    """Graphs that are none."""
    relu = helper.make_node
    yield "a cycle", _model([relu("Relu", ["a"], ["b"]), relu("Relu", ["b"], ["a"]), relu("Add", ["a", "x"], ["y"])])
    yield "a name twice", _model([relu("Relu", ["x"], ["y"]), relu("Relu", ["x"], ["y"])])
    yield "a missing value", _model([relu("Add", ["x", "z"], ["y"])])
    yield "an unknown operator", _model([relu("Evil", ["x"], ["y"])])
    yield "a foreign domain", _model([relu("PyOp", ["x"], ["y"], domain="ai.onnx.contrib")])
    yield "operators of the future", _relu(opset=9999)
    yield "operators of the past", _relu(opset=-1)
    yield "a format of the future", _relu(ir_version=2**40)
    chain = [relu("Relu", [f"v{i}" if i else "x"], [f"v{i + 1}"]) for i in range(20_000)]
    yield "20,000 layers", _model([*chain, relu("Relu", ["v20000"], ["y"])])
    yield "a long name", _model([relu("Relu", ["x"], ["n" * 10**6]), relu("Relu", ["n" * 10**6], ["y"])])
    body = helper.make_graph([relu("Relu", ["x"], ["o0"])], "b", [], [_value("o0", None)])
    true = relu("Constant", [], ["c"], value=helper.make_tensor("t", TensorProto.BOOL, [], [True]))
    for depth in range(1, 60):
        inner = relu("If", ["c"], [f"o{depth}"], then_branch=body, else_branch=body)
        body = helper.make_graph([inner], "b", [], [_value(f"o{depth}", None)]) if depth < 12 else body
    yield "12 branches in each other", _model([true, relu("If", ["c"], ["y"], then_branch=body, else_branch=body)])


def _runs() -> Iterator[tuple[str, Any]]:
    """What happens only when it runs, or when constants are folded."""
    node, huge = helper.make_node, _constant("s", [2**40])
    fill = node("ConstantOfShape", ["s"], ["f"])
    yield (
        "2^40 numbers",
        _model([fill, node("ReduceSum", ["f"], ["r"]), node("Add", ["x", "r"], ["y"])], initializers=[huge]),
    )
    negative = _constant("s", [-5])
    yield (
        "-5 numbers",
        _model([fill, node("ReduceSum", ["f"], ["r"]), node("Add", ["x", "r"], ["y"])], initializers=[negative]),
    )
    expand = node("Expand", ["x", "s"], ["y"])
    yield "expanded to 2^40", _model([expand], initializers=[_constant("s", [2**32, 1, 8, 8])])
    yield "tiled", _model([node("Tile", ["x", "s"], ["y"])], initializers=[_constant("s", [2**20, 2**20, 1, 1])])
    pads = _constant("s", [0, 0, 0, 0, 0, 0, 2**20, 2**20])
    yield "padded", _model([node("Pad", ["x", "s"], ["y"])], initializers=[pads])
    yield (
        "cropped to nothing",
        _model([node("Pad", ["x", "s"], ["y"])], initializers=[_constant("s", [0, 0, -9, 0, 0, 0, -9, 0])]),
    )
    scales = helper.make_tensor("s", FLOAT, [4], [1.0, 1.0, 1e6, 1e6])
    yield "enlarged", _model([node("Resize", ["x", "", "s"], ["y"])], initializers=[scales])
    yield "another shape", _model([node("Reshape", ["x", "s"], ["y"])], initializers=[_constant("s", [7, 9])])
    yield "out of range", _model([node("Gather", ["x", "s"], ["y"], axis=2)], initializers=[_constant("s", [999])])
    zero = [_constant("s", [5]), _constant("z", [0])]
    divide = [node("Div", ["s", "z"], ["q"]), node("Cast", ["q"], ["c"], to=FLOAT), node("Add", ["x", "c"], ["y"])]
    yield "divided by 0", _model(divide, initializers=zero)
    shape = [node("Shape", ["x"], ["q"]), node("Div", ["q", "z"], ["d"]), node("Cast", ["d"], ["y"], to=FLOAT)]
    yield "divided by 0 when it runs", _model(shape, initializers=zero[1:])
    conv = node("Conv", ["x", "w"], ["y"], strides=[0, 0])
    weight = helper.make_tensor("w", FLOAT, [1, 1, 3, 3], [0.0] * 9)
    yield "strides of 0", _model([conv], initializers=[weight])
    conv = node("Conv", ["x", "w"], ["y"], pads=[2**30] * 4)
    yield "pads of 2^30", _model([conv], initializers=[weight])
    yield "a loop of 10,000", _loop(10_000)  # an endless one is given up after a minute, see test_endless_onnx.py
    square = node("MatMul", ["x", "x"], ["y"])
    yield "long products", _model([square], inputs=[_value("x", [1, 1, 20_000, 20_000])])


def _loop(times: int) -> Any:
    node = helper.make_node
    body = helper.make_graph(
        [node("Identity", ["on"], ["on_out"]), node("Relu", ["v"], ["v_out"])], "body",
        [_value("i", [], INT64), _value("on", [], TensorProto.BOOL), _value("v", None)],
        [_value("on_out", [], TensorProto.BOOL), _value("v_out", None)],
    )  # fmt: skip
    start = [helper.make_tensor("m", INT64, [], [times]), helper.make_tensor("c", TensorProto.BOOL, [], [True])]
    return _model([node("Loop", ["m", "c", "x"], ["y"], body=body)], initializers=start)


def _stored(originals: Originals) -> Iterator[tuple[str, Any]]:
    """Weights that are not there, or lie in other files."""
    node = helper.make_node
    weight = helper.make_tensor("w", FLOAT, [1, 1, 8, 8], [0.0] * 64)
    weight.ClearField("float_data")
    for dims in ([1, 1, 8, 8], [2**40], [2**31, 2**31, 2**31], [-1, 8]):
        lying = onnx.TensorProto()
        lying.CopyFrom(weight)
        lying.ClearField("dims")
        lying.dims.extend(dims)
        yield f"weights of {dims} that are not there", _model([node("Add", ["x", "w"], ["y"])], initializers=[lying])
    places = (
        "/etc/passwd",
        "../../etc/passwd",
        "/dev/zero",
        "/dev/stdin",
        str(originals.folder / "fifo"),
        "",
        "x" * 5000,
        "out",
    )
    for place in places:
        outside = onnx.TensorProto()
        outside.CopyFrom(weight)
        outside.data_location = TensorProto.EXTERNAL
        for key, value in {"location": place, "offset": "0", "length": "256"}.items():
            entry = outside.external_data.add()
            entry.key, entry.value = key, value
        yield f"weights in {place[:30]!r}", _model([node("Add", ["x", "w"], ["y"])], initializers=[outside])
