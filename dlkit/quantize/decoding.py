"""From the plain tensors of a file to the state of an int8 network; the other half of `encoding`.

Every value is built to the measure of the network that it goes into and checked first, because the kernels that pack
weights trust their arguments: a group count of 0 or a bias that is too short would end the process.
"""

import re
from collections import OrderedDict, defaultdict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dlkit.quantize.encoding import QUANTIZED, RANGES, Plain, conv_parts, packed_kind

_MOST_LINES = 8
_SCALE, _ZERO_POINT = re.compile(r"(^|[._])scale(_\d+)?$"), re.compile(r"(^|[._])zero_point(_\d+)?$")


def decode(plain: Mapping[str, Tensor], network: nn.Module) -> dict[str, Any]:
    """The state dict that `encode` stored, for an int8 network of the same structure, to be loaded strictly.

    Must run under the network's engine, which packs the weights. Raises ValueError, with what differs, when the tensors are
    not exactly those of the network: names, kinds, shapes, types, and scales and zero points that are none.
    """
    template = network.state_dict()
    parts = _group(plain)
    _compare_names(parts, template)
    # quantized modules ask for the version that wrote the entries, which torch keeps beside them
    state: OrderedDict[str, Any] = OrderedDict()
    state._metadata = template._metadata  # type: ignore[attr-defined]
    for key, like in template.items():
        try:
            if like is None and "none" not in parts[key]:
                state[key] = _added_bias(parts[key], network.get_submodule(key.rpartition(".")[0]))
            else:
                state[key] = _decode_value(key, parts[key], like)
        except (KeyError, RuntimeError) as error:
            raise ValueError(f"{key}: {error}") from None
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from None
    return state


def _group(plain: Mapping[str, Tensor]) -> dict[str, Plain]:
    grouped: defaultdict[str, Plain] = defaultdict(dict)
    for name, tensor in plain.items():
        key, _, part = name.partition("@")
        grouped[key][part] = tensor
    return dict(grouped)


def _compare_names(parts: Mapping[str, Plain], template: Mapping[str, Any]) -> None:
    lines = [f"missing: {name}" for name in template if name not in parts]
    lines += [f"unexpected: {name}" for name in parts if name not in template]
    if lines:
        more = [f"and {len(lines) - _MOST_LINES} more"] if len(lines) > _MOST_LINES else []
        raise ValueError("its tensors are not those of its int8 network:\n  " + "\n  ".join(lines[:_MOST_LINES] + more))


def _added_bias(parts: Plain, module: nn.Module) -> Tensor:
    """A bias where the float layer had none, as bias correction adds one."""
    bias = _only(parts, "")
    if bias.dtype != torch.float32 or tuple(bias.shape) != (getattr(module, "out_channels", None),):
        raise ValueError(f"a bias of {_describe(bias)} does not fit this layer")
    return bias


def _decode_value(key: str, parts: Plain, like: Any) -> Any:
    if like is None:
        _only(parts, "none")
        return None
    if isinstance(like, torch.dtype):
        if _only(parts, "dtype").dtype != QUANTIZED[like][1]:
            raise ValueError(f"is not {like}")
        return like
    if isinstance(like, Tensor):
        return _decode_quantized(parts, like) if like.is_quantized else _decode_plain(key, parts, like)
    if isinstance(like, tuple):
        return _decode_weight_bias(parts, *like)
    return _decode_packed(parts, like)


def _decode_plain(key: str, parts: Plain, like: Tensor) -> Tensor:
    value = _only(parts, "")
    if value.shape != like.shape or value.dtype != like.dtype:
        raise ValueError(f"{_describe(value)} in the file, {_describe(like)} in the network")
    if _SCALE.search(key) and like.numel() == 1 and like.is_floating_point():
        _check_scale(value)
    if _ZERO_POINT.search(key) and like.numel() == 1 and not like.is_floating_point():
        _check_zero_point(value, torch.quint8)
    return value


