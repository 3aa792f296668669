"""What all layers of an int8 program share: their numbers in buffers, their kernels, and how they are saved and copied."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from dlkit.quantize.int8.activations import FUSED, Activation
from dlkit.quantize.int8.arithmetic import Affine

if TYPE_CHECKING:
    from dlkit.quantize.int8.kernels import Kernels


AFFINES = "affines"  # their name in a state dict


@dataclass(frozen=True)
class Epilogue:
    """What happens to the sums of a layer: another tensor is added, the activation is taken, and the result rounded.

    Without `y` the result stays in float32. `frees_residual` says that nobody reads the added tensor afterwards, so that the
    kernel may write into it.
    """

    y: Affine | None
    activation: Activation = "none"
    residual: Affine | None = None
    frees_residual: bool = False

    def __post_init__(self) -> None:
        if self.activation not in FUSED:
            raise ValueError(f"{self.activation!r} cannot be fused; {', '.join(FUSED)} can")


class Int8Layer(nn.Module):
    """A layer on plain tensors. Scales and zero points of activations are constants for tracers; a state dict has them, too, in one
    tensor `affines` (n, 2), float32, in the order of `affines()`. Kernels are bound by `bind_kernels`.
    """

    computes_int8 = True

    def __init__(self) -> None:
        super().__init__()
        self.kernels: Kernels | None = None
        self.expected_shape: tuple[int, ...] | None = None  # of the input: some kernels lay weights out for it
        self.codes_in_float = (
            False  # out: what is small and only read by kernels of the same kind need not become bytes
        )
        self._packed_names: tuple[str, ...] = ()

    def forward(self, *inputs: Tensor) -> Tensor:
        """The result of the bound kernels. Raises RuntimeError where there are none."""
        if self.kernels is None:
            raise RuntimeError(f"{type(self).__name__} has no kernels yet: call bind_kernels on the network")
        return self.kernels.run(self, *inputs)

    def bind(self, kernels: "Kernels") -> None:
        """Compute with these kernels from now on."""
        self.unpack()
        self.kernels = kernels
        packed = kernels.pack(self)
        for name, value in packed.items():
            if isinstance(value, Tensor):
                self.register_buffer(f"packed_{name}", value, persistent=False)
            else:
                setattr(self, f"packed_{name}", value)
        self._packed_names = tuple(packed)

    def unpack(self) -> None:
        """Forget what the kernels have packed; they pack anew in every run, so that packing is part of an exported graph."""
        for name in self._packed_names:
            delattr(self, f"packed_{name}")
        self._packed_names = ()

    def packed(self) -> dict[str, Any]:
        """What the kernels have packed, or pack now."""
        assert self.kernels is not None
        if not self._packed_names:
            return self.kernels.pack(self)
        return {name: getattr(self, f"packed_{name}") for name in self._packed_names}

    def extra_repr(self) -> str:
        """Scales, zero points and kernels, where the network is printed."""
        shown = [f"{name}=({one.scale:.4g}, {one.zero_point})" for name, one in self.affines().items()]
        return ", ".join([*shown, *([self.kernels.name] if self.kernels else [])])

    @property
    def output(self) -> Affine | None:
        """What maps the result to codes; None where it is float32. Layers that keep the codes of their input have no `y`."""
        found: Affine | None = getattr(self, "y", None) if hasattr(self, "y") else getattr(self, "x", None)
        return found

    def affines(self) -> dict[str, Affine]:
        """Scales and zero points of activations by their names in a state dict."""
        found = {}
        for name, value in vars(self).items():
            parts = value if isinstance(value, tuple) else (value,)
            for place, part in enumerate(parts):
                if isinstance(part, Affine):
                    found[f"{name}.{place}" if isinstance(value, tuple) else name] = part
        return found

    def _set_affine(self, name: str, affine: Affine) -> None:
        attribute, _, place = name.partition(".")
        if place:
            parts = list(getattr(self, attribute))
            parts[int(place)] = affine
            setattr(self, attribute, tuple(parts))
        else:
            setattr(self, attribute, affine)

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        rows = [[affine.scale, affine.zero_point] for affine in self.affines().values()]
        if rows:
            destination[f"{prefix}{AFFINES}"] = torch.tensor(rows)

    def _load_from_state_dict(
        self,
        state_dict: Mapping[str, Any],
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        *rest: Any,
    ) -> None:
        rest_of_state, affines = dict(state_dict), self.affines()
        rows = rest_of_state.pop(f"{prefix}{AFFINES}", None)
        if affines and rows is None:
            missing_keys.append(f"{prefix}{AFFINES}")
        elif affines:
            for (name, old), (scale, zero_point) in zip(affines.items(), rows.tolist(), strict=True):
                self._set_affine(name, Affine(scale, int(zero_point), old.dtype))
        super()._load_from_state_dict(rest_of_state, prefix, local_metadata, strict, missing_keys, *rest)
        if self.kernels is not None:
            self.bind(self.kernels)

    def __getstate__(self) -> dict[str, Any]:
        """Without what is packed: kernels lay weights out in ways that cannot be copied."""
        packed = {f"packed_{name}" for name in self._packed_names}
        state = {name: value for name, value in vars(self).items() if name not in packed}
        state["_buffers"] = {name: value for name, value in self._buffers.items() if name not in packed}
        state["_non_persistent_buffers_set"] = self._non_persistent_buffers_set - packed
        return state | {"_packed_names": ()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        if self.kernels is not None:
            self.bind(self.kernels)
