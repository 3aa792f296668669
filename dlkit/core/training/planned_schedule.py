"""The schedule that a config will train with, for looking at it without building the model."""

from dlkit.config import LoadedConfig
from dlkit.core.data import build_data
from dlkit.core.devices import pick_device
from dlkit.core.training.optimizers import pick_lr
from dlkit.core.training.rates import build_torch_schedule, curve_schedule
from dlkit.core.training.setup import at_section, plan_steps
from dlkit.events import Emit, ignore
from dlkit.schedules import Constant, LrSchedule


def plan_schedule(
    loaded: LoadedConfig, *, num_batches: int | None = None, emit: Emit = ignore
) -> tuple[LrSchedule, float]:
    """The schedule and the base rate of a config. `num_batches` of an epoch are counted from the data unless given.

    Raises ConfigError at the key at fault, or DataError.
    """
    config = loaded.config
    with at_section(loaded, "optimizer"):
        lr = pick_lr(config.optimizer)
    if num_batches is None:
        num_batches = build_data(
            loaded, device=pick_device(config.runtime.device), seed=config.seed, emit=emit
        ).train.num_batches
    plan = plan_steps(config, num_batches)
    with at_section(loaded, "schedule"):
        return _build(loaded, lr, total_steps=plan.total_steps, steps_per_epoch=plan.steps_per_epoch), lr


def _build(loaded: LoadedConfig, lr: float, *, total_steps: int, steps_per_epoch: int) -> LrSchedule:
    section = loaded.config.schedule
    schedule = curve_schedule(section, total_steps=total_steps, steps_per_epoch=steps_per_epoch)
    if schedule is not None:
        return schedule
    unit = "epoch" if section.unit == "epoch" else "step"
    frame = LrSchedule(section.name, Constant(), unit, total_steps, steps_per_epoch)
    return build_torch_schedule(section.name, section.options, frame, base_lrs=[lr])
