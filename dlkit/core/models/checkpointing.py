"""Gradient checkpointing: activations inside chosen modules are dropped and computed again in the backward pass.

State-dict keys and module types stay as they are, because only the instance's `forward` is replaced. With n equal
layers in k segments, k boundaries and the inside of one segment are alive at once: k + r n / k outputs, if a layer
saves r times its output. So memory is least near k = sqrt(r n), and rises again beyond.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from fnmatch import fnmatchcase
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from dlkit.config import Segments
from dlkit.core.components import ComponentError
from dlkit.suggestions import did_you_mean

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
Buffers = list[tuple[nn.Module, str, Tensor]]


def enable_checkpointing(model: nn.Module, setting: bool | int | Sequence[str] | Segments) -> int:
    """Checkpoint the model in place and return in how many pieces; 0 when `true` finds nothing worth it.

    true: the outermost blocks whose class occurs more than once, else the largest sequential part in about sqrt(n)
    segments. A list: the modules whose names match these globs. A number of segments: the model, or its largest
    sequential part, in so many. Raises ComponentError for a glob that matches no module, and for more segments than
    layers.
    """
    if isinstance(setting, Segments):
        return _checkpoint_segments(model, setting.segments)
    if setting is False:
        return 0
    if setting is True:
        return _checkpoint_blocks(model)
    if isinstance(setting, int):
        return _checkpoint_segments(model, setting)
    return _checkpoint_matching(model, setting)


def disable_checkpointing(model: nn.Module) -> None:
    """Undo `enable_checkpointing`."""
    for module in model.modules():
        if isinstance(vars(module).get("forward"), partial) and vars(module)["forward"].func in (
            _forward_checkpointed,
            _forward_segments,
        ):
            del module.forward


def _checkpoint_blocks(model: nn.Module) -> int:
    blocks = _repeated_blocks(model)
    if blocks:
        for block in blocks:
            _wrap(block)
        return len(blocks)
    sequential = _largest_sequential(model)
    if sequential is None or len(sequential) < 4:
        return 0
    return _checkpoint_segments(model, round(math.sqrt(len(sequential))))


def _repeated_blocks(model: nn.Module) -> list[nn.Module]:
    inner = [module for module in model.modules() if module is not model and _holds_layers(module)]
    counts = Counter(type(module) for module in inner)
    return _outermost(
        [(name, module) for name, module in model.named_modules() if module in set(inner) and counts[type(module)] > 1]
    )


def _holds_layers(module: nn.Module) -> bool:
    return (
        not isinstance(module, _CONTAINERS)
        and any(True for _ in module.children())
        and any(True for _ in module.parameters())
    )


def _outermost(named: list[tuple[str, nn.Module]]) -> list[nn.Module]:
    names = [name for name, _ in named]
    return [module for name, module in named if not any(name.startswith(other + ".") for other in names)]


def _checkpoint_matching(model: nn.Module, globs: Sequence[str]) -> int:
    # a module that only a container calls for (ModuleList) has no forward to replace; its children are taken instead
    named = [(name, module) for name, module in model.named_modules() if name]
    chosen: list[tuple[str, nn.Module]] = []
    for glob in globs:
        found = [(name, module) for name, module in named if fnmatchcase(name, glob)]
        if not found:
            names = [name for name, _ in named]
            top = ", ".join(name for name, _ in model.named_children())
            raise ComponentError(f"no module matches {glob!r}.{did_you_mean(glob, names)} The outermost are: {top}")
        for name, module in found:
            is_list = isinstance(module, nn.ModuleList | nn.ModuleDict)
            chosen += (
                [(f"{name}.{key}", child) for key, child in module.named_children()] if is_list else [(name, module)]
            )
    blocks = _outermost(list(dict(chosen).items()))
    for block in blocks:
        _wrap(block)
    return len(blocks)


def _checkpoint_segments(model: nn.Module, num_segments: int) -> int:
    sequential = _largest_sequential(model)
    if sequential is None:
        raise ComponentError(
            "segments need a sequential model or part, this one has none; give a list of module names, or true"
        )
    if not 1 <= num_segments <= len(sequential):
        raise ComponentError(f"segments must be from 1 to {len(sequential)}, the number of layers, got {num_segments}")
    bounds = [round(index * len(sequential) / num_segments) for index in range(num_segments + 1)]
    _keep_inputs(sequential)
    sequential.forward = partial(_forward_segments, sequential, tuple(bounds))  # type: ignore[method-assign]
    return num_segments


def _largest_sequential(model: nn.Module) -> nn.Sequential | None:
    if isinstance(model, nn.Sequential) and len(model) > 1:
        return model
    found = [module for module in model.modules() if isinstance(module, nn.Sequential)]
    return max(found, key=len, default=None)


def _wrap(module: nn.Module) -> None:
    _keep_inputs(module)
    # a partial, not a closure: deepcopy follows its argument, so that a copy (EMA) computes with its own weights
    module.forward = partial(_forward_checkpointed, module)


def _keep_inputs(module: nn.Module) -> None:
    # an in-place activation at the start of a piece would overwrite the input that the second pass starts from
    for layer in module.modules():
        if getattr(layer, "inplace", False) is True:
            layer.inplace = False  # type: ignore[assignment]


def _forward_checkpointed(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
    return _run(partial(type(module).forward, module), [module], *args, **kwargs)


def _forward_segments(sequential: nn.Sequential, bounds: tuple[int, ...], x: Tensor) -> Tensor:
    layers = list(sequential)
    for start, end in pairwise(bounds):
        segment = layers[start:end]
        # the last segment's activations are needed at once, so dropping them would only cost time
        x = _apply(segment, x) if end == len(layers) else _run(partial(_apply, segment), segment, x)
    return x


def _apply(layers: Sequence[nn.Module], x: Tensor) -> Tensor:
    for layer in layers:
        x = layer(x)
    return x


def _run(function: Callable[..., Any], modules: Sequence[nn.Module], *args: Any, **kwargs: Any) -> Any:
    if not torch.is_grad_enabled():
        return function(*args, **kwargs)
    return checkpoint(
        function, *args, use_reentrant=False, preserve_rng_state=True, context_fn=partial(_contexts, modules), **kwargs
    )


def _contexts(modules: Sequence[nn.Module]) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """For the first pass nothing; for the second pass the buffers of now, whose updates are thrown away.

    Otherwise batch norm would update its running statistics twice, and power iterations (spectral norm) would move on.
    """
    before: Buffers = [
        (module, name, buffer.detach().clone())
        for root in modules
        for module in root.modules()
        if module.training
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    return nullcontext(), _buffers_of(before)


@contextmanager
def _buffers_of(before: Buffers) -> Iterator[None]:
    now = [(module, name, module._buffers[name]) for module, name, _ in before]
    for module, name, buffer in before:
        module._buffers[name] = buffer.clone()
    try:
        yield
    finally:
        for module, name, kept in now:
            module._buffers[name] = kept
