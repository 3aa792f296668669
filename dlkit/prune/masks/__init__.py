"""Masks that set single weights, or whole rows of them, to zero."""

from dlkit.prune.masks.masks import MaskRule, Masks, Scope, apply_masks, full_masks, grow_masks
from dlkit.prune.masks.outputs import find_output_weights, tensors_in
from dlkit.prune.masks.sparsity import LayerSparsity, measure_sparsity, total_sparsity
from dlkit.prune.masks.training import MaskedRecords, masked_gradients
from dlkit.prune.masks.weights import PrunableWeight, find_weights

__all__ = [
    "LayerSparsity",
    "MaskRule",
    "MaskedRecords",
    "Masks",
    "PrunableWeight",
    "Scope",
    "apply_masks",
    "find_output_weights",
    "find_weights",
    "full_masks",
    "grow_masks",
    "masked_gradients",
    "measure_sparsity",
    "tensors_in",
    "total_sparsity",
]
