"""ONNX files for older or newer runtimes: another version of the operators."""

import re
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from dlkit.core.export.onnx_graph import INPUT
from dlkit.core.export.onnx_parity import start_session
from dlkit.core.export.parity import FLOAT_TOLERANCE, SMALLEST
from dlkit.errors import DlkitError, UsageError, first_line

if TYPE_CHECKING:  # onnx is an extra
    from onnx import ModelProto

OLDEST_OPSET = 13  # with a scale for each channel, which int8 files need


def convert_opset(data: bytes, opset: int, inputs: Tensor) -> bytes:
    """An ONNX file for another version of the operators, checked on these inputs.

    Raises UsageError for a version that has no operator for something in the network.
    """
    import onnx
    from onnx import helper, version_converter

    model = onnx.load_from_string(data)
    _drop_later_defaults(model)
    written = next(entry.version for entry in model.opset_import if not entry.domain)
    try:
        converted = version_converter.convert_version(model, opset)
        converted.ir_version = min(model.ir_version, helper.find_min_ir_version_for(converted.opset_import, True))
        onnx.checker.check_model(converted, full_check=True)
        changed = bytes(converted.SerializeToString())
        wanted, found = (start_session(part).run(None, {INPUT: inputs.numpy()})[0] for part in (data, changed))
    except Exception as error:  # converter, checker and runtime fail with many kinds of error
        raise UsageError(
            f"--opset {opset}: this network, which is written with opset {written}, cannot be written so: {_reason(error)}"
        ) from error
    if not np.abs(found - wanted).max() <= FLOAT_TOLERANCE * np.abs(wanted).max() + SMALLEST:
        raise DlkitError(f"not written: with opset {opset} the file gives other outputs than with {written}")
    return changed


def check_opset(opset: int) -> None:
    """Raise UsageError for a version of the operators that there is not."""
    import onnx

    newest = onnx.defs.onnx_opset_version()
    if not OLDEST_OPSET <= opset <= newest:
        raise UsageError(
            f"--opset {opset}: give a number from {OLDEST_OPSET} to {newest}, the newest of onnx {onnx.__version__}"
        )


def _drop_later_defaults(model: "ModelProto") -> None:
    """Take out an attribute that says what holds anyway, which older versions of the operator do not have."""
    for node in model.graph.node:
        for attribute in list(node.attribute):
            if attribute.name == "noop_with_empty_axes" and not attribute.i:
                node.attribute.remove(attribute)


def _reason(error: Exception) -> str:
    """What a converter says behind the place in its own source."""
    return re.sub(r"^.*Assertion `.*?` failed: ", "", first_line(error, 200))
