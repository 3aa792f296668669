"""The kinds of layer that the `layers:` list of a config knows: one small function each, from options and shape to a
module.

A function gets `LayerOptions` (checked names, read with `take`) and the running shape of one sample, channels first and
without the batch. It raises LayerError with words about its own layer; layers.py puts the layer's number in front.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from dlkit.core.models.layer_options import LayerError, LayerOptions, Shape, is_count
from dlkit.shapes import size_text


def _num_dims(shape: Shape) -> int:
    if not 2 <= len(shape) <= 4:
        raise LayerError(f"needs channels and 1 to 3 dimensions, gets {size_text(shape)}")
    return len(shape) - 1


def _of_dims(name: str, dims: int) -> Callable[..., nn.Module]:
    kind: Callable[..., nn.Module] = getattr(nn, f"{name}{dims}d")
    return kind


def _check_input(options: LayerOptions, shape: Shape) -> int:
    stated = options.take_count("in", also="in_channels")
    if stated is not None and stated != shape[0]:
        raise LayerError(f"expects {stated} channels, gets {shape[0]} ({size_text(shape)})", option="in")
    return shape[0]


def _check_window(shape: Shape, kernel: Shape, padding: Shape, dilation: Shape) -> None:
    padded = tuple(size + 2 * pad for size, pad in zip(shape[1:], padding, strict=True))
    reach = tuple(step * (size - 1) + 1 for size, step in zip(kernel, dilation, strict=True))
    if any(have < need for have, need in zip(padded, reach, strict=True)):
        word = _sizes(kernel) if reach == kernel else f"{_sizes(kernel)} (dilated to {_sizes(reach)})"
        raise LayerError(f"kernel {word} is larger than the padded input {size_text(padded)}", option="kernel")


def _sizes(sizes: Shape) -> str:
    return str(sizes[0]) if len(set(sizes)) == 1 else size_text(sizes)


def build_conv(options: LayerOptions, shape: Shape) -> nn.Module:
    """Convolution. `padding: same` keeps the size (at stride 2: halves it, rounding up)."""
    dims = _num_dims(shape)
    channels = _check_input(options, shape)
    out = options.take_outputs(also="out_channels")
    kernel = options.take_sizes("kernel", 3, dims, also="kernel_size")
    stride = options.take_sizes("stride", 1, dims)
    dilation = options.take_sizes("dilation", 1, dims)
    padding = options.take_sizes("padding", 0, dims, least=0)
    groups = options.take_count("groups", 1)
    rest = options.take_rest("bias", "padding_mode")
    options.finish()
    if channels % groups or out % groups:
        raise LayerError(
            f"groups {groups} must divide the {channels} channels that come in and the {out} that go out",
            option="groups",
        )
    if padding == "same":
        padding = _same_padding(kernel, dilation)
    _check_window(shape, kernel, padding, dilation)
    return _of_dims("Conv", dims)(channels, out, kernel, stride, padding, dilation, groups, **rest)


def _same_padding(kernel: Shape, dilation: Shape) -> Shape:
    # numbers rather than torch's "same": quantized convolutions know numbers only
    reach = [step * (size - 1) for size, step in zip(kernel, dilation, strict=True)]
    if any(size % 2 for size in reach):
        raise LayerError(f"padding same needs odd kernels, got {_sizes(kernel)}: pad by numbers", option="padding")
    return tuple(size // 2 for size in reach)


def build_tconv(options: LayerOptions, shape: Shape) -> nn.Module:
    """Transposed convolution."""
    dims = _num_dims(shape)
    channels = _check_input(options, shape)
    out = options.take_outputs(also="out_channels")
    kernel = options.take_sizes("kernel", 3, dims, also="kernel_size")
    stride = options.take_sizes("stride", 1, dims)
    padding = options.take_sizes("padding", 0, dims, least=0)
    output_padding = options.take_sizes("output_padding", 0, dims, least=0)
    dilation = options.take_sizes("dilation", 1, dims)
    groups = options.take_count("groups", 1)
    rest = options.take_rest("bias", "padding_mode")
    options.finish()
    if padding == "same":
        raise LayerError("padding must be numbers here", option="padding")
    return _of_dims("ConvTranspose", dims)(
        channels, out, kernel, stride, padding, output_padding, groups=groups, dilation=dilation, **rest
    )


def _build_pool(
    name: str, *torch_options: str, uses_padding: bool = True
) -> Callable[[LayerOptions, Shape], nn.Module]:
    def build(options: LayerOptions, shape: Shape) -> nn.Module:
        dims = _num_dims(shape)
        kernel = options.take_sizes("kernel", 2, dims, also="kernel_size")
        stride = options.take_sizes("stride", None, dims)
        given: dict[str, Any] = {"kernel_size": kernel, "stride": stride}
        dilation = (1,) * dims
        padding: Any = (0,) * dims
        if uses_padding:
            padding = given["padding"] = options.take_sizes("padding", 0, dims, least=0)
        if name == "MaxPool":
            dilation = given["dilation"] = options.take_sizes("dilation", 1, dims)
        given |= options.take_rest(*torch_options)
        options.finish()
        if padding == "same":
            raise LayerError("padding must be numbers here", option="padding")
        _check_window(shape, kernel, padding, dilation)
        return _of_dims(name, dims)(**given)

    return build


def build_lppool(options: LayerOptions, shape: Shape) -> nn.Module:
    """Power-average pooling; norm 2 unless said otherwise."""
    dims = _num_dims(shape)
    norm = options.take("norm", 2, also="norm_type")
    kernel: Any = options.take_sizes("kernel", 2, dims, also="kernel_size")
    stride: Any = options.take_sizes("stride", None, dims)
    rest = options.take_rest("ceil_mode")
    options.finish()
    _check_window(shape, kernel, (0,) * dims, (1,) * dims)
    if dims == 1:  # the one pool whose 1d class takes numbers only
        kernel, stride = kernel[0], stride and stride[0]
    return _of_dims("LPPool", dims)(norm, kernel, stride, **rest)


def _build_adaptive_pool(name: str) -> Callable[[LayerOptions, Shape], nn.Module]:
    def build(options: LayerOptions, shape: Shape) -> nn.Module:
        dims = _num_dims(shape)
        size = options.take_sizes("size", 1, dims, also="output_size")
        options.finish()
        return _of_dims(name, dims)(size if dims > 1 else size[0])

    return build


def build_globalavgpool(options: LayerOptions, shape: Shape) -> nn.Module:
    """The mean over all places: one number per channel, flat."""
    dims = _num_dims(shape)
    options.finish()
    return nn.Sequential(_of_dims("AdaptiveAvgPool", dims)(1), nn.Flatten())


def build_linear(options: LayerOptions, shape: Shape) -> nn.Module:
    """Fully connected; over the last dimension of a sequence."""
    out = options.take_outputs(also="out_features")
    stated = options.take_count("in", also="in_features")
    rest = options.take_rest("bias")
    options.finish()
    if len(shape) > 2:
        raise LayerError(f"gets an image of {size_text(shape)}; put flatten or globalavgpool in front")
    if stated is not None and stated != shape[-1]:
        raise LayerError(f"expects {stated} features, gets {shape[-1]}", option="in")
    return nn.Linear(shape[-1], out, **rest)


def build_flatten(options: LayerOptions, shape: Shape) -> nn.Module:
    """All dimensions into one, or those from start_dim to end_dim (the batch is dimension 0)."""
    rest = options.take_rest("start_dim", "end_dim")
    options.finish()
    return nn.Flatten(**rest)


def build_unflatten(options: LayerOptions, shape: Shape) -> nn.Module:
    """Features into a shape, channels first."""
    size = options.take("size", also="unflattened_size", required=True)
    options.finish()
    if not isinstance(size, list) or not all(map(is_count, size)) or math.prod(size) != shape[0]:
        raise LayerError(f"size must be a list whose product is {shape[0]}, got {size!r}", option="size")
    return nn.Unflatten(1, tuple(size))


def build_batchnorm(options: LayerOptions, shape: Shape) -> nn.Module:
    """Batch normalization per channel or feature."""
    rest = options.take_rest("eps", "momentum", "affine", "track_running_stats")
    options.finish()
    return _of_dims("BatchNorm", max(1, len(shape) - 1))(shape[0], **rest)


def build_instancenorm(options: LayerOptions, shape: Shape) -> nn.Module:
    """Normalization of each channel of each sample."""
    rest = options.take_rest("eps", "momentum", "affine", "track_running_stats")
    dims = _num_dims(shape)
    options.finish()
    return _of_dims("InstanceNorm", dims)(shape[0], **rest)


def build_layernorm(options: LayerOptions, shape: Shape) -> nn.Module:
    """Normalization over the last dimensions, all of them unless `shape` says otherwise."""
    wanted = options.take("shape", list(shape), also="normalized_shape")
    wanted = [wanted] if isinstance(wanted, int) else wanted
    rest = options.take_rest("eps", "elementwise_affine", "bias")
    options.finish()
    if not isinstance(wanted, list) or not 1 <= len(wanted) <= len(shape) or tuple(wanted) != shape[-len(wanted) :]:
        raise LayerError(f"expects the last dimensions to be {wanted!r}, gets {size_text(shape)}", option="shape")
    return nn.LayerNorm(wanted, **rest)


def build_groupnorm(options: LayerOptions, shape: Shape) -> nn.Module:
    """Normalization over groups of channels."""
    groups = options.take_count("groups", also="num_groups", required=True)
    rest = options.take_rest("eps", "affine")
    options.finish()
    if shape[0] % groups:
        raise LayerError(f"groups {groups} must divide the {shape[0]} channels", option="groups")
    return nn.GroupNorm(groups, shape[0], **rest)


def build_dropout(options: LayerOptions, shape: Shape) -> nn.Module:
    """Dropout of single values."""
    p = options.take("p", 0.5)
    options.finish()
    return nn.Dropout(p)


def build_channel_dropout(options: LayerOptions, shape: Shape) -> nn.Module:
    """Dropout of whole channels."""
    p = options.take("p", 0.5)
    options.finish()
    return _of_dims("Dropout", _num_dims(shape))(p)


def build_upsample(options: LayerOptions, shape: Shape) -> nn.Module:
    """Larger by a factor, or to a size."""
    dims = _num_dims(shape)
    scale = options.take("scale", also="scale_factor")
    size = options.take_sizes("size", None, dims)
    mode = options.take("mode", "nearest")
    rest = options.take_rest("align_corners")
    options.finish()
    if (scale is None) == (size is None):
        raise LayerError("needs one of scale and size")
    return nn.Upsample(size=size, scale_factor=scale, mode=mode, **rest)


def build_pixelshuffle(options: LayerOptions, shape: Shape) -> nn.Module:
    """Channels into places: (C f f, H, W) to (C, f H, f W)."""
    factor = options.take_count("factor", also="upscale_factor", required=True)
    options.finish()
    if len(shape) != 3 or shape[0] % factor**2:
        raise LayerError(
            f"needs an image whose channels divide by {factor**2}, gets {size_text(shape)}", option="factor"
        )
    return nn.PixelShuffle(factor)


@dataclass(frozen=True)
class LayerBuilder:
    """How to build one kind; `main` is the option that a bare value stands for, as in `{maxpool: 2}`."""

    build: Callable[[LayerOptions, Shape], nn.Module]
    main: str | None = None


KINDS: Mapping[str, LayerBuilder] = {
    "conv": LayerBuilder(build_conv, "out"),
    "tconv": LayerBuilder(build_tconv, "out"),
    "maxpool": LayerBuilder(_build_pool("MaxPool", "ceil_mode"), "kernel"),
    "avgpool": LayerBuilder(_build_pool("AvgPool", "ceil_mode", "count_include_pad"), "kernel"),
    "lppool": LayerBuilder(build_lppool, "kernel"),
    "adaptiveavgpool": LayerBuilder(_build_adaptive_pool("AdaptiveAvgPool"), "size"),
    "adaptivemaxpool": LayerBuilder(_build_adaptive_pool("AdaptiveMaxPool"), "size"),
    "globalavgpool": LayerBuilder(build_globalavgpool),
    "linear": LayerBuilder(build_linear, "out"),
    "flatten": LayerBuilder(build_flatten),
    "unflatten": LayerBuilder(build_unflatten, "size"),
    "batchnorm": LayerBuilder(build_batchnorm),
    "layernorm": LayerBuilder(build_layernorm, "shape"),
    "groupnorm": LayerBuilder(build_groupnorm, "groups"),
    "instancenorm": LayerBuilder(build_instancenorm),
    "dropout": LayerBuilder(build_dropout, "p"),
    "channeldropout": LayerBuilder(build_channel_dropout, "p"),
    "upsample": LayerBuilder(build_upsample, "scale"),
    "pixelshuffle": LayerBuilder(build_pixelshuffle, "factor"),
}


def find_kind(name: str) -> LayerBuilder | None:
    """Returns the kind of this name; case, `_` and `-` do not count, nor does a trailing 1d, 2d or 3d."""
    key = name.lower().replace("_", "").replace("-", "")
    return KINDS.get(key) or (KINDS.get(key[:-2]) if key[-2:] in {"1d", "2d", "3d"} else None)
