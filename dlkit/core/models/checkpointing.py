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
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from dlkit.config import Segments
from dlkit.core.components import ComponentError
from dlkit.suggestions import did_you_mean

LEAST_LAYERS = 4
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
Buffers = list[tuple[nn.Module, str, Tensor]]


def enable_checkpointing(model: nn.Module, setting: bool | int | Sequence[str] | Segments) -> int:
    """Checkpoint the model in place and return how many pieces are computed again; 0 only when `setting` is false.

    true: the outermost blocks whose class occurs more than once, else the largest sequential part in about sqrt(n)
    segments. A list: the modules whose names match these globs. A number of segments: the largest sequential part in so
    many, sequential parts inside it layer by layer. Raises ComponentError where nothing would be saved, for a glob that
    matches no module, and for more segments than layers.
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
    _, sequential = _largest_sequential(model)
    if sequential is None or len(chain := _chain(sequential)) < LEAST_LAYERS:
        raise ComponentError(
            "this network has nothing to recompute: no block whose class occurs twice, and no sequential part of "
            f"{LEAST_LAYERS} layers. Set it to false; less memory is also had by a smaller data.batch_size with "
            f"train.accumulate, or by modules of more than one layer as globs. {_outermost_words(model)}"
        )
    return _checkpoint_segments(model, round(math.sqrt(len(chain))))


def _repeated_blocks(model: nn.Module) -> list[nn.Module]:
    inner = [module for module in model.modules() if module is not model and _holds_layers(module)]
    counts = Counter(type(module) for module in inner)
    return _outermost(
        [(name, module) for name, module in model.named_modules() if module in set(inner) and counts[type(module)] > 1]
    )


def _holds_layers(module: nn.Module) -> bool:
    return (
        type(module) not in _CONTAINERS
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
            near = did_you_mean(glob, [name for name, _ in named])
            raise ComponentError(f"no module matches {glob!r}.{near} {_outermost_words(model)}")
        for name, module in found:
            is_list = isinstance(module, nn.ModuleList | nn.ModuleDict)
            chosen += (
                [(f"{name}.{key}", child) for key, child in module.named_children()] if is_list else [(name, module)]
            )
    blocks = _outermost(list(dict(chosen).items()))
    if all(map(_keeps_only_its_input, blocks)):
        raise ComponentError(
            f"{', '.join(globs)}: single layers, which keep nothing but their input for the backward pass; recomputing them "
            f"saves no memory. Name modules that hold several layers, or true. {_outermost_words(model)}"
        )
    for block in blocks:
        _wrap(block)
    return len(blocks)


def _checkpoint_segments(model: nn.Module, num_segments: int) -> int:
    name, sequential = _largest_sequential(model)
    if sequential is None or len(chain := _chain(sequential)) < 2:
        raise ComponentError(
            "segments need a sequential model or part of two layers or more, this one has none; give a list of module "
            f"names, or true. {_outermost_words(model)}"
        )
    if not 2 <= num_segments <= len(chain):
        where = f"layers of {name!r}, its largest sequential part" if name else "layers of the model"
        alone = "; the last segment is never recomputed, so that one alone saves nothing" if num_segments == 1 else ""
        raise ComponentError(
            f"segments must be from 2 to {len(chain)}, the number of {where}, got {num_segments}{alone}"
        )
    bounds = [round(index * len(chain) / num_segments) for index in range(num_segments + 1)]
    _keep_inputs(sequential)
    sequential.forward = partial(_forward_segments, sequential, tuple(bounds))  # type: ignore[method-assign]
    return num_segments - 1


def _largest_sequential(model: nn.Module) -> tuple[str, nn.Sequential | None]:
    """The sequential part with the most layers and its name, the outer one of equals."""
    found = [(name, module) for name, module in model.named_modules() if _is_sequential(module)]
    return max(found, key=lambda pair: len(_chain(pair[1])), default=("", None))


def _is_sequential(module: nn.Module) -> TypeGuard[nn.Sequential]:
    # a class of its own may have a forward of its own, which segments would not follow
    return isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward


def _chain(sequential: nn.Sequential) -> list[nn.Module]:
    """The layers one after another, those of sequential parts inside included; what hooks watch stays whole."""
    layers: list[nn.Module] = []
    for layer in sequential:
        if _is_sequential(layer) and not layer._forward_hooks and not layer._forward_pre_hooks:
            layers += _chain(layer)
        else:
            layers.append(layer)
    return layers


def _keeps_only_its_input(module: nn.Module) -> bool:
    """Whether a module is one of torch's single layers; recurrent ones keep every step, and other code may do anything."""
    is_single = not any(True for _ in module.children()) and type(module).__module__.startswith("torch.nn.")
    return is_single and not isinstance(module, nn.RNNBase)


def _outermost_words(model: nn.Module) -> str:
    return f"The outermost are: {', '.join(name for name, _ in model.named_children())}"


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
    layers = _chain(sequential)
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
