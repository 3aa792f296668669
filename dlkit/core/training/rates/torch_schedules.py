"""Any torch scheduler class as a `LrSchedule`: run once over a dummy optimizer and written down.

So a scheduler of torch, or of a user, gets what dlkit's own curves have: units, a warm-up, a plot, and a resume that
only needs the step, because its values no longer depend on having been called in order.
"""

import inspect
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch.optim import Optimizer, lr_scheduler, swa_utils

from dlkit.core.components import Builder, ComponentError, check_options, import_target, is_import_path
from dlkit.core.training.rates.torch_rates import (
    COUNT,
    METRIC,
    build_scheduler,
    filled_options,
    reason_of,
    step_argument,
)
from dlkit.schedules import LrSchedule, Tabulated

INJECTED = ("optimizer", "last_epoch", "verbose")
DUMMY_MOMENTUM = 0.9


def find_scheduler(name: str) -> Builder | None:
    """Returns the scheduler class of torch with this name in any case, or what an import path leads to; None without one."""
    if is_import_path(name):
        return import_target(name)
    for module in (lr_scheduler, swa_utils):
        for attribute, thing in vars(module).items():
            is_scheduler = inspect.isclass(thing) and issubclass(thing, lr_scheduler.LRScheduler)
            if is_scheduler and attribute.casefold() == name.casefold() and not attribute.startswith("_"):
                found: Builder = thing
                return found
    return None


def build_torch_schedule(
    name: str, options: Mapping[str, Any], frame: LrSchedule, *, base_lrs: Sequence[float]
) -> LrSchedule:
    """Returns a torch scheduler class, by name or import path, as a schedule; see `tabulate_scheduler`.

    Raises ComponentError, also for an unknown name.
    """
    builder = find_scheduler(name)
    if builder is None:
        raise ComponentError(f"no scheduler {name!r} in torch.optim.lr_scheduler; your own: package.module:attr")
    return tabulate_scheduler(builder, options, frame, base_lrs=base_lrs)


def tabulate_scheduler(
    builder: Builder, options: Mapping[str, Any], frame: LrSchedule, *, base_lrs: Sequence[float]
) -> LrSchedule:
    """Returns a scheduler class in place of the curve of `frame`, for groups with these rates.

    Lengths (`T_max`, `total_steps`, `total_iters`) that are missing where the class needs them, or `auto`, become what
    the warm-up leaves of the run, and `max_lr` the base rates. Raises ComponentError for options that do not fit, a class
    that cannot be built, or one that wants a metric.
    """
    options = filled_options(builder, options, base_lrs, length=frame.length)
    check_options(builder, options, injected=INJECTED)
    rates, momenta = tabulate(builder, options, base_lrs, length=frame.length)
    table = {base: [row[index] for row in rates] for index, base in enumerate(base_lrs)}
    return replace(frame, name=frame.name.rpartition(":")[2], curve=Tabulated(table, momenta, options))


def tabulate(
    builder: Builder, options: Mapping[str, Any], base_lrs: Sequence[float], *, length: int
) -> tuple[list[list[float]], list[float] | None]:
    """Returns the rates of all groups, and the momentum if it moves, of a scheduler in its first `length` steps."""
    optimizer = _dummy_optimizer(base_lrs)
    rates, momenta = [], []
    title = getattr(builder, "__name__", str(builder))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what torch says to those who call it in another order
        scheduler = _build(builder, optimizer, options, title)
        for step in range(length):
            rates.append([float(group["lr"]) for group in optimizer.param_groups])
            momenta.append(float(optimizer.param_groups[0]["momentum"]))
            optimizer.step()
            if step < length - 1:
                _advance(scheduler, title, step)
    is_moved = any(momentum != DUMMY_MOMENTUM for momentum in momenta)
    return rates, momenta if is_moved else None


def _dummy_optimizer(base_lrs: Sequence[float]) -> Optimizer:
    groups = [{"params": [torch.nn.Parameter(torch.zeros(0))], "lr": lr} for lr in base_lrs]
    return torch.optim.SGD(groups, momentum=DUMMY_MOMENTUM)


def _build(builder: Builder, optimizer: Optimizer, options: Mapping[str, Any], title: str) -> Any:
    scheduler = build_scheduler(builder, optimizer, options, title)
    if step_argument(scheduler, title) == METRIC:
        raise ComponentError(
            f"{title} follows a metric, which only a run has; dlkit's own schedule plateau can be followed here"
        )
    return scheduler


def _advance(scheduler: Any, title: str, step: int) -> None:
    try:
        scheduler.step(*([step + 1] if step_argument(scheduler, title) == COUNT else []))
    except Exception as error:
        raise ComponentError(f"{title} has no value after step {step}: {reason_of(error)}") from error
