"""The pruned model file: where it goes, what it says of itself, and the check that reading it back builds the same network."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dlkit.core.environment import describe_environment, now
from dlkit.core.evaluation import read_original
from dlkit.core.modelfile import ModelSpec, build_from_file, read_model_file, save_model_file
from dlkit.core.models import tensors_in
from dlkit.errors import DlkitError, FileRefused
from dlkit.files import PICTURES, check_ending, check_output, check_outputs

OF_TRAINING = ("metric", "value", "epoch", "test")  # the scores in a trained file, which pruning makes untrue


@dataclass(frozen=True)
class PruneOutputs:
    """The paths of the pruned model file and of its report."""

    model: Path
    report: Path


def plan_paths(model: Path, wanted: Path | None, *, may_replace: bool) -> PruneOutputs:
    """`model.pruned.pt` beside model.pt unless `wanted` names another file, and the report beside it.

    Raises OutputError, before any work is done, for what could not be written there at the end.
    """
    path = wanted or _beside(model, "pruned.pt")
    check_ending(path, (".pt",), "a model file ends in")
    paths = PruneOutputs(path, path.with_suffix(".report.json"))
    check_outputs((paths.model, paths.report), model, "the model that is pruned", may_replace=may_replace)
    return paths


def plan_picture(model: Path, wanted: Path | None, *, may_replace: bool) -> Path:
    """Where the picture of a scan goes: `model.scan.png` beside model.pt unless `wanted` names another file."""
    path = wanted or _beside(model, "scan.png")
    check_ending(path, PICTURES, "the picture of --scan ends in")
    check_output(path, may_replace=may_replace)
    return path


def _beside(model: Path, ending: str) -> Path:
    if model.is_dir():
        raise FileRefused(model, "a folder; name the model file in it")
    return model.with_name(f"{model.stem}.{ending}")


def describe_pruned(
    spec: ModelSpec, rewrite: Mapping[str, Any] | None, facts: Mapping[str, Any], metrics: Mapping[str, float]
) -> ModelSpec:
    """What the pruned file says of itself. `rewrite` builds the new layer sizes; None where they stayed.

    The scores of training move to `prune.before`, and `test` becomes the present ones, `metrics`. `prune.original` stays
    what it was when the network was first pruned.
    """
    environment = describe_environment()
    trained = {key: value for key, value in spec.provenance.items() if key in OF_TRAINING}
    kept = {key: value for key, value in spec.provenance.items() if key not in OF_TRAINING}
    versions = {name: environment[name] for name in ("dlkit", "torch")}
    made = {"created": now(), **versions, **facts, "before": trained}
    if earlier := read_original(spec.provenance):
        made["original"] = earlier.to_dict()
    provenance = {**kept, "prune": made, **({"test": dict(metrics)} if metrics else {})}
    transforms = spec.transforms if rewrite is None else (*spec.transforms, rewrite)
    return replace(spec, transforms=transforms, provenance=provenance)


def save_pruned(path: Path, spec: ModelSpec, network: nn.Module, example: Tensor, *, model: str | None = None) -> None:
    """Write the network, and read it back: tensors and outputs must be the same, bit for bit.

    Raises DlkitError when they are not. `path` is in a folder for files that are still being made.
    """
    save_model_file(path, spec, network.state_dict())
    _check_same(build_from_file(read_model_file(path), model=model), network, example)


def _check_same(rebuilt: nn.Module, network: nn.Module, example: Tensor) -> None:
    theirs = rebuilt.state_dict()
    for name, tensor in network.state_dict().items():
        if not torch.equal(theirs[name], tensor):
            raise DlkitError(f"the file does not give back {name}; nothing was written")
    with torch.no_grad():
        pairs = zip(tensors_in(rebuilt(example)), tensors_in(network(example)), strict=True)
        if not all(torch.equal(first, second) for first, second in pairs):
            raise DlkitError("the network that the file gives back has other outputs; nothing was written")
