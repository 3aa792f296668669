"""Trains some configs in this process, as one of several or alone, and saves what came of each. Run by the tests.

python scene.py CONFIGS.json OUT.pt
"""

import json
import os
import sys
from pathlib import Path

import torch

from dlkit.config import Runtime, load_mapping
from dlkit.core.distributed import Replicated, World, joined, whole
from dlkit.core.evaluation import evaluate, score_split
from dlkit.core.stopping import StopRequest
from dlkit.core.training import NoRecords, build_job, fit
from dlkit.events import ignore


def run(config: dict, world: World) -> dict:
    job = build_job(load_mapping(config), world=world, emit=ignore)
    job.learner.scoring.loss.function.double()  # class weights are float32 otherwise
    calls = []
    if isinstance(job.learner.replica, Replicated):
        job.learner.replica.forward.register_comm_hook(calls, count_and_reduce)
    stop = StopRequest(is_shared=not world.is_alone)
    status = fit(job.learner, job.data, job.plan, NoRecords(), stop=stop, emit=ignore)
    learner = job.learner
    val = evaluate(learner.model, job.data.val, learner.scoring, world=world) if job.data.val else None
    if job.data.info.task != "segmentation":
        learner.scoring.loss.function.float()  # gathered predictions are float32; maps are not gathered
    return {
        "status": status,
        "state": learner.state_dict()["state_dict"],
        "ema": learner.state_dict()["state_dict_ema"],
        "optimizer": whole(learner.optimizer.state_dict()),
        "history": [{key: value for key, value in row.items() if key != "train_s"} for row in learner.history],
        "exchanges": len(calls),
        "steps": learner.position.step,
        "samples": learner.position.samples,
        "val": val,
        "scores": score_split(learner.model, job.data.val, learner.scoring, world=world)[0] if job.data.val else None,
    }


def count_and_reduce(calls: list, bucket: torch.distributed.GradBucket) -> torch.futures.Future[torch.Tensor]:
    from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook

    calls.append(bucket.index())
    return allreduce_hook(None, bucket)


def main() -> None:
    configs, out = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    torch.set_num_threads(1)
    runtime = Runtime(timeout=60.0, parallel=os.environ.get("PARALLEL", "ddp"), device="cpu")
    with joined(runtime) as world:
        found = [run(config, world) for config in configs]
        everybody = world.gather_values(found)
        if world.is_main:
            torch.save(everybody, out)


if __name__ == "__main__":
    main()
