"""Products that runtimes round once more than the program does: before another tensor is added, or before the activation.

That rounding has the range that calibration saw, and cuts off what is beyond it. Where codes come out, a code is at stake. Where
the product is the end of the int8 part, outputs are compared with the program rounded in the same way.
"""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Interpreter, Node

from dlkit.quantize.graph import called_module
from dlkit.quantize.int8 import Int8Product, activate, bind_kernels, product_of, real_values


def is_rounded_apart(layer: nn.Module | None) -> bool:
    """Whether runtimes round a product once more than the program does, before what is added or the activation."""
    product = product_of(layer) if layer is not None else None
    return isinstance(product, Int8Product) and product.inner is not None


def bare_codes(layer: nn.Module, codes: Tensor) -> Tensor:
    """Returns the product alone in steps of that rounding, counted like its codes but neither rounded nor cut off."""
    bare = copy.deepcopy(layer)
    product: Any = product_of(bare)
    product.y, product.residual, product.activation = None, None, "none"
    bind_kernels(bare, product.kernels.name)
    sums: Tensor = bare.forward(codes)
    return sums / float(product.inner.scale) + int(product.inner.zero_point)


def is_inside(layer: nn.Module, steps: Tensor, *, margin: float = 1.0) -> Tensor:
    """Returns where runtimes do not cut a product off by more than the margin, in steps."""
    inner: Any = product_of(layer).inner
    found: Tensor = (steps > inner.lowest - margin) & (steps < inner.highest + margin)
    return found


@dataclass(frozen=True)
class RoundedEnd:
    """The outputs as runtimes round them, what half a step of that is worth in outputs, and by node how far the program's own products
    are from the rounded ones, in steps, where these are not cut off.
    """

    output: Tensor
    rounding: float
    steps: dict[str, int]


def run_rounded_end(program: GraphModule, values: dict[Node, Tensor], integers: dict[str, Tensor]) -> RoundedEnd:
    """Run what follows the last codes of a program as runtimes do. `values` are what its nodes computed, `integers` the codes."""
    rounded = _End(program, values, integers, is_rounded=True)
    output = rounded.outputs()
    if not rounded.steps:
        return RoundedEnd(output, 0.0, {})
    cut_off = _End(program, values, integers, is_rounded=False).outputs()
    return RoundedEnd(output, float((output - cut_off).abs().max()), rounded.steps)


class _End(Interpreter):
    """Takes codes and inputs as they were, and computes the rest, with products in float32 cut off and perhaps rounded."""

    def __init__(
        self, program: GraphModule, values: dict[Node, Tensor], integers: dict[str, Tensor], *, is_rounded: bool
    ) -> None:
        super().__init__(program)
        self.program, self.values, self.integers, self.is_rounded = program, values, integers, is_rounded
        self.steps: dict[str, int] = {}

    def outputs(self) -> Tensor:
        """Returns what comes out."""
        inputs = [self.values[node] for node in self.program.graph.find_nodes(op="placeholder")]
        with torch.no_grad():
            output: Tensor = self.run(*inputs)
        return output

    def run_node(self, n: Node) -> Any:
        """A node's value."""
        if n.name in self.integers:
            return self.values[n].clone()  # layers may work in place
        layer = called_module(self.program, n)
        if layer is None or not is_rounded_apart(layer):
            return super().run_node(n)
        return self._product(n, layer)

    def _product(self, n: Node, layer: nn.Module) -> Tensor:
        product: Any = product_of(layer)
        codes = [self.integers[str(source)] for source in n.args]
        steps = bare_codes(layer, codes[0])
        kept = steps.clamp(product.inner.lowest, product.inner.highest)
        sums = (kept.round() if self.is_rounded else kept).sub(product.inner.zero_point) * product.inner.scale
        if product.residual is not None:
            sums = sums + real_values(codes[1], product.residual).float()
        result = activate(sums, product.activation)
        apart = (result - self.values[n]).abs() * is_inside(layer, steps, margin=0.5)
        self.steps[n.name] = round(float(apart.max()) / product.inner.scale)
        return result
