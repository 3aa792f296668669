"""Layers without a window: linear, flatten and its inverse, norms, and elementwise layers."""

from dataclasses import dataclass, replace
from math import prod
from typing import ClassVar, Self

from dlkit.shapes.layer import Layer, options_text
from dlkit.shapes.size import Shape, ShapeError, size_text
from dlkit.shapes.taps import SAME_POSITION, Taps
from dlkit.shapes.window import check_positive


@dataclass(frozen=True)
class Linear(Layer):
    """nn.Linear: acts on the last axis, whatever axes are in front of it."""

    out_features: int
    in_features: int | None = None
    bias: bool = True

    def __post_init__(self) -> None:
        check_positive(out_features=self.out_features, in_features=1 if self.in_features is None else self.in_features)

    def fit(self, shape: Shape) -> Self:
        """Returns the layer with its input features filled in. Raises ShapeError if they disagree with the last axis."""
        if self.in_features not in (None, shape[-1]):
            raise ShapeError(self._mismatch(shape))
        return replace(self, in_features=shape[-1])

    def _mismatch(self, shape: Shape) -> str:
        if self.in_features == prod(shape) and len(shape) > 1:
            return (
                f"expects {self.in_features} features, the last axis of {size_text(shape)} has {shape[-1]}; put "
                "nn.Flatten() in front"
            )
        factors = f" ({size_text(shape)})" if len(shape) > 1 else ""
        return f"expects {self.in_features} features, gets {shape[-1]}{factors}; set in_features={shape[-1]}"

    def out_shape(self, shape: Shape) -> Shape:
        """The input's shape with out_features as the last axis."""
        self.fit(shape)
        return (*shape[:-1], self.out_features)

    def num_parameters(self) -> int:
        """Weights and biases."""
        if self.in_features is None:
            raise ShapeError("parameters need in_features")
        return (self.in_features + self.bias) * self.out_features

    def num_macs(self, shape: Shape) -> int:
        """Weights times the positions in front of the last axis."""
        return prod(self.out_shape(shape)) * shape[-1]

    def taps_per_axis(self, shape: Shape) -> None:
        """None: every output reads a whole axis."""
        return

    def torch_code(self) -> str:
        """The line that builds the layer in torch."""
        bias = options_text(bias=(str(self.bias), "True"))
        return f"nn.Linear({self.in_features or 'in_features'}, {self.out_features}{bias})"


@dataclass(frozen=True)
class Flatten(Layer):
    """nn.Flatten: axes `start_dim` to `end_dim` become one; torch counts the batch as axis 0."""

    start_dim: int = 1
    end_dim: int = -1

    def out_shape(self, shape: Shape) -> Shape:
        """The shape with the axes joined."""
        axes = len(shape) + 1
        start, end = (dim + axes if dim < 0 else dim for dim in (self.start_dim, self.end_dim))
        if not 0 <= start < axes or not 0 <= end < axes:
            raise ShapeError(f"Flatten({self.start_dim}, {self.end_dim}): there are axes 0 (batch) to {axes - 1}")
        if start > end:
            raise ShapeError(f"Flatten: start_dim {self.start_dim} comes after end_dim {self.end_dim}")
        if start == 0 and end > 0:
            raise ShapeError("Flatten from start_dim 0 joins the samples of a batch; start_dim=1 keeps them apart")
        return (*shape[: start - 1], prod(shape[start - 1 : end]), *shape[end:]) if end else shape

    def taps_per_axis(self, shape: Shape) -> None:
        """None: no spatial axes are left."""
        return

    def torch_code(self) -> str:
        """The line that builds the layer in torch."""
        default = (self.start_dim, self.end_dim) == (1, -1)
        return "nn.Flatten()" if default else f"nn.Flatten({self.start_dim}, {self.end_dim})"


@dataclass(frozen=True)
class Unflatten(Layer):
    """nn.Unflatten(1, shape): one axis of features becomes channels and positions."""

    shape: Shape

    def out_shape(self, shape: Shape) -> Shape:
        """The given shape. Raises ShapeError unless it holds as many numbers as the input."""
        if len(shape) != 1:
            raise ShapeError(f"Unflatten takes one axis of features, got {size_text(shape)}; put nn.Flatten() in front")
        if prod(self.shape) != shape[0]:
            raise ShapeError(f"{size_text(self.shape)} holds {prod(self.shape)} numbers, the input has {shape[0]}")
        return self.shape

    def taps_per_axis(self, shape: Shape) -> None:
        """None: every feature may depend on the whole image."""
        return

    def torch_code(self) -> str:
        """The line that builds the layer in torch."""
        return f"nn.Unflatten(1, {self.shape})"


