"""Optimizers by name, and which parameters get weight decay, a learning rate of their own, or none at all."""

import inspect
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from dlkit.config import Optimizer as OptimizerSection
from dlkit.config import OtherOptimizer, ParameterGroup
from dlkit.core.components import Builder, ComponentError, check_options, resolve
from dlkit.core.distributed import World
from dlkit.core.training.layer_depths import LayerDepths, find_layer_depths
from dlkit.core.training.paired_optimizer import PairedOptimizer, hidden_matrices
from dlkit.errors import first_line
from dlkit.events import Emit, Note
from dlkit.registry import find_entry
from dlkit.suggestions import closest

SGD_LR = 0.05
OWN_LRS = {"mlp": 0.004, "small_cnn": 0.004, "resnet_small": 0.004, "lstm": 0.008}  # benchmarks/default_rates.py
FUSED = (torch.optim.Adam, torch.optim.AdamW)  # SGD gains little, and loses with large networks in channels_last
_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.LocalResponseNorm)


@dataclass(frozen=True)
class GroupedParameter:
    """A parameter with the settings that it is trained with."""

    name: str
    parameter: nn.Parameter
    group: str
    lr_mult: float
    weight_decay: float | None
    is_matrix: bool = False


def freeze_matching(model: nn.Module, groups: Iterable[ParameterGroup]) -> list[str]:
    """Turn gradients off for parameters in groups with `freeze` and return their names. The first group that matches decides."""
    frozen = []
    for name, parameter in model.named_parameters():
        group = _first_match(name, list(groups))
        if group is not None and group.freeze:
            parameter.requires_grad_(False)
            frozen.append(name)
    return frozen


def frozen_norms(model: nn.Module) -> list[nn.Module]:
    """Returns batch norms whose parameters are all frozen; they stay in evaluation mode, so that their statistics stay too."""
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    return [
        norm
        for norm in norms
        if (own := list(norm.parameters())) and not any(parameter.requires_grad for parameter in own)
    ]


def lr_factor(section: OptimizerSection, num_processes: int) -> float:
    """Returns the factor on the learning rate that `lr_scale` asks for (Goyal et al.: Accurate, large minibatch SGD, 2017, for linear)."""
    return {"none": 1.0, "linear": float(num_processes), "sqrt": math.sqrt(num_processes)}[section.lr_scale]


@dataclass(frozen=True)
class ResolvedOptimizer:
    """The optimizer of a config before it has parameters: its class, options that the class takes, and the learning rate.

    `others` is the one for what is no matrix, where there are two; `depths` are those of the network that `layer_decay` goes by.
    """

    section: OptimizerSection
    builder: Builder
    lr: float
    others: "ResolvedOptimizer | None" = None
    depths: LayerDepths | None = None

    def with_depths(self, network: nn.Module, input_size: Sequence[int]) -> "ResolvedOptimizer":
        """Returns it with the depths of a network, where the config has `layer_decay`."""
        if self.section.layer_decay is None:
            return self
        return replace(self, depths=find_layer_depths(network, input_size))

    def build(self, groups: list[dict[str, Any]]) -> Optimizer:
        """Returns the optimizer over these groups. Raises ComponentError for values that the class refuses."""
        if "weight_decay" not in inspect.signature(self.builder).parameters:
            for group in groups:
                group.pop("weight_decay", None)
        options = _pick_kernels(self.builder, groups, self.section.options) | self.section.options
        try:
            optimizer: Optimizer = self.builder(groups, lr=self.lr, **options)
        except (
            Exception
        ) as error:  # torch looks at options one by one, and a class of the user's own does what it likes
            raise ComponentError(f"{self.section.name} cannot be built: {first_line(error, 300)}") from error
        return optimizer


def _pick_kernels(builder: Builder, groups: list[dict[str, Any]], options: Mapping[str, Any]) -> dict[str, Any]:
    """One pass over each parameter, where torch has that, instead of one for each operation: several times as fast, on CPUs too
    (benchmarks/optimizers.py). Parameters that are cut over processes are left to torch's own choice, and so is an optimizer that
    is told how to go about it.
    """
    if builder not in FUSED or any(options.get(name) for name in ("foreach", "differentiable", "capturable")):
        return {}
    parameters = [parameter for group in groups for parameter in group["params"]]
    is_plain = all(type(parameter) is nn.Parameter and parameter.is_floating_point() for parameter in parameters)
    has_kernels = {parameter.device.type for parameter in parameters} <= {"cpu", "cuda"}
    return {"fused": True} if is_plain and has_kernels else {}


def note_rates(optimizer: ResolvedOptimizer, world: World, emit: Emit) -> None:
    """Report learning rates that are not the one in the config: by depth of the network, and by the number of processes."""
    section, depths, lr = optimizer.section, optimizer.depths, optimizer.lr
    if depths is not None and section.layer_decay is not None:
        last = len(depths.blocks) - 1
        first, head = (", ".join(depths.blocks[place][:2]) for place in (0, -1))
        lowest = lr * section.layer_decay**last
        emit(Note(f"layer_decay: {last + 1} depths, learning rate {lowest:.3g} at {first} to {lr:.3g} at {head}"))
    if (factor := lr_factor(section, world.size)) != 1:
        emit(Note(f"learning rate {lr:g} x {factor:g} = {lr * factor:g} (lr_scale: {section.lr_scale})"))


def resolve_optimizer(section: OptimizerSection, model: str) -> ResolvedOptimizer:
    """Find the class, check the options against it and pick the rate for the model of that name.

    Raises ComponentError for unknown names and options.
    """
    resolved = _resolve_one(section, model)
    others = section.others
    if others is None and resolved.builder is getattr(torch.optim, "Muon", None):
        others = OtherOptimizer()
    if others is None:
        return resolved
    try:
        section_of_others = OptimizerSection.model_validate(others.model_dump())
        return replace(resolved, others=_resolve_one(section_of_others, model))
    except ComponentError as error:
        raise ComponentError(str(error), option=f"others.{error.option or 'name'}") from None


