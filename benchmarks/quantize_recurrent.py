"""What dynamic int8 costs an LSTM or a GRU: accuracy, agreement and file size, on the real FashionMNIST read row by row.

    python benchmarks/quantize_recurrent.py [--cell lstm|gru] [--seeds 3] [--epochs 4] [--limit 12000] [--hidden 256]

Trains each network for a short time (the question is what int8 changes, not how good it gets), then quantizes it as
`dlkit quantize --dynamic` does. Prints a row per seed.
"""

import argparse
import tempfile
from pathlib import Path

import torch

import dlkit
from dlkit.core.modelfile import read_model_file
from dlkit.quantize import QuantizeRequest, run_quantization

CELLS = {"lstm": "lstm", "gru": f"{Path(__file__).parent / 'nets' / 'gru.py'}:RowGRU"}


def train(folder: Path, cell: str, seed: int, *, epochs: int, limit: int, hidden: int) -> Path:
    """A model file of a recurrent network over the rows of FashionMNIST."""
    config = {
        "seed": seed,
        "data": {"name": "fashion_mnist", "batch_size": 128, "limit": limit},
        "model": {"name": CELLS[cell], "hidden_size": hidden},
        "optimizer": {"name": "adamw", "lr": 0.003},
        "train": {"epochs": epochs, "clip": {"norm": 1.0}},
        "log": {"tensorboard": False},
    }
    return dlkit.train(config, out=folder / f"seed-{seed}").model_path


def main() -> None:
    """Train, quantize, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cell", choices=CELLS, default="lstm")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--limit", type=int, default=12_000)
    parser.add_argument("--hidden", type=int, default=256)
    asked = parser.parse_args()
    print(f"{asked.cell}, torch {torch.__version__}, {torch.get_num_threads()} threads, hidden size {asked.hidden}")
    print("seed  float32     int8   points  same class  file   int8 layers")
    request = QuantizeRequest("dynamic", seconds=None, model=CELLS[asked.cell] if asked.cell == "gru" else None)
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(asked.seeds):
            path = train(Path(folder), asked.cell, seed, epochs=asked.epochs, limit=asked.limit, hidden=asked.hidden)
            outcome = run_quantization(read_model_file(path), request)
            before, after = (
                side.scores.metrics["accuracy"] for side in (outcome.comparison.before, outcome.comparison.after)
            )
            same, share = outcome.comparison.agreement.same_top1, outcome.size_ratio
            layers = f"{outcome.coverage.num_int8} of {len(outcome.coverage.layers)}"
            print(
                f"{seed:4}  {before:7.2%}  {after:7.2%}  {100 * (after - before):+7.2f}  {same:10.2%}  {share:.1%}  {layers}"
            )


if __name__ == "__main__":
    main()
