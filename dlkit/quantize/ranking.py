"""Ranking layers by what int8 costs in each, alone: `dlkit quantize MODEL --sensitivity`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlkit.core.devices import torch_settings
from dlkit.core.modelfile import ModelFile, build_from_file, without_auxiliary_head
from dlkit.errors import UsageError
from dlkit.events import Emit, ignore
from dlkit.files import check_outputs, write_json
from dlkit.quantize.calibrated import note_unstable_ranges, rank
from dlkit.quantize.calibration_data import open_model_data
from dlkit.quantize.making import calibration_inputs, plan_recipe
from dlkit.quantize.ptq import LayerSensitivity, Remedies, quantize_accurately
from dlkit.quantize.recipe import Recipe
from dlkit.quantize.report import describe_layers
from dlkit.quantize.request import NEVER_REPLACED, QuantizeRequest, check_request
from dlkit.quantize.task import Task, check_weights
from dlkit.tasks import TaskName

SCHEMA = "dlkit.quantize.sensitivity/1"


@dataclass(frozen=True)
class Ranking:
    """Layers by what int8 costs in each, the most expensive first, and the file that lists them."""

    model: Path
    path: Path
    recipe: Recipe
    num_samples: int
    task: TaskName
    layers: tuple[LayerSensitivity, ...]


def run_ranking(file: ModelFile, request: QuantizeRequest, emit: Emit = ignore) -> Ranking:
    """Calibrate, make one layer at a time int8, compare the outputs with those in float, and write what was found."""
    check_request(file, request)
    path = request.output or file.path.with_name(f"{file.path.stem}.sensitivity.json")
    if path.suffix != ".json":
        raise UsageError(f"-o {path}: a ranking is a .json file; for a model too, give --static with --sensitivity")
    check_outputs([path], file.path, NEVER_REPLACED, may_replace=request.is_forced)
    file = without_auxiliary_head(file, emit)
    with torch_settings():
        network = build_from_file(file, model=request.model)
        check_weights(file, network)
        task = Task(file, request, network, open_model_data(file, request, emit), emit)
        recipe = plan_recipe(network, request)
        batches = calibration_inputs(task)
        plain = Remedies(bias_correction=False, equalization="off", smoothing="off")
        best = quantize_accurately(network, recipe, batches, remedies=plain, task=task.name, emit=emit)
        note_unstable_ranges(task, best)
        layers = tuple(rank(task, best, batches))
    if not layers:
        raise UsageError(f"{file.path}: there is nothing to rank, the network has no layer that could be int8")
    ranking = Ranking(file.path, path, recipe, sum(map(len, batches)), task.name, layers)
    write_json(path, describe_ranking(ranking))
    return ranking


def describe_ranking(ranking: Ranking) -> dict[str, Any]:
    """Plain values, as `--json` prints and the file holds them."""
    return {
        "schema": SCHEMA,
        "model": str(ranking.model),
        "file": str(ranking.path),
        "recipe": ranking.recipe.to_dict(),
        "calibration": {"samples": ranking.num_samples},
        "layers": describe_layers(ranking.layers),
    }
