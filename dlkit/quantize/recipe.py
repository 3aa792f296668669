"""How a network is quantized, in plain values: enough to build the same int8 network again without calibration."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, get_args

from dlkit.choices import Backend, Observer, QuantizeMode, Reduce


@dataclass(frozen=True)
class Recipe:
    """`keep_float` are exact names of modules of the float network; everything below them stays in float too.

    `reduce` is what gives up one of its eight bits, so that no x86 kernel that adds two products in 16 bits can saturate:
    255 * 64 * 2 < 2**15 holds for weights of 7 bits, and 127 * 128 * 2 for activations of 7 bits. Weights have a scale per
    channel and lose far less by it (docs/concepts/quantization.md). Dynamic quantization leaves it to torch.
    """

    mode: QuantizeMode
    backend: Backend
    observer: Observer = "histogram"
    is_per_channel: bool = True
    keep_float: tuple[str, ...] = ()
    reduce: Reduce = "none"

    @property
    def weight_bits(self) -> int:
        """Bits of a weight's codes."""
        return 7 if self.reduce == "weights" else 8

    @property
    def highest_code(self) -> int:
        """The last code that ranges of activations use, of 8 bits, or of 7 where the recipe takes the bit from them."""
        return 127 if self.reduce == "activations" else 255

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as stored in a model file."""
        return asdict(self) | {"keep_float": list(self.keep_float)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Recipe":
        """Read what `to_dict` made. Raises ValueError for anything else."""
        for key, kind in (("mode", QuantizeMode), ("backend", Backend), ("observer", Observer), ("reduce", Reduce)):
            if values.get(key) not in get_args(kind):
                raise ValueError(f"{key} must be one of {', '.join(get_args(kind))}, got {values.get(key)!r}")
        is_per_channel, keep_float = values.get("is_per_channel"), values.get("keep_float")
        if not isinstance(is_per_channel, bool):
            raise ValueError(f"is_per_channel must be true or false, got {is_per_channel!r}")
        if not isinstance(keep_float, list) or not all(isinstance(name, str) for name in keep_float):
            raise ValueError("keep_float must list names of modules")
        return cls(
            mode=values["mode"],
            backend=values["backend"],
            observer=values["observer"],
            is_per_channel=is_per_channel,
            keep_float=tuple(keep_float),
            reduce=values["reduce"],
        )
