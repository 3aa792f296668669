"""A fresh process that loads a model file and runs it once: `python -m dlkit.quantize.storage.reloading FILE INPUTS OUTPUTS THREADS`."""

import sys

import torch

from dlkit.core.modelfile import load_model


def run_saved(path: str, inputs: str, outputs: str, threads: str, model: str | None = None) -> None:
    """Outputs of the network in `path` for the tensor in `inputs`, stored in `outputs`."""
    torch.set_num_threads(int(threads))
    network = load_model(path, model=model)
    with torch.no_grad():
        torch.save(network(torch.load(inputs, weights_only=True)), outputs)


if __name__ == "__main__":
    run_saved(*sys.argv[1:])
