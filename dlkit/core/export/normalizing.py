"""ONNX files that normalize their inputs themselves: they take pixels from 0 to 1, or features as they are in the data."""

from dataclasses import replace

import numpy as np
from torch import Tensor

from dlkit.core.export.onnx_graph import INPUT, extend_onnx
from dlkit.core.export.onnx_parity import start_session
from dlkit.core.export.parity import CLOSENESS
from dlkit.core.modelfile import ModelSpec
from dlkit.errors import DlkitError, UsageError

NORMALIZED = "normalized"  # what the file called its input before


def raw_spec(spec: ModelSpec) -> ModelSpec:
    """Returns the description of a file that takes inputs which are not normalized. Raises UsageError where none ever were."""
    if spec.info.mean is None:
        raise UsageError("--normalize: this model's inputs are not normalized")
    return replace(spec, info=replace(spec.info, mean=None, std=None))


def normalize_onnx_inputs(data: bytes, spec: ModelSpec, inputs: Tensor) -> bytes:
    """Returns an ONNX file, float or int8, whose first operations normalize, checked on these normalized inputs."""
    from onnx import helper

    shape = (-1, 1, 1) if spec.info.kind == "image" else (-1,)
    mean, std = (np.array(values, dtype=np.float32).reshape(shape) for values in (spec.info.mean, spec.info.std))
    nodes = [
        helper.make_node("Sub", [INPUT, "input_mean"], ["centered"], name="normalize/shift"),
        helper.make_node("Div", ["centered", "input_std"], [NORMALIZED], name="normalize/scale"),
    ]
    changed = extend_onnx(data, {INPUT: NORMALIZED}, {"input_mean": mean, "input_std": std}, first=nodes)
    _check(data, changed, inputs.numpy(), mean=mean, std=std)
    return changed


def _check(data: bytes, changed: bytes, inputs: np.ndarray, *, mean: np.ndarray, std: np.ndarray) -> None:
    wanted = start_session(data).run(None, {INPUT: inputs})[0]
    found = start_session(changed).run(None, {INPUT: inputs * std + mean})[0]
    # int8 rounds: a code may fall to the other side of a half, which a mean over all outputs hardly sees
    if not np.abs(found - wanted).mean() <= CLOSENESS * np.abs(wanted).max():
        raise DlkitError("not written: the file that normalizes gives other outputs than the one that does not")
