"""Preparing and converting by torch.fx: static quantization and quantization-aware training."""

import copy

from torch import Tensor, nn
from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx, prepare_qat_fx
from torch.fx import GraphModule

from dlkit.quantize.fx.engine import no_deprecations, quantized_engine
from dlkit.quantize.fx.qconfigs import qconfig_mapping
from dlkit.quantize.recipe import Recipe


def prepare(network: nn.Module, recipe: Recipe, example: Tensor) -> GraphModule:
    """A copy of a float network, fused and with observers (static) or fake quantization (qat) put in."""
    network = copy.deepcopy(network)
    with quantized_engine(recipe.backend), no_deprecations():
        mapping = qconfig_mapping(recipe)
        if recipe.mode == "qat":
            return prepare_qat_fx(network.train(), mapping, (example,))
        return prepare_fx(network.eval(), mapping, (example,))


def convert(prepared: GraphModule, recipe: Recipe) -> GraphModule:
    """The int8 network of one that was calibrated or trained, on the CPU; `prepared` is left as it was."""
    with quantized_engine(recipe.backend), no_deprecations():
        return convert_fx(copy.deepcopy(prepared).cpu().eval())
