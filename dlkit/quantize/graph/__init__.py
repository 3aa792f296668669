"""The graph of a float network: followed, fused into steps, observed, and written as an int8 program."""

from dlkit.quantize.graph.conversion import convert
from dlkit.quantize.graph.float_parts import is_below
from dlkit.quantize.graph.fusion import STEPS
from dlkit.quantize.graph.observed import (
    Clamp,
    Observed,
    clip_to_activations,
    observed_tensors,
    observer_before,
    observer_of,
    round_to_codes,
    without_observers,
)
from dlkit.quantize.graph.operations import attribute_of, called_module, is_moving, operation
from dlkit.quantize.graph.placement import label_of
from dlkit.quantize.graph.preparation import GraphFacts, check_names, graph_facts, prepare
from dlkit.quantize.graph.steps import Elementwise, GraphStep, Product, Resize
from dlkit.quantize.graph.tracing import trace
