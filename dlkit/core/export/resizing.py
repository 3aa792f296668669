"""ONNX files that take images of any size: scaled until both sides cover the network's, then cut about the centre.

That is what `fit_image` does to pictures in evaluation. It rounds to bytes after each scaling, the file never, so that pixels
differ by up to one step of 255.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from dlkit.config import is_done_anyway, load_mapping
from dlkit.core.data import fit_image
from dlkit.core.export.onnx_graph import BATCH, INPUT, extend_onnx
from dlkit.core.export.onnx_parity import start_session
from dlkit.core.export.parity import CLOSENESS
from dlkit.core.modelfile import ModelSpec
from dlkit.errors import DlkitError, UsageError

if TYPE_CHECKING:  # onnx is an extra
    from onnx import ModelProto

RESIZED = "resized"  # what the file called its input before
MOST_STEPS = 1.01  # of 255: both passes of a scaling round to bytes in torch, by half a step each
TRIED = ((0.5, 0.7), (1.0, 1.0), (1.3, 2.1), (3.0, 1.0))  # heights and widths of pictures, of the network's

# opset 18 is the first whose Resize has antialiasing
# sizes as float64, in which Python computes them too; Round and Python take the nearest even number
_RESIZER = """
<ir_version: 10, opset_import: ["" : 18]>
agraph (float[batch, channels, height, width] input) => (float[batch, channels, h, w] resized) {
   size = Shape <start = 2> (input)
   real_size = Cast <to = 11> (size)
   ratios = Div (resize_target, real_size)
   ratio = ReduceMax <keepdims = 1> (ratios)
   scaled_size = Mul (real_size, ratio)
   rounded_size = Round (scaled_size)
   real_covering = Max (rounded_size, resize_target)
   covering = Cast <to = 7> (real_covering)
   unchanged = Shape <start = 0, end = 2> (input)
   whole_size = Concat <axis = 0> (unchanged, covering)
   scaled = Resize <mode = "linear", coordinate_transformation_mode = "half_pixel", antialias = 1, exclude_outside = 1>
      (input, , , whole_size)
   over = Sub (real_covering, resize_target)
   half = Mul (over, resize_half)
   rounded_half = Round (half)
   start = Cast <to = 7> (rounded_half)
   end = Add (start, resize_cut)
   resized = Slice (scaled, start, end, resize_axes)
}
"""


def check_resizable(spec: ModelSpec) -> None:
    """Raise UsageError for a model whose inputs are no images, or are prepared in another way."""
    if spec.info.kind != "image":
        raise UsageError(f"--resize: this model takes {spec.info.kind}, no images")
    if (fit := spec.info.fit) is not None:
        raise UsageError(
            "--resize scales bilinearly until both sides cover the network's size and knows no other way, but pictures for this model "
            f"are scaled to {fit.resize_size[0]}x{fit.resize_size[1]} first ({fit.interpolation}, {fit.crop_mode}); leave it out and "
            "prepare them before they go into the file"
        )
    steps = load_mapping(dict(spec.config)).config.data.eval_transforms if spec.config else []
    if names := [step.name for step in steps if not is_done_anyway(step.name)]:
        raise UsageError(
            f"--resize scales and cuts about the centre, but pictures for this model are prepared by data.eval_transforms "
            f"({', '.join(names)}); leave it out and prepare them before they go into the file"
        )


def resize_onnx_inputs(data: bytes, spec: ModelSpec) -> bytes:
    """Returns an ONNX file, float or int8, whose first operations scale and cut images of any size.

    The resizing is checked against `fit_image` on pictures of several sizes, the file against the one before on what comes of that.
    """
    channels, *size = spec.info.input_size
    resizer, values = _build_resizer(size)
    shape: list[int | str] = [BATCH, channels, "height", "width"]
    changed = extend_onnx(data, {INPUT: RESIZED}, values, first=list(resizer.graph.node), input_shape=shape)
    _check(data, changed, resizer.SerializeToString(), channels=channels, size=size)
    return changed


def _build_resizer(size: Sequence[int]) -> tuple["ModelProto", dict[str, np.ndarray]]:
    """A file that only resizes, and its constants by name."""
    from onnx import numpy_helper, parser

    values = {
        "resize_target": np.array(size, np.float64),
        "resize_cut": np.array(size, np.int64),
        "resize_half": np.array(0.5, np.float64),
        "resize_axes": np.array([2, 3], np.int64),
    }
    resizer = parser.parse_model(_RESIZER)
    resizer.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in values.items())
    return resizer, values


def _check(data: bytes, changed: bytes, resizer: bytes, *, channels: int, size: Sequence[int]) -> None:
    sessions = [start_session(part) for part in (resizer, data, changed)]
    draw = torch.Generator().manual_seed(0)
    for factors in TRIED:
        sides = [max(1, round(side * factor)) for side, factor in zip(size, factors, strict=True)]
        images = torch.randint(0, 256, (2, channels, *sides), generator=draw, dtype=torch.uint8)
        pixels = images.numpy().astype(np.float32) / 255
        wanted = fit_image(images, (size[0], size[1])).numpy().astype(np.float32) / 255
        resized = sessions[0].run(None, {INPUT: pixels})[0]
        before, after = (
            session.run(None, {INPUT: given})[0] for session, given in zip(sessions[1:], (resized, pixels), strict=True)
        )
        if not np.abs(resized - wanted).max() <= MOST_STEPS / 255:
            raise DlkitError(f"not written: at {sides[0]}x{sides[1]} the file resizes in another way than dlkit does")
        if not np.abs(after - before).mean() <= CLOSENESS * np.abs(before).max():
            raise DlkitError("not written: the file that resizes gives other outputs than the one that does not")
