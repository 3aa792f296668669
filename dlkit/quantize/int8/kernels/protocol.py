"""What a set of kernels must offer to run the layers of an int8 program."""

from typing import Any, Protocol

from torch import Tensor

from dlkit.quantize.int8.layer import Int8Layer


class Kernels(Protocol):
    """One way to compute layers. Adapters keep no state; what they pack lies in the layer."""

    name: str
    missing: str  # a sentence for where `is_available` is False

    def __hash__(self) -> int: ...

    def is_available(self) -> bool:
        """Whether this torch on this CPU has them."""
        ...

    def supports(self, layer: Int8Layer) -> bool:
        """Whether they compute this layer."""
        ...

    def pack(self, layer: Int8Layer) -> dict[str, Any]:
        """What to prepare once for this layer, by name; tensors become buffers."""
        ...

    def run(self, layer: Int8Layer, *inputs: Tensor) -> Tensor:
        """The output of the layer."""
        ...
