"""The seam to torch.ao, the only file that touches it: preparing, converting and quantizing dynamically.

torch.ao is deprecated but is the only torch-native path with int8 kernels for convolutions, LSTM and x86 and ARM alike
(docs: "Quantization API reference"). What it leaves behind globally (engine, warnings) is put back here.
"""

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.ao.quantization import QConfigMapping, get_default_qat_qconfig_mapping, get_default_qconfig_mapping
from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx, prepare_qat_fx
from torch.fx import GraphModule

from dlkit.quantize.recipe import Recipe


@contextmanager
def quantized_engine(name: str) -> Iterator[None]:
    """Make this the engine that packs and runs int8 weights, and put back the one that was."""
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = name
    try:
        yield
    finally:
        torch.backends.quantized.engine = before


@contextmanager
def no_deprecations() -> Iterator[None]:
    """Keep torch.ao's own warnings from users who can do nothing about them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"torch\..*")
        warnings.filterwarnings("ignore", message=".*torch.ao.quantization is deprecated.*")
        yield


def prepare(network: nn.Module, recipe: Recipe, example: Tensor) -> GraphModule:
    """A copy of a float network, fused and with observers (static) or fake quantization (qat) put in."""
    network = copy.deepcopy(network)
    mapping = qconfig_mapping(recipe)
    with quantized_engine(recipe.backend), no_deprecations():
        if recipe.mode == "qat":
            return prepare_qat_fx(network.train(), mapping, (example,))
        return prepare_fx(network.eval(), mapping, (example,))


def convert(prepared: GraphModule, recipe: Recipe) -> GraphModule:
    """The int8 network of one that was calibrated or trained; `prepared` is left as it was."""
    with quantized_engine(recipe.backend), no_deprecations():
        return convert_fx(copy.deepcopy(prepared).eval())


def qconfig_mapping(recipe: Recipe) -> QConfigMapping:
    """torch's mapping for the backend, with what the recipe keeps in float taken out."""
    default = get_default_qat_qconfig_mapping if recipe.mode == "qat" else get_default_qconfig_mapping
    mapping = default(recipe.backend)
    for name in recipe.keep_float:
        mapping.set_module_name(name, None)
    return mapping
