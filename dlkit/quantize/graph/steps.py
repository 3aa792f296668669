"""The operations of a float network that have an int8 form, as modules: what a graph is made of before it is observed."""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from dlkit.quantize.int8 import Activation, activate

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
Bounds = tuple[float, float]


class GraphStep(nn.Module):
    """One operation, or several that an int8 layer computes in one."""


class Product(GraphStep):
    """A convolution or linear layer, with what follows it: a batch norm that still trains, a tensor that is added, an activation.

    `rounding` rounds the weight, with the norm folded, as int8 will; None outside of training. `inner` watches what is there before the
    sum and the activation: dlkit's own kernels never round it, but ONNX runtimes do.
    """

    def __init__(self, layer: Any, *, activation: Activation = "none") -> None:
        super().__init__()
        self.layer, self.activation = layer, activation
        self.bounds: Bounds = (-math.inf, math.inf)  # outside of which the activation hardly changes
        self.norm: Any = None
        self.rounding: nn.Module | None = None
        self.inner: Any = None

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """All of it, in float."""
        y: Tensor = self.layer(x) if self.rounding is None else self._rounded(x)
        y = y if self.norm is None else self.norm(y)
        if self.inner is not None:
            self.inner(y.detach())
        return activate(y if residual is None else y + residual, self.activation)

    def _rounded(self, x: Tensor) -> Tensor:
        """Outputs with the weight that int8 will have: rounded together with the norm, and the norm taken out again.

        So the norm goes on seeing the layer's own outputs. A channel that the norm multiplies by 0 is rounded without it.
        """
        assert self.rounding is not None
        weight = channels_first(self.layer, self.layer.weight)
        if self.norm is None:
            rounded = self.rounding(weight)
        else:
            factor = (self.norm.weight / (self.norm.running_var + self.norm.eps).sqrt()).detach()
            factor = torch.where(factor == 0, 1.0, factor).view(-1, *[1] * (weight.dim() - 1))
            rounded = self.rounding(weight * factor) / factor
        parameters = {"weight": channels_back(self.layer, rounded)}
        result: Tensor = torch.func.functional_call(self.layer, parameters, (x,))
        return result

    def folded(self) -> Any:
        """The layer with the norm in its weight and bias."""
        return self.layer if self.norm is None else fold(self.layer, self.norm)

    def extra_repr(self) -> str:
        """The activation."""
        return "" if self.activation == "none" else self.activation


class Sum(GraphStep):
    """Two tensors added, and a ReLU where there is one."""

    def __init__(self) -> None:
        super().__init__()
        self.activation: Any = "none"

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        """The sum."""
        return activate(x + other, self.activation)


class Multiplication(GraphStep):
    """Two tensors multiplied."""

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        """The product of each pair."""
        return x * other


class Join(GraphStep):
    """Tensors side by side along a dimension."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, *tensors: Tensor) -> Tensor:
        """One tensor."""
        return torch.cat(tensors, self.dim)


class Elementwise(GraphStep):
    """A function of each number by itself.

    `activation` is its name where a product can take it in. Outside of `bounds` it is constant, or moves by less than half a step
    of 8 bits. `is_clamp` says that it does nothing but cut off what lies outside of them.
    """

    def __init__(
        self,
        function: Callable[[Tensor], Tensor],
        *,
        activation: Activation = "none",
        bounds: Bounds = (-math.inf, math.inf),
        is_clamp: bool = False,
    ) -> None:
        super().__init__()
        self.function, self.activation, self.bounds, self.is_clamp = function, activation, bounds, is_clamp

    def forward(self, x: Tensor) -> Tensor:
        """The function."""
        return self.function(x)


class Padding(GraphStep):
    """Zeros around each image, as many as `sides` says from the last dimension to the first."""

    def __init__(self, sides: tuple[int, ...]) -> None:
        super().__init__()
        self.sides = sides

    def forward(self, x: Tensor) -> Tensor:
        """A larger image."""
        return F.pad(x, self.sides)


class _Pool(GraphStep):
    """One number for each window that a pool of torch lays."""

    def __init__(self, pool: Any) -> None:
        super().__init__()
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        """Pool."""
        result: Tensor = self.pool(x)
        return result


class MaxPool(_Pool):
    """The largest number of each window."""


class MeanPool(_Pool):
    """The mean of each window, of an `nn.AvgPool` or `nn.AdaptiveAvgPool`."""


class Resize(GraphStep):
    """Images brought to another size by `F.interpolate`, whose options these are."""

    def __init__(self, size: Any = None, **options: Any) -> None:
        super().__init__()
        self.size, self.options = size, options

    def forward(self, x: Tensor, size: Any = None) -> Tensor:
        """Images of this size where it is known only now."""
        return F.interpolate(x, self.size if size is None else size, **self.options)


def fold(layer: Any, norm: Any) -> Any:
    """One layer that computes both in evaluation mode."""
    if isinstance(layer, nn.Linear):
        return fuse_linear_bn_eval(_in_eval(layer), _in_eval(norm))
    return fuse_conv_bn_eval(_in_eval(layer), _in_eval(norm), transpose=isinstance(layer, TRANSPOSED))


def _in_eval(module: Any) -> Any:
    return module.eval()


def can_fold(layer: Any, norm: Any) -> bool:
    """Whether `fold` takes these two."""
    if type(norm) not in BATCH_NORMS or norm.running_mean is None or not norm.affine:
        return False
    if isinstance(layer, nn.Linear):
        return bool(layer.out_features == norm.num_features)
    return not (isinstance(layer, TRANSPOSED) and layer.groups > 1)


def channels_first(layer: Any, weight: Tensor) -> Tensor:
    """A layer's weight with its output channels in front, (O, I / groups, ...), as int8 layers keep it."""
    if not isinstance(layer, TRANSPOSED):
        return weight
    by_group = weight.reshape(layer.groups, -1, *weight.shape[1:])
    return by_group.transpose(1, 2).flatten(0, 1)


def channels_back(layer: Any, weight: Tensor) -> Tensor:
    """The inverse of `channels_first`."""
    if not isinstance(layer, TRANSPOSED):
        return weight
    by_group = weight.reshape(layer.groups, -1, *weight.shape[1:])
    return by_group.transpose(1, 2).flatten(0, 1)
