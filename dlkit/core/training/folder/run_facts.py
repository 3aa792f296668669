"""The facts of a run: for run.json, for its model file, and for the event at its start."""

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dlkit.core.devices import describe_device
from dlkit.core.distributed import STORE, World
from dlkit.core.environment import describe_environment, now
from dlkit.core.modelfile import ModelSpec
from dlkit.core.models import parameter_count
from dlkit.core.training.folder.run_folder import RunFolder
from dlkit.core.training.resolving import run_name
from dlkit.core.training.setup import Job
from dlkit.events import RunStarted
from dlkit.run_folders import RESOLVED_FILE


def facts_of(job: Job) -> dict[str, Any]:
    """Returns what run.json holds beside the status."""
    total, trainable = parameter_count(job.learner.model)
    return {
        "name": run_name(job.loaded),
        "started": now(),
        "environment": describe_environment(),
        "seed": job.config.seed,
        "device": describe_device(job.device),
        "precision": job.learner.scoring.precision.name,
        "parameters": total,
        "trainable_parameters": trainable,
        "samples": job.split_sizes,
        "skipped": len(job.data.skipped),
        "classes": list(job.data.info.classes or ()),
        "steps_per_epoch": job.plan.steps_per_epoch,
        "total_steps": job.plan.total_steps,
        "processes": job.world.size,
        "launch": job.world.launch,
    }


def run_started(job: Job, folder: RunFolder) -> RunStarted:
    """Returns the event of a run that starts."""
    total, trainable = parameter_count(job.learner.model)
    return RunStarted(
        run_dir=folder.path,
        model=job.arch.name,
        num_parameters=total,
        num_trainable=trainable,
        device=describe_device(job.device),
        precision=job.learner.scoring.precision.name,
        split_sizes=job.split_sizes,
        batch_size=job.config.data.batch_size,
        accumulate=job.learner.accumulate,
        epochs=job.plan.epochs,
        steps_per_epoch=job.plan.steps_per_epoch,
        total_steps=job.plan.total_steps,
        start_step=job.learner.position.step,
        processes=job.world.size,
    )


def spec_of(job: Job, results: Mapping[str, Any]) -> ModelSpec:
    """Returns what the model file says of the network, and how it came about."""
    config = job.config.model_dump(mode="json")
    environment = describe_environment()
    provenance = {
        "created": now(),
        "seed": job.config.seed,
        **{name: environment[name] for name in ("dlkit", "torch", "torchvision")},
        **results,
    }
    return ModelSpec(job.arch, job.data.info, data=config["data"], config=config, provenance=provenance)


def resume_command(run_dir: Path, world: World) -> str:
    """Returns what to type to go on with a run."""
    arguments = ["train", str(run_dir / RESOLVED_FILE), "--resume", str(run_dir)]
    if world.is_alone:
        return shlex.join(["dlkit", *arguments])
    if STORE in os.environ:
        return shlex.join(["dlkit", *arguments, "--nproc", str(world.size)])
    return "torchrun (as before) -m " + shlex.join(["dlkit", *arguments])