@dataclass(frozen=True)
class Norm(Layer):
    """A norm: `sort` is batch, layer, group, instance, rms or local_response. Missing sizes come from the input."""

    sort: str
    num_features: int | None = None
    normalized_shape: Shape | None = None
    num_groups: int = 1
    dims: int | None = None
    affine: bool | None = None

    SORTS: ClassVar = ("batch", "layer", "group", "instance", "rms", "local_response")

    def __post_init__(self) -> None:
        if self.sort not in self.SORTS:
            raise ShapeError(f"no norm {self.sort!r}; there are {', '.join(self.SORTS)}")
        check_positive(num_groups=self.num_groups)

    @property
    def _is_affine(self) -> bool:
        return self.affine if self.affine is not None else self.sort not in ("instance", "local_response")

    def fit(self, shape: Shape) -> Self:
        """Returns the layer with its features filled in. Raises ShapeError if they disagree with the input."""
        if self.sort in ("layer", "rms"):
            return replace(self, normalized_shape=self._fit_normalized_shape(shape))
        if self.num_features not in (None, shape[0]):
            raise ShapeError(
                f"{self.sort} norm expects {self.num_features} channels, the input has {shape[0]}; set "
                f"num_features={shape[0]}"
            )
        fitted = replace(self, num_features=shape[0], dims=len(shape) - 1)
        fitted._check_channels(shape)
        return fitted

    def _fit_normalized_shape(self, shape: Shape) -> Shape:
        wanted = self.normalized_shape or shape
        if shape[-len(wanted) :] != wanted:
            raise ShapeError(
                f"normalized_shape {size_text(wanted)} is not the end of {size_text(shape)}; "
                f"{size_text(shape[-len(wanted) :])} would work"
            )
        return wanted

    def _check_channels(self, shape: Shape) -> None:
        if self.sort == "group" and shape[0] % self.num_groups:
            divisors = [count for count in range(1, shape[0] + 1) if shape[0] % count == 0]
            near = min(divisors, key=lambda count: abs(count - self.num_groups))
            raise ShapeError(
                f"{shape[0]} channels are not divisible by num_groups {self.num_groups}. What would work: "
                f"num_groups={near}"
            )
        if self.sort == "instance" and prod(shape[1:]) < 2:
            raise ShapeError(f"instance norm needs more than one position per channel, got {size_text(shape)}")

    def out_shape(self, shape: Shape) -> Shape:
        """The same shape."""
        self.fit(shape)
        return shape

    def num_parameters(self) -> int:
        """A weight and a bias per feature; rms has no bias."""
        features = prod(self.normalized_shape) if self.normalized_shape else self.num_features
        if features is None:
            raise ShapeError("parameters need the number of features")
        return features * (1 if self.sort == "rms" else 2) * self._is_affine

    def taps_per_axis(self, shape: Shape) -> tuple[Taps, ...] | None:
        """Batch norm in evaluation and local response norm act position by position; the others read all positions."""
        return (SAME_POSITION,) * (len(shape) - 1) if self.sort in ("batch", "local_response") else None

    def torch_code(self) -> str:
        """The line that builds the layer in torch."""
        shape = tuple(self.normalized_shape or ())
        features = self.num_features or "num_features"
        affine = options_text(affine=(str(self._is_affine), str(self.sort != "instance")))
        elementwise = options_text(elementwise_affine=(str(self._is_affine), "True"))
        return {
            "batch": f"nn.BatchNorm{self.dims or 1}d({features}{affine})",
            "instance": f"nn.InstanceNorm{self.dims or 1}d({features}{affine})",
            "group": f"nn.GroupNorm({self.num_groups}, {features}{affine})",
            "layer": f"nn.LayerNorm({shape[0] if len(shape) == 1 else shape}{elementwise})",
            "rms": f"nn.RMSNorm({shape[0] if len(shape) == 1 else shape}{elementwise})",
            "local_response": "nn.LocalResponseNorm(5)",
        }[self.sort]


@dataclass(frozen=True)
class Pointwise(Layer):
    """A layer that keeps the shape: an activation, dropout, identity. `parameters` counts learnable numbers."""

    code: str
    parameters: int = 0

    def out_shape(self, shape: Shape) -> Shape:
        """The same shape."""
        return shape

    def num_parameters(self) -> int:
        """Learnable numbers."""
        return self.parameters

    def torch_code(self) -> str:
        """The line that builds the layer in torch."""
        return self.code
