"""Whether the state of an optimizer in a checkpoint is of this optimizer, which torch finds out in the middle of a step only.

What it must look like is seen on a small optimizer of the same class that makes one step with the settings of the checkpoint: a schedule
may have moved them, as one that cycles the momentum does.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from dlkit.core.components import accepted
from dlkit.core.training.paired_optimizer import parts_of
from dlkit.errors import first_line

KERNELS = "fused"  # the setting that says which
_SIDES = (2, 3, 5, 7, 11)  # of the small parameters, all different, so that the shapes of state show what they follow


def check_optimizer_state(state: Mapping[str, Any], optimizer: Optimizer) -> None:
    """Raise ValueError unless `state` is what this optimizer, built for the same parameters, would have saved."""
    saved_groups = state["param_groups"]
    if [len(group["params"]) for group in optimizer.param_groups] != [
        _length(group.get("params")) for group in saved_groups
    ]:
        raise ValueError("the groups of its optimizer hold other numbers of parameters")
    index = 0
    for number, ((kind, group, parameters), saved) in enumerate(zip(parts_of(optimizer), saved_groups, strict=True)):
        found = _settings(saved)
        _check_alike(found, _settings(group), f"group {number} of its optimizer")
        _check_settings(kind, found, f"group {number} of its optimizer")
        examples = {length: _state_of_a_step(kind, found, length) for length in {one.ndim for one in parameters}}
        for parameter in parameters:
            example = examples[parameter.ndim]
            if index in state["state"] and example is not None:
                _check_parameter(state["state"][index], example, parameter, f"parameter {index}")
            index += 1


def with_own_kernels(state: dict[str, Any], optimizer: Optimizer) -> dict[str, Any]:
    """Returns the state with the kernels that this optimizer was built with: those of the checkpoint may have been for other devices,
    or for parameters that were cut.
    """
    pairs = zip(state["param_groups"], optimizer.param_groups, strict=True)
    return {
        **state,
        "param_groups": [saved | {KERNELS: own.get(KERNELS)} if KERNELS in own else saved for saved, own in pairs],
    }


def _settings(group: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in group.items() if name not in ("params", KERNELS)}


def _length(parameters: Any) -> int:
    is_listed = isinstance(parameters, list) and all(type(index) is int for index in parameters)
    return len(parameters) if is_listed else -1


def _check_alike(found: Mapping[str, Any], wanted: Mapping[str, Any], what: str) -> None:
    if found.keys() != wanted.keys():
        raise ValueError(f"{what} has {', '.join(found) or 'nothing'} where {', '.join(wanted) or 'nothing'} belongs")
    for name, value in wanted.items():
        if _kind(found[name]) != _kind(value):
            raise ValueError(f"{name} in {what} is {found[name]!r:.80}")


def _check_settings(kind: type[Optimizer], found: Mapping[str, Any], what: str) -> None:
    """Raise ValueError for settings that the class itself would not take: it looks at them only when it is made."""
    if not _is_torchs(kind):
        return
    try:
        kind([nn.Parameter(torch.zeros(1, 1))], **accepted(kind, found))
    except (ValueError, TypeError, RuntimeError) as error:
        raise ValueError(f"{what}: {first_line(error, 200)}") from error


def _is_torchs(kind: type[Optimizer]) -> bool:
    return f"{kind.__module__}.".startswith("torch.optim.")


def _kind(value: Any) -> Any:
    """What may stand for what: all numbers for each other, lists for tuples as long."""
    if isinstance(value, list | tuple):
        return tuple(map(_kind, value))
    return float if type(value) is int else type(value)


def _state_of_a_step(kind: type[Optimizer], settings: Mapping[str, Any], length: int) -> dict[str, Any] | None:
    """What an optimizer keeps of a parameter with so many dimensions after one step; None for one that cannot be tried so, and for
    a class of the user's own, which may keep other state at every step.
    """
    if not _is_torchs(kind) or length > len(_SIDES):
        return None
    parameter = nn.Parameter(torch.zeros(_SIDES[:length]))
    parameter.grad = torch.zeros_like(parameter)
    try:
        small: Optimizer = kind([{"params": [parameter], **settings}])  # type: ignore[call-arg]  # of a subclass
        small.step()
    except (RuntimeError, ValueError, TypeError):
        return None
    return dict(small.state[parameter])


def _check_parameter(found: Mapping[str, Any], example: Mapping[str, Any], parameter: Tensor, what: str) -> None:
    _check_alike(found, example, f"the state of {what} of its optimizer")
    small = _SIDES[: parameter.ndim]
    for name, value in example.items():
        if not isinstance(value, Tensor) or value.ndim not in (0, parameter.ndim):
            continue
        if name == "step" and not 0 <= float(found[name]) < 2**53:
            raise ValueError(f"{what} of its optimizer is at step {float(found[name]):g}")
        if found[name].is_floating_point() != value.is_floating_point() or found[name].is_complex():
            raise ValueError(f"{name} of {what} of its optimizer holds numbers of {found[name].dtype}")
        sides = zip(value.shape, small, parameter.shape, strict=True) if value.ndim else ()
        wanted = tuple(whole if side == side_of_small else side for side, side_of_small, whole in sides)
        if tuple(found[name].shape) != wanted:
            raise ValueError(f"{name} of {what} of its optimizer has shape {tuple(found[name].shape)}, not {wanted}")
