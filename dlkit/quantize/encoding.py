"""The state of an int8 network as plain tensors and back, bit for bit.

torch keeps int8 weights in quantized tensors and in packed objects, which `weights_only=True` and safetensors cannot hold
and which torch means to drop. Here every entry KEY of a state dict becomes one or a few plain tensors:

    KEY                              a tensor that is plain already
    KEY@int8, KEY@uint8              the values of a quantized tensor, with
    KEY@scale, KEY@zero_point        per tensor (shape ()) or per channel (shape (C,)); no zero point means 0 everywhere
    KEY@axis                         the channel axis where it is not 0
    KEY@dtype                        an empty tensor that stands for a quantized dtype
    KEY@none                         an empty tensor that stands for None
    KEY@weight..., KEY@bias          weight and bias of a packed linear layer; @config besides for a convolution
    KEY@ih..., KEY@hh..., KEY@reduce_range   the two packed linear layers of a step of an LSTM or GRU

`decoding` builds only what a template of the same network asks for, so that a hostile file cannot choose a shape or a group
count that the kernels were not made for.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

Plain = dict[str, Tensor]

QUANTIZED = {torch.qint8: ("int8", torch.int8), torch.quint8: ("uint8", torch.uint8)}
RANGES = {torch.qint8: (-128, 127), torch.quint8: (0, 255)}


def encode(state: Mapping[str, Any]) -> Plain:
    """Plain tensors for the state dict of an int8 network. Raises ValueError for an entry of an unknown kind."""
    plain: Plain = {}
    for key, value in state.items():
        if "@" in key:
            raise ValueError(f"{key}: names with @ cannot be stored")
        for part, tensor in _encode_value(key, value).items():
            plain[f"{key}@{part}" if part else key] = tensor.detach().contiguous()
    return plain


def _encode_value(key: str, value: Any) -> Plain:
    if value is None:
        return {"none": torch.empty(0, dtype=torch.uint8)}
    if isinstance(value, torch.dtype) and value in QUANTIZED:
        return {"dtype": torch.empty(0, dtype=QUANTIZED[value][1])}
    if isinstance(value, Tensor):
        return _encode_quantized(value) if value.is_quantized else {"": value}
    if isinstance(value, tuple) and len(value) == 2:
        return _encode_weight_bias(*value)
    if isinstance(value, torch.ScriptObject):
        return _encode_packed(key, value)
    raise ValueError(f"{key}: a {type(value).__name__} cannot be stored")


def _encode_quantized(value: Tensor) -> Plain:
    name, _ = QUANTIZED[value.dtype]
    if value.qscheme() in (torch.per_tensor_affine, torch.per_tensor_symmetric):
        scale = torch.tensor(value.q_scale(), dtype=torch.float64)
        zero_point, axis = torch.tensor(value.q_zero_point()), 0
    else:
        scale, zero_point = value.q_per_channel_scales().double(), value.q_per_channel_zero_points()
        axis = value.q_per_channel_axis()
    is_float32 = torch.equal(scale.float().double(), scale)
    plain = {name: value.int_repr(), "scale": scale.float() if is_float32 else scale}
    if zero_point.any():
        plain["zero_point"] = zero_point
    if axis:
        plain["axis"] = torch.tensor(axis)
    return plain


def _encode_weight_bias(weight: Tensor, bias: Tensor | None) -> Plain:
    plain = {f"weight.{part}".rstrip("."): tensor for part, tensor in _encode_value("weight", weight).items()}
    return plain | ({} if bias is None else {"bias": bias})


def _encode_packed(key: str, packed: Any) -> Plain:
    kind = packed_kind(packed)
    if kind == "linear":
        return _encode_weight_bias(*torch.ops.quantized.linear_unpack(packed))
    if kind == "conv":
        config, weight, bias = conv_parts(packed)
        return _encode_weight_bias(weight, bias) | {"config": config}
    if kind != "cell":
        raise ValueError(f"{key}: a packed {kind} cannot be stored")
    state = packed.__getstate__()[0]
    plain = {"reduce_range": torch.tensor(state[3][0])}
    for name, layer in zip(("ih", "hh"), state[4], strict=True):
        plain |= {f"{name}.{part}": tensor for part, tensor in _encode_packed(key, layer).items()}
    return plain


def packed_kind(packed: Any) -> str:
    """`linear`, `conv` (any number of dimensions) or `cell` (one step of an LSTM or GRU), or the name of another class."""
    name = str(packed._type().qualified_name()).rpartition(".")[2]
    if name == "CellParamsBase" and packed.__getstate__()[0][0] == "quantized_dynamic":
        return "cell"
    if re.fullmatch(r"Conv[23]dPackedParamsBase", name):
        return "conv"
    return "linear" if name == "LinearPackedParamsBase" else name


def conv_parts(packed: Any) -> tuple[Tensor, Tensor, Tensor | None]:
    """Numbers (dimensions, strides and so on, as torch lays them out), weight and bias of a packed convolution."""
    _, (config, weight), (bias,) = packed.__getstate__()[0]
    return config, weight, bias
