"""Folding batch norms into the layers before them, for static quantization.

torch.ao folds one norm and then takes a second one for a part of the convolution, which it leaves in float.
"""

from torch import nn
from torch.fx import GraphModule, Node
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def fold_norms(traced: GraphModule) -> None:
    """Fold every batch norm in evaluation mode into the convolution or linear layer that feeds it and nobody else."""
    for node in list(traced.graph.nodes):
        source = node.args[0] if node.op == "call_module" and node.args else None
        if not isinstance(source, Node) or source.op != "call_module" or len(source.users) != 1:
            continue
        layer, norm = traced.get_submodule(str(source.target)), traced.get_submodule(str(node.target))
        folded = _fold(layer, norm)
        if folded is not None:
            traced.set_submodule(str(source.target), folded)
            node.replace_all_uses_with(source)
            traced.graph.erase_node(node)
    traced.recompile()


def _fold(layer: nn.Module, norm: nn.Module) -> nn.Module | None:
    """One layer that computes both, or None where they do not fit."""
    if type(norm) not in _NORMS or norm.running_mean is None:
        return None
    assert isinstance(norm, nn.modules.batchnorm._BatchNorm)
    if type(layer) in _CONVOLUTIONS or type(layer) in _TRANSPOSED:
        assert isinstance(layer, nn.modules.conv._ConvNd)
        return fuse_conv_bn_eval(layer, norm, transpose=type(layer) in _TRANSPOSED)
    if type(layer) is nn.Linear and layer.out_features == norm.num_features:
        return fuse_linear_bn_eval(layer, norm)
    return None
