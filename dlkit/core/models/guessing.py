"""Which of torchvision's networks a file of weights belongs to, by names and shapes alone."""

import inspect
import re
from collections.abc import Iterable, Mapping
from functools import cache

from torch import Tensor, nn

from dlkit.core.components import ComponentError
from dlkit.core.models.arch import Arch
from dlkit.core.models.build import build_on_meta
from dlkit.core.models.torchvision import find_first_conv, makes_maps, plan_torchvision_size
from dlkit.core.models.weight_names import common_prefix, plain_reading
from dlkit.core.models.weights import find_heads
from dlkit.registry import entries

Shapes = Mapping[str, tuple[int, ...]]
USUAL_SIZE = (3, 224, 224)


def guess_classifiers(weights: Mapping[str, Tensor]) -> list[str]:
    """Returns names of the torchvision classifiers whose tensors these are, whatever the number of classes and input channels,
    and whatever wrapper stands in front of every name.

    Mostly one; several where networks differ in nothing that is stored. Of each family one network is built, on the meta
    device, and all of them only where names look alike.
    """
    plain = plain_reading(weights)
    prefix = common_prefix(plain.state)
    given = {name.removeprefix(prefix): tuple(tensor.shape) for name, tensor in plain.state.items()}
    return _fitting(given) or (_fitting({prefix + name: shape for name, shape in given.items()}) if prefix else [])


def _fitting(given: Shapes) -> list[str]:
    patterns = _patterns(given)
    found = []
    for members in _families().values():
        first = _skeleton(members[0])
        if first is not None and 2 * len(_patterns(first.state_dict()) & patterns) > len(patterns):
            found += [name for name in members if (network := _skeleton(name)) is not None and _fits(network, given)]
    return found


def _patterns(names: Iterable[str]) -> set[str]:
    """Returns names without their numbers, which tell how deep a network is."""
    return {re.sub(r"\d+", "#", name) for name in names}


@cache
def _families() -> Mapping[str, list[str]]:
    """Registry names by the class that their builders make."""
    from torchvision.models import get_model_builder  # takes two seconds to import

    families: dict[str, list[str]] = {}
    for entry in entries("models").values():
        if not entry.is_ours:
            builder = get_model_builder(entry.name)
            kind = inspect.signature(builder).return_annotation.__name__
            # networks for segmentation of one class have different backbones
            families.setdefault(entry.name if makes_maps(entry.name) else kind, []).append(entry.name)
    return families


def _skeleton(name: str) -> nn.Module | None:
    try:
        options = plan_torchvision_size(name, USUAL_SIZE)
        return build_on_meta(Arch("torchvision", name, {**options, "num_classes": 2, "in_channels": 3}))
    except ComponentError:  # a classifier that takes no images of the usual size; its family is passed over
        return None


def _fits(network: nn.Module, given: Shapes) -> bool:
    """Returns whether names and shapes agree, the head's classes, the first channels, batch counters and auxiliary heads aside."""
    own = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    free = {name for name in (*(name for name, _ in find_heads(network)), _first_name(network)) if name}
    names = {name for name in own if not name.endswith("num_batches_tracked")}
    extra = {name for name in given if name not in own and not name.startswith(("aux", "AuxLogits."))}
    same = all(
        name in given and _same(own[name], given[name], is_free=name.rpartition(".")[0] in free) for name in names
    )
    return same and not extra


def _same(own: tuple[int, ...], given: tuple[int, ...], *, is_free: bool) -> bool:
    return len(own) == len(given) if is_free else own == given


def _first_name(network: nn.Module) -> str | None:
    first = find_first_conv(network)
    return first[0] if first else None
