"""Exported programs: a network's graph and weights in one .pt2 file, which torch alone runs."""

import io
from pathlib import Path

import torch
from torch import Tensor, nn

from dlkit.core.export.parity import Parity, parity_of, require_parity
from dlkit.core.export.tracing import CHECKED_SAMPLES, export_program, quiet_exporter
from dlkit.core.models import eval_mode, random_inputs
from dlkit.files import write_bytes


def write_pt2(network: nn.Module, path: Path, example: Tensor) -> Parity:
    """Write a float network with a free batch axis, after the file's bytes were loaded again and run beside the network.

    Raises UsageError for a network that torch.export cannot capture.
    """
    program = export_program(network, example)
    program._example_inputs = None  # not needed to run it, and stored as a pickle
    buffer = io.BytesIO()
    with quiet_exporter():
        torch.export.save(program, buffer)
        buffer.seek(0)
        loaded = torch.export.load(buffer).module()
    inputs = random_inputs(example.shape[1:], CHECKED_SAMPLES)
    with eval_mode(network), torch.no_grad():
        parity = require_parity(parity_of(loaded(inputs), network(inputs)))
    write_bytes(path, buffer.getbuffer())
    return parity
