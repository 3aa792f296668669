"""Capturing a network with torch.export, quietly, with the batch as a free axis."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from dlkit.core.models import eval_mode
from dlkit.errors import UsageError

BATCH = "batch"
LOUD_LOGGERS = ("torch.onnx", "torch.export", "torch.utils.cpp_extension", "onnxscript", "onnx_ir")
CHECKED_SAMPLES = 3  # not the 2 that are traced, so that a batch size burnt into a graph shows


def export_program(network: nn.Module, example: Tensor, free: Mapping[int, Dim] | None = None) -> ExportedProgram:
    """`torch.export` of a network in evaluation mode; `free` are axes that are so besides the batch.

    Raises UsageError, with torch's reason, where that cannot follow it.
    """
    # torch.export takes sizes of 0 and 1 as fixed, so that a free axis must be shown with at least 2
    two = torch.cat([example[:1], example[:1]])
    try:
        with quiet_exporter(), eval_mode(network):
            return torch.export.export(network, (two,), dynamic_shapes=({0: Dim(BATCH), **(free or {})},), strict=False)
    except Exception as error:  # tracing runs the network's own code
        raise UsageError(f"torch.export cannot capture this network: {reason(error)}") from error


def reason(error: BaseException) -> str:
    """The first lines of what began an error."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines[:3])[:400]}"


@contextlib.contextmanager
def quiet_exporter() -> Iterator[None]:
    """Keep prints, log lines and warnings of torch's exporters from users, and put everything back afterwards."""
    loggers = [logging.getLogger(name) for name in LOUD_LOGGERS]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
