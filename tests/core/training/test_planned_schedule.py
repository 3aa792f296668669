"""The schedule of a config is the one that training uses."""

from pathlib import Path

import pytest

from dlkit.config import load_config
from dlkit.core.training import build_job, plan_schedule
from dlkit.errors import ConfigError
from dlkit.events import ignore

EXAMPLE = Path(__file__).parents[3] / "examples" / "digits.yaml"


@pytest.mark.parametrize(
    "changes",
    [
        [],
        ["schedule={name: multistep, milestones: [1, 2], warmup: 1ep}", "train.accumulate=3"],
        ["schedule={name: cosine, warmup: 10%}", "train.max_steps=50"],
        ["schedule={name: sequence, pieces: 'linear 10% from 0.01; cosine rest'}"],
        ['schedule={name: "torch.optim.swa_utils:SWALR", swa_lr: 0.001}', "optimizer={name: sgd}"],
    ],
)
def test_plan_equals_the_job(changes):
    loaded = load_config(EXAMPLE, overrides=["train.epochs=3", *changes])
    schedule, lr = plan_schedule(loaded)
    job = build_job(loaded, emit=ignore)
    assert (schedule.total_steps, schedule.steps_per_epoch) == (job.plan.total_steps, job.plan.steps_per_epoch)
    rates, optimizer = job.learner.rates, job.learner.optimizer
    for step in range(schedule.total_steps):
        assert schedule.lr(step, lr) == pytest.approx(rates.set(optimizer, step)[0], rel=1e-12)
        optimizer.step()
        rates.after_step()


def test_the_data_need_not_be_opened():
    loaded = load_config(EXAMPLE, overrides=["data.root=/nowhere", "train.epochs=2"])
    schedule, _ = plan_schedule(loaded, num_batches=7)
    assert (schedule.total_steps, schedule.steps_per_epoch) == (14, 7)


def test_a_mistake_has_its_place():
    loaded = load_config(EXAMPLE, overrides=["schedule={name: cosine, eta_min: -1}"])
    with pytest.raises(ConfigError, match=r"schedule.*eta_min must be a number of at least 0"):
        plan_schedule(loaded, num_batches=7)
