"""Which parts of a network stay in float because the user says so: `--keep-float`."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn

from dlkit.errors import UsageError
from dlkit.suggestions import did_you_mean

WITH_WEIGHTS = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
    nn.LSTM,
    nn.GRU,
    nn.LSTMCell,
    nn.GRUCell,
)


def match_modules(network: nn.Module, patterns: Sequence[str]) -> tuple[str, ...]:
    """Names of the modules that the globs match; `first` and `last` are the outermost layers with weights.

    Layers count in the order in which the network lists them. Raises UsageError for a glob that matches nothing.
    """
    names = [name for name, _ in network.named_modules() if name]
    kept: dict[str, None] = {}
    for pattern in patterns:
        found = _ends(network, pattern) or [name for name in names if fnmatchcase(name, pattern)]
        if not found:
            raise UsageError(
                f"--keep-float {pattern}: no part of the network has this name.{did_you_mean(pattern, names)} "
                f"It has: {', '.join(names[:6])}{' ...' if len(names) > 6 else ''}"
            )
        kept |= dict.fromkeys(found)
    return tuple(kept)


def _ends(network: nn.Module, pattern: str) -> list[str]:
    layers = [name for name, module in network.named_modules() if isinstance(module, WITH_WEIGHTS)]
    if pattern not in ("first", "last") or not layers:
        return []
    return [layers[0 if pattern == "first" else -1]]