def _decode_quantized(parts: Plain, like: Tensor) -> Tensor:
    name, dtype = QUANTIZED[like.dtype]
    values, scale = parts[name], parts["scale"]
    is_per_channel = like.qscheme() not in (torch.per_tensor_affine, torch.per_tensor_symmetric)
    axis = like.q_per_channel_axis() if is_per_channel else 0
    given_axis = int(parts["axis"]) if "axis" in parts else 0
    shape = (like.shape[axis],) if is_per_channel else ()
    zero_point = parts.get("zero_point", torch.zeros(shape, dtype=torch.int64))
    if values.shape != like.shape or values.dtype != dtype:
        raise ValueError(f"{_describe(values)} in the file, {tuple(like.shape)} of {dtype} in the network")
    if given_axis != axis or tuple(scale.shape) != shape or tuple(zero_point.shape) != shape:
        raise ValueError(f"scales of shape {tuple(scale.shape)} in the file, {shape} in the network")
    _check_scale(scale)
    _check_zero_point(zero_point, like.dtype)
    if is_per_channel:
        return torch._make_per_channel_quantized_tensor(values, scale.double(), zero_point, axis)
    return torch._make_per_tensor_quantized_tensor(values, float(scale), int(zero_point))


def _decode_weight_bias(parts: Plain, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
    decoded = _decode_value("weight", _below(parts, "weight"), weight)
    given = parts.get("bias")
    if given is None:
        if bias is not None:
            raise ValueError("has no bias")
        return decoded, None
    wanted = weight.shape[:1] if bias is None else bias.shape
    if given.dtype != torch.float32 or given.shape != wanted:
        raise ValueError(f"a bias of {_describe(given)}, {tuple(wanted)} in the network")
    return decoded, given


def _decode_packed(parts: Plain, like: Any) -> Any:
    kind = packed_kind(like)
    if kind == "linear":
        weight, bias = _decode_weight_bias(parts, *torch.ops.quantized.linear_unpack(like))
        return torch.ops.quantized.linear_prepack(weight, bias)
    if kind == "cell":
        return _decode_cell(parts, like)
    config, weight, bias = conv_parts(like)
    if not torch.equal(parts["config"], config):
        raise ValueError("its strides, padding or groups are not those of the network")
    if bias is None and config[-1] and "bias" in parts:
        raise ValueError("has a bias, which this layer has not")
    return _pack_conv(config, *_decode_weight_bias(parts, weight, bias))


def _pack_conv(config: Tensor, weight: Tensor, bias: Tensor | None) -> Any:
    """`config` is torch's: dimensions, then stride, padding, dilation and output padding for each, groups, transposed."""
    dims, *numbers, groups, is_transposed = config.tolist()
    stride, padding, dilation, output_padding = (numbers[start : start + dims] for start in range(0, 4 * dims, dims))
    if is_transposed:
        pack = getattr(torch.ops.quantized, f"conv_transpose{dims}d_prepack")
        return pack(weight, bias, stride, padding, output_padding, dilation, groups)
    return getattr(torch.ops.quantized, f"conv{dims}d_prepack")(weight, bias, stride, padding, dilation, groups)


def _decode_cell(parts: Plain, like: Any) -> Any:
    state = like.__getstate__()[0]
    layers = [_decode_packed(_below(parts, name), layer) for name, layer in zip(("ih", "hh"), state[4], strict=True)]
    biases = [torch.ops.quantized.linear_unpack(layer)[1] for layer in layers]
    reduce_range = bool(parts["reduce_range"])
    return torch.ops.quantized.make_quantized_cell_params_dynamic(*layers, *biases, reduce_range)


def _below(parts: Plain, name: str) -> Plain:
    """The parts whose names begin with `name.`, and that one itself as ""."""
    return {part[len(name) + 1 :]: tensor for part, tensor in parts.items() if part.partition(".")[0] == name}


def _only(parts: Plain, name: str) -> Tensor:
    if set(parts) != {name}:
        raise ValueError("is of another kind than in the network")
    return parts[name]


def _check_scale(scale: Tensor) -> None:
    if not scale.is_floating_point() or not bool((torch.isfinite(scale) & (scale > 0)).all()):
        raise ValueError("a scale is not a positive number")


def _check_zero_point(zero_point: Tensor, dtype: torch.dtype) -> None:
    low, high = RANGES[dtype]
    if zero_point.is_floating_point() or not bool(((zero_point >= low) & (zero_point <= high)).all()):
        raise ValueError(f"a zero point lies outside {low}..{high}")


def _describe(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} of {str(tensor.dtype).removeprefix('torch.')}"