def _resolve_one(section: OptimizerSection, model: str) -> ResolvedOptimizer:
    builder = resolve("optimizers", section.name)
    also_known = [name for name in type(section).model_fields if name != "name"]
    check_options(builder, section.options, injected=("params", "lr"), also_known=also_known)
    return ResolvedOptimizer(section, builder, pick_lr(section, model))


def build_optimizer(resolved: ResolvedOptimizer, model: nn.Module, *, num_processes: int = 1) -> Optimizer:
    """Returns the optimizer over the model's trainable parameters, in named groups.

    Every group holds `name`, `initial_lr` (its peak learning rate) and the options it differs in. Raises ComponentError
    when nothing is left to train and for values that the class refuses.
    """
    section, others = resolved.section, resolved.others
    members = _members(resolved, model)
    if not members:
        if not any(True for _ in model.parameters()):
            raise ComponentError("nothing to train: the network has no parameters")
        raise ComponentError("nothing to train: every parameter is frozen", option="groups")
    factor = lr_factor(section, num_processes)
    if others is None:
        return resolved.build(_groups(members, resolved.lr * factor))
    matrices = [member for member in members if member.is_matrix]
    if not matrices:
        raise ComponentError(f"nothing for {section.name}: no hidden layer has a matrix to train", option="name")
    rest = [member for member in members if not member.is_matrix]
    return PairedOptimizer(
        _groups(matrices, resolved.lr * factor, suffix=" (matrices)"),
        _groups(rest, others.lr * factor),
        resolved.build,
        others.build,
    )


def pick_lr(section: OptimizerSection, model: str) -> float:
    """Returns the learning rate of a config for the model of that name.

    `auto` is torch's default for the class, but for SGD 0.05, and what was measured for Adam and AdamW on our own networks.
    """
    if section.lr != "auto":
        return section.lr
    builder = resolve("optimizers", section.name)
    if builder.__name__ == "SGD":
        return SGD_LR
    entry = find_entry("models", model)
    if builder.__name__ in ("Adam", "AdamW") and entry is not None and entry.name in OWN_LRS:
        return OWN_LRS[entry.name]
    lr = inspect.signature(builder).parameters["lr"].default
    if not isinstance(lr, int | float):
        raise ComponentError(f"{section.name} has no default learning rate; set it", option="lr")
    return float(lr)


def _first_match(name: str, groups: list[ParameterGroup]) -> ParameterGroup | None:
    return next((group for group in groups if any(fnmatchcase(name, glob) for glob in _globs(group))), None)


def _globs(group: ParameterGroup) -> list[str]:
    return [group.match] if isinstance(group.match, str) else group.match


def check_groups(section: OptimizerSection, model: nn.Module) -> None:
    """Raise ComponentError for a glob that matches no parameter."""
    names = [name for name, _ in model.named_parameters()]
    for group in section.groups:
        for glob in _globs(group):
            if not any(fnmatchcase(name, glob) for name in names):
                near = closest(glob, names) or names[:3]
                raise ComponentError(
                    f"{glob!r} matches no parameter; there are, for example, {', '.join(near)}", option="groups"
                )


def _members(resolved: ResolvedOptimizer, model: nn.Module) -> list[GroupedParameter]:
    section, depths = resolved.section, resolved.depths
    without_decay = set() if section.decay_norm_bias else {id(parameter) for parameter in _norm_and_bias(model)}
    factors = depths.factors(section.layer_decay) if depths and section.layer_decay else {}
    matrices = hidden_matrices(model) if resolved.others else set()
    members = []
    for name, parameter in model.named_parameters():  # each shared parameter once
        if not parameter.requires_grad:
            continue
        group = _first_match(name, section.groups)
        decay = group.weight_decay if group else None
        if id(parameter) in without_decay:
            decay = 0.0
        label = "all" if group is None else _globs(group)[0]
        if depths:
            label += f", depth {depths.depths[name]}"
        factor = (group.lr_mult if group else 1.0) * factors.get(name, 1.0)
        members.append(GroupedParameter(name, parameter, label, factor, decay, name in matrices))
    # from the head on, so that the first rate is the config's own
    return sorted(members, key=lambda member: -depths.depths[member.name]) if depths else members


def _norm_and_bias(model: nn.Module) -> list[nn.Parameter]:
    """Returns parameters of norm layers, and every vector or scalar: by type and shape, since names differ between libraries."""
    vectors = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    norms = [
        parameter
        for module in model.modules()
        if isinstance(module, _NORMS)
        for parameter in module.parameters(recurse=False)
    ]
    return vectors + norms


def _groups(members: list[GroupedParameter], lr: float, *, suffix: str = "") -> list[dict[str, Any]]:
    """The groups of an optimizer: parameters with the same settings, in the order in which these come."""
    groups: dict[str, list[GroupedParameter]] = {}
    for member in members:
        no_decay = " (no decay)" if member.weight_decay == 0.0 else ""
        groups.setdefault(member.group + no_decay + suffix, []).append(member)
    return [_group(name, group, lr) for name, group in groups.items()]


def _group(name: str, members: list[GroupedParameter], lr: float) -> dict[str, Any]:
    first = members[0]
    group: dict[str, Any] = {
        "params": [member.parameter for member in members],
        "name": name,
        "lr": lr * first.lr_mult,
        "initial_lr": lr * first.lr_mult,
    }
    if first.weight_decay is not None:
        group["weight_decay"] = first.weight_decay
    return group
