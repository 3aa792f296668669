"""Masks that set single weights, or whole slices of them, to zero, and keep them there through training."""

from dlkit.prune.masks.masks import MaskRule, Masks, apply_masks, full_masks, grow_masks
from dlkit.prune.masks.outputs import find_output_weights
from dlkit.prune.masks.training import MaskedRecords, masked_gradients
from dlkit.prune.masks.weights import LayerSparsity, PrunableWeight, find_weights, measure_sparsity, total_sparsity
