"""The sound files that hostile ones are made of: a model file in each form, a checkpoint, weights, a config."""

import shutil
import sys
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from dlkit import train
from dlkit.cli.app import main
from dlkit.core.modelfile import ModelFile, ModelSpec, build_from_file, read_model_file, save_model_file
from dlkit.core.torchfile import save_torch_file
from dlkit.events import Event, Saved
from dlkit.prune import replay
from dlkit.quantize import Recipe, quantize_dynamic, save_quantized

CONFIG = """\
seed: 1
data: {name: fake, num_samples: 64, shape: [1, 8, 8], num_classes: 4, batch_size: 16, val: 0.25}
model: {name: mlp, hidden: [16, 8]}
optimizer: {name: adamw, lr: 0.01, weight_decay: 0.01}
schedule: {name: cosine, warmup: 1st}
train: {epochs: 3}
ema: {decay: 0.9}
checkpoint: {every_epochs: 1}
log: {tensorboard: false}
"""


@dataclass(frozen=True)
class Originals:
    """Where the sound files lie, by their kind."""

    folder: Path

    def path(self, kind: str) -> Path:
        """The sound file of a kind."""
        endings = {"config": ".yaml", "safetensors": ".safetensors", "onnx": ".onnx"}
        return self.folder / f"{kind}{endings.get(kind, '.pt')}"

    @property
    def kinds(self) -> list[str]:
        """All kinds of torch files."""
        return ["model", "packed", "pruned", "int8", "checkpoint", "weights"]


def make_originals(folder: Path) -> Originals:
    """Train for three epochs, and keep the checkpoint after the first; prune, quantize and pack what comes out."""
    folder.mkdir(parents=True)
    found = Originals(folder)
    found.path("config").write_text(CONFIG, encoding="utf-8")

    def keep_first(event: Event) -> None:
        if isinstance(event, Saved) and event.path.name == "last.pt" and not found.path("checkpoint").exists():
            shutil.copy(event.path, found.path("checkpoint"))

    result = train(found.path("config"), out=folder / "run", emit=keep_first)
    shutil.copy(result.model_path, found.path("model"))
    file = read_model_file(found.path("model"))
    weights = dict(file.state_dict)
    save_torch_file(found.path("weights"), weights)
    torch.save(weights, folder / "legacy.pt", _use_new_zipfile_serialization=False)
    save_file(weights, found.path("safetensors"))
    _save_packed(found.path("packed"), file.spec, weights)
    _save_rewritten(found, file)
    return found


def _save_rewritten(found: Originals, file: ModelFile) -> None:
    cut = {"op": "prune", "sizes": {"1": {"out_features": 8}, "3": {"in_features": 8}}, "parameters": {}}
    pruned, _ = replay(build_from_file(file), cut, {})
    save_model_file(found.path("pruned"), replace(file.spec, transforms=(cut,)), pruned.state_dict())
    recipe, example = Recipe("dynamic", "x86"), torch.zeros(1, *file.spec.info.input_size)
    int8 = quantize_dynamic(build_from_file(file), recipe, example=example)
    save_quantized(found.path("int8"), file.spec, int8, recipe=recipe, example=example)


def run_command(*arguments: object) -> int:
    """Run a command in this process and return its exit code."""
    sys.argv = ["dlkit", *map(str, arguments)]
    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    return 0


def _save_packed(path: Path, spec: ModelSpec, weights: dict[str, Any]) -> None:
    sparse = {
        name: value * (torch.rand_like(value) < 0.1) if value.ndim > 1 else value for name, value in weights.items()
    }
    save_model_file(path, replace(spec, provenance={}), sparse)


@lru_cache(maxsize=16)
def read_original(path: Path) -> Any:
    """What a sound file holds."""
    return torch.load(path, weights_only=True)
