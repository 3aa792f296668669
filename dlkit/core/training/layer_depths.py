"""How deep the parameters of a network lie, for a learning rate that falls from the head to the stem.

Blocks are what a network calls one after another: members of its lists (`nn.Sequential`, `nn.ModuleList`), and modules beside them. A
module that holds nearly all parameters of the network, or little more than a list of equal members, as the encoder of a transformer, is
opened. As in BEiT (Bao et
al. 2022, arXiv 2106.08254) embeddings and stem have depth 0, each block one more than the one that runs before it, the head the last.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import nn

from dlkit.core.models import eval_mode

_LISTS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
NEARLY_ALL = 0.75  # of the parameters: more than that is no block of several
STACK = 0.9  # of a module's parameters in one list: what is around it are embeddings and a norm


@dataclass(frozen=True)
class LayerDepths:
    """The depth of every parameter by name, and the names of the blocks of each depth."""

    depths: dict[str, int]
    blocks: tuple[tuple[str, ...], ...]

    def factors(self, decay: float) -> dict[str, float]:
        """Returns the factor on the learning rate of every parameter: 1 at the greatest depth."""
        return {name: decay ** (len(self.blocks) - 1 - depth) for name, depth in self.depths.items()}


def find_layer_depths(network: nn.Module, input_size: Sequence[int]) -> LayerDepths:
    """Returns the depths of a network's parameters; it is run once on zeros, also on the meta device, to see the order of its blocks.

    A layer of vectors only, such as a norm, has the depth of a single layer in front of it, else that of what follows. A block that is
    not called has the depth of the one that is registered before it.
    """
    blocks = dict(_blocks(network, "", _count(network)))
    order = _call_order(network, blocks, input_size)
    depth_of: dict[str, int] = {}
    depth, waiting = -1, list[str]()
    for number, name in enumerate(order):
        if _has_vectors_only(blocks[name]):
            follows = number > 0 and not waiting and not list(blocks[order[number - 1]].children())
            if follows:
                depth_of[name] = depth
            else:
                waiting.append(name)
            continue
        depth += 1
        depth_of |= dict.fromkeys([*waiting, name], depth)
        waiting = []
    depth_of |= dict.fromkeys(waiting, max(depth, 0))
    depths = {name: _depth_of_parameter(name, depth_of) for name, _ in network.named_parameters()}
    members = [tuple(name for name in order if depth_of[name] == level) for level in range(max(depth, 0) + 1)]
    return LayerDepths(depths, tuple(members))


def _blocks(module: nn.Module, prefix: str, total: int) -> Iterator[tuple[str, nn.Module]]:
    for name, child in module.named_children():
        is_whole = _count(child) > NEARLY_ALL * total and any(True for _ in child.children())
        if type(child) in _LISTS or is_whole or _wraps_a_stack(child):
            yield from _blocks(child, f"{prefix}{name}.", total)
        elif _count(child):
            yield f"{prefix}{name}", child


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _wraps_a_stack(module: nn.Module) -> bool:
    """Whether a module is little more than a list of several members of one class."""
    stacks = (child for child in module.children() if type(child) in _LISTS and len(list(child.children())) > 1)
    return any(
        len({type(member) for member in stack.children()}) == 1 and _count(stack) > STACK * _count(module)
        for stack in stacks
    )


def _call_order(network: nn.Module, blocks: dict[str, nn.Module], input_size: Sequence[int]) -> list[str]:
    """The blocks in the order of their first calls. What fails here is told when the first batch is tried."""
    called: list[str] = []
    hooks = [
        block.register_forward_pre_hook(lambda *_, name=name: called.append(name)) for name, block in blocks.items()
    ]
    parameter = next(network.parameters(), torch.zeros(()))
    try:
        with eval_mode(network), torch.no_grad(), suppress(Exception):
            network(torch.zeros(2, *input_size, device=parameter.device))
    finally:
        for hook in hooks:
            hook.remove()
    order = list(dict.fromkeys(called))
    if not order:
        return list(blocks)
    registered = list(blocks)
    for number, name in enumerate(registered):
        if name not in order:
            order.insert(order.index(registered[number - 1]) + 1 if number else 0, name)
    return order


def _has_vectors_only(block: nn.Module) -> bool:
    return all(parameter.ndim <= 1 for parameter in block.parameters())


def _depth_of_parameter(name: str, depth_of: dict[str, int]) -> int:
    """That of its block; what a network keeps outside of blocks are embeddings of classes and positions."""
    parts = name.split(".")
    prefixes = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((depth_of[prefix] for prefix in prefixes if prefix in depth_of), 0)
