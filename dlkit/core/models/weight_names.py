"""Names of tensors in a file against those of a network: what wrappers and trainers put in front of them.

A network may have a part that is really called `module`, or buffers that end in `_mask`. So names are taken as they stand
first, and nothing is taken off them unless they fit then.
"""

import re
from collections import Counter, OrderedDict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from dlkit.core.models.weight_files import StateDict

COMPILED, PARALLEL = "_orig_mod", "module"  # torch.compile; DataParallel, DistributedDataParallel and AveragedModel
COUNTERS = ("num_batches_tracked",)  # tensors that files of old versions lack
_AVERAGED = "n_averaged"  # of torch.optim.swa_utils.AveragedModel
_MOST_PREFIXES = 3
_OLD_DENSENET = re.compile(
    r"^(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\.(?:weight|bias|running_mean|running_var|num_batches_tracked))$"
)


@dataclass(frozen=True)
class Reading:
    """A state dict under other names: `notes` say how they were changed, `left` are names of the file outside `prefix`."""

    state: StateDict
    notes: tuple[str, ...] = ()
    prefix: str = ""
    left: tuple[str, ...] = ()


def plain_reading(state: Mapping[str, Tensor]) -> Reading:
    """The state without what torch's own wrappers put around names, where no network tells the names.

    `module.` goes only where every name has it: else it is the name of a part. Masks of torch.nn.utils.prune are baked in.
    """
    reading = _without_parts(Reading(dict(state)), (COMPILED,)) or Reading(dict(state))
    while all(name.startswith(f"{PARALLEL}.") for name in reading.state if name != _AVERAGED) and reading.state:
        reading = take_prefix(reading, f"{PARALLEL}.")
    return _with_versions(_baked(reading) or reading, state)


def take_prefix(reading: Reading, prefix: str) -> Reading:
    """The tensors whose names begin with `prefix`, without it."""
    inside = {name.removeprefix(prefix): value for name, value in reading.state.items() if name.startswith(prefix)}
    left = tuple(name for name in reading.state if not name.startswith(prefix) and name != _AVERAGED)
    return Reading(inside, (*reading.notes, f"{prefix!r} taken off the names"), prefix, left)


def readings(state: Mapping[str, Tensor], own: Collection[str]) -> Iterator[Reading]:
    """Ways to read the names for a network whose names are `own`, as they stand first."""
    for reading in _renamed(Reading(dict(state)), own):
        current = _with_current_names(reading, own)
        yield _with_versions(current, state)
        if (baked := _baked(current)) is not None:
            yield _with_versions(baked, state)


def _renamed(given: Reading, own: Collection[str]) -> Iterator[Reading]:
    bases = [given, *(_without_parts(given, parts) for parts in ((COMPILED,), (COMPILED, PARALLEL)))]
    for base in bases:
        if base is None:
            continue
        yield base
        for prefix in likely_prefixes(base.state, own):
            yield take_prefix(base, prefix)
        for prefix in likely_prefixes(own, base.state):
            state = {prefix + name: value for name, value in base.state.items()}
            yield Reading(state, (*base.notes, f"{prefix!r} put before the names"))


def likely_prefixes(names: Collection[str], own: Collection[str]) -> list[str]:
    """What stands before names that are in `own` else, for at least half of those; the most frequent first."""
    wanted = {name for name in own if not name.endswith(COUNTERS)}
    counts: Counter[str] = Counter()
    for name in names:
        parts = name.split(".")
        counts.update(".".join(parts[:cut]) + "." for cut in range(1, len(parts)) if ".".join(parts[cut:]) in wanted)
    return [prefix for prefix, count in counts.most_common(_MOST_PREFIXES) if 2 * count >= len(wanted)]


def common_prefix(names: Collection[str]) -> str:
    """The first part that every name has, with its dot; an empty text where there is none."""
    firsts = {name.partition(".")[0] if "." in name else "" for name in names}
    return f"{firsts.pop()}." if len(firsts) == 1 and firsts != {""} else ""


def _without_parts(reading: Reading, parts: tuple[str, ...]) -> Reading | None:
    """The reading without these parts anywhere in its names; None where that changes nothing or makes two names one."""
    names = {name: ".".join(part for part in name.split(".") if part not in parts) for name in reading.state}
    names = {old: new for old, new in names.items() if new != _AVERAGED}
    if all(old == new for old, new in names.items()) or len(set(names.values())) < len(names):
        return None
    state = {new: reading.state[old] for old, new in names.items()}
    found = [part for part in parts if any(part in name.split(".") for name in reading.state)]
    return Reading(
        state, (*reading.notes, f"{' and '.join(repr(f'{part}.') for part in found)} taken out of the names")
    )


def _with_current_names(reading: Reading, own: Collection[str]) -> Reading:
    """The reading with names as today's torchvision has them: its DenseNet and ViT files are older than its classes."""
    names = {name: _OLD_DENSENET.sub(r"\1\2", name) for name in reading.state}
    for name in reading.state:
        newer = re.sub(r"\.mlp\.linear_([12])\.", lambda match: f".mlp.{(int(match[1]) - 1) * 3}.", name)
        if newer in own:
            names[name] = newer
    state = {new if new in own else old: reading.state[old] for old, new in names.items()}
    return Reading(state, reading.notes, reading.prefix, reading.left)


def _baked(reading: Reading) -> Reading | None:
    """The reading with `weight` in the place of the `weight_orig` and `weight_mask` that torch.nn.utils.prune keeps, as its
    `remove` does; None where there are no such masks of zeros and ones.
    """
    state = OrderedDict(reading.state)
    for name in [name.removesuffix("_mask") for name in reading.state if name.endswith("_mask")]:
        original, mask = state.get(f"{name}_orig"), state[f"{name}_mask"]
        if original is None or name in state or original.shape != mask.shape:
            continue
        if bool(((mask == 0) | (mask == 1)).all()):
            state[name] = state.pop(f"{name}_orig") * state.pop(f"{name}_mask")
    if len(state) == len(reading.state):
        return None
    notes = (*reading.notes, f"masks of pruning baked into {len(reading.state) - len(state)} tensors")
    return Reading(state, notes, reading.prefix, reading.left)


def _with_versions(reading: Reading, given: Mapping[str, Tensor]) -> Reading:
    """The reading with the versions of modules (`_metadata`) under their new names, for modules that convert old layouts."""
    versions = getattr(given, "_metadata", None)
    if versions is None:
        return reading
    old_names = {id(value): name for name, value in given.items()}
    renamed = OrderedDict()
    for new, value in reading.state.items():
        old = old_names.get(id(value), "")
        while old and new.rpartition(".")[2] == old.rpartition(".")[2]:
            old, new = old.rpartition(".")[0], new.rpartition(".")[0]
            if old in versions:
                renamed[new] = versions[old]
            if not new:
                break
    state = OrderedDict(reading.state)
    state._metadata = renamed  # type: ignore[attr-defined]
    return Reading(state, reading.notes, reading.prefix, reading.left)
