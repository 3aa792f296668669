"""The kinds of layers by name: the options of each, and how it is built from them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dlkit.shapes.conv import Conv, ConvTranspose
from dlkit.shapes.dense import Flatten, Linear, Norm, Pointwise, Unflatten
from dlkit.shapes.fold import Fold, Unfold
from dlkit.shapes.layer import Layer
from dlkit.shapes.pool import AdaptivePool, Pool, Unpool
from dlkit.shapes.resample import PixelShuffle, PixelUnshuffle, Upsample
from dlkit.shapes.size import ShapeError, per_axis
from dlkit.suggestions import did_you_mean

Options = Mapping[str, Any]  # torch's names; numbers per axis are tuples


@dataclass(frozen=True)
class LayerKind:
    """A kind of layer: its builder, which takes options and the number of spatial axes, and the options it knows.

    `positional` names the option that a bare number sets in a chain.
    """

    build: Callable[[Options, int], Layer]
    options: tuple[str, ...]
    positional: str | None = None


def build_layer(kind: str, options: Options, *, dims: int) -> Layer:
    """The layer of a kind for this number of spatial axes. Raises ShapeError for an unknown kind or option."""
    if kind not in KINDS:
        raise ShapeError(f"no layer {kind!r}.{did_you_mean(kind, [*KINDS])} {layer_names()}")
    for option in options:
        check_option(kind, option)
    return KINDS[kind].build(options, dims)


def check_option(kind: str, option: str) -> None:
    """Raise ShapeError unless the kind of layer has the option."""
    known = KINDS[kind].options
    if option not in known:
        raise ShapeError(f"{kind} takes no {option}; it takes {', '.join(known) or 'nothing'}")


def layer_names() -> str:
    """The names of all layers, in a sentence."""
    return f"Layers: {', '.join(_WITH_OPTIONS)}, and activations such as relu"


def _axes(options: Options, name: str, dims: int, default: tuple[int, ...] | None = None) -> tuple[int, ...]:
    numbers = options.get(name, default)
    if numbers is None:
        raise ShapeError(f"{name} is missing")
    return per_axis(numbers, dims, what=name)


def _conv(options: Options, dims: int) -> Conv:
    padding = options.get("padding", (0,))
    return Conv(
        kernel_size=_axes(options, "kernel_size", dims),
        stride=_axes(options, "stride", dims, (1,)),
        dilation=_axes(options, "dilation", dims, (1,)),
        padding=padding if isinstance(padding, str) else per_axis(padding, dims, what="padding"),
        padding_mode=options.get("padding_mode", "zeros"),
        **_channels(options),
    )


def _channels(options: Options) -> dict[str, Any]:
    return {name: options[name] for name in ("in_channels", "out_channels", "groups", "bias") if name in options}


def _tconv(options: Options, dims: int) -> ConvTranspose:
    if isinstance(options.get("padding"), str):
        raise ShapeError(f"transposed convolution takes no padding {options['padding']!r}; give a number")
    return ConvTranspose(
        kernel_size=_axes(options, "kernel_size", dims),
        stride=_axes(options, "stride", dims, (1,)),
        dilation=_axes(options, "dilation", dims, (1,)),
        padding=_axes(options, "padding", dims, (0,)),
        output_padding=_axes(options, "output_padding", dims, (0,)),
        **_channels(options),
    )


def _pool(operation: str) -> Callable[[Options, int], Pool]:
    def build(options: Options, dims: int) -> Pool:
        kernel = _axes(options, "kernel_size", dims)
        return Pool(
            operation,
            kernel_size=kernel,
            stride=_axes(options, "stride", dims, kernel),
            padding=_axes(options, "padding", dims, (0,)),
            dilation=_axes(options, "dilation", dims, (1,)),
            ceil_mode=options.get("ceil_mode", False),
            **{name: options[name] for name in _POOL_VALUES if name in options},
        )

    return build


def _unpool(options: Options, dims: int) -> Unpool:
    kernel = _axes(options, "kernel_size", dims)
    size = options.get("output_size")
    return Unpool(
        kernel_size=kernel,
        stride=_axes(options, "stride", dims, kernel),
        padding=_axes(options, "padding", dims, (0,)),
        output_size=per_axis(size, dims, what="output_size") if size else None,
    )


def _adaptive(operation: str) -> Callable[[Options, int], AdaptivePool]:
    return lambda options, dims: AdaptivePool(_axes(options, "output_size", dims, (1,)), operation)


def _upsample(options: Options, dims: int) -> Upsample:
    size, scale = options.get("size"), options.get("scale_factor")
    return Upsample(
        dims,
        per_axis(size, dims, what="size") if size else None,
        per_axis(scale, dims, what="scale_factor") if scale else None,
        options.get("mode", "nearest"),
        align_corners=options.get("align_corners", False),
        antialias=options.get("antialias", False),
    )


def _fold_geometry(options: Options) -> dict[str, tuple[int, ...]]:
    defaults = {"stride": (1,), "padding": (0,), "dilation": (1,)}
    return {name: _axes(options, name, 2, defaults.get(name)) for name in _GEOMETRY}


def _norm(sort: str) -> Callable[[Options, int], Norm]:
    return lambda options, dims: Norm(sort, **options)


def _required(options: Options, name: str) -> Any:
    if name not in options:
        raise ShapeError(f"{name} is missing")
    return options[name]


def _linear(options: Options, dims: int) -> Linear:
    return Linear(_required(options, "out_features"), options.get("in_features"), options.get("bias", True))


def _without_options(layer: Layer) -> LayerKind:
    return LayerKind(lambda options, dims: layer, ())


_GEOMETRY = ("kernel_size", "stride", "padding", "dilation")
_CONV = (*_GEOMETRY, "groups", "in_channels", "out_channels", "bias")
_POOL = ("kernel_size", "stride", "padding", "ceil_mode")
_POOL_VALUES = ("norm_type", "count_include_pad", "divisor_override")
_WITH_OPTIONS: dict[str, LayerKind] = {
    "conv": LayerKind(_conv, (*_CONV, "padding_mode"), "out_channels"),
    "tconv": LayerKind(_tconv, (*_CONV, "output_padding"), "out_channels"),
    "maxpool": LayerKind(_pool("max"), (*_POOL, "dilation"), "kernel_size"),
    "avgpool": LayerKind(_pool("avg"), (*_POOL, "count_include_pad", "divisor_override"), "kernel_size"),
    "lppool": LayerKind(_pool("lp"), ("kernel_size", "stride", "ceil_mode", "norm_type"), "kernel_size"),
    "adaptive": LayerKind(_adaptive("avg"), ("output_size",), "output_size"),
    "adaptivemax": LayerKind(_adaptive("max"), ("output_size",), "output_size"),
    "unpool": LayerKind(_unpool, ("kernel_size", "stride", "padding", "output_size"), "kernel_size"),
    "linear": LayerKind(_linear, ("out_features", "in_features", "bias"), "out_features"),
    "flatten": LayerKind(lambda options, dims: Flatten(**options), ("start_dim", "end_dim"), "start_dim"),
    "unflatten": LayerKind(lambda options, dims: Unflatten(_required(options, "shape")), ("shape",), "shape"),
    "upsample": LayerKind(_upsample, ("size", "scale_factor", "mode", "align_corners", "antialias"), "scale_factor"),
    "pixelshuffle": LayerKind(lambda options, dims: PixelShuffle(_required(options, "factor")), ("factor",), "factor"),
    "pixelunshuffle": LayerKind(
        lambda options, dims: PixelUnshuffle(_required(options, "factor")), ("factor",), "factor"
    ),
    "unfold": LayerKind(lambda options, dims: Unfold(**_fold_geometry(options)), _GEOMETRY, "kernel_size"),
    "fold": LayerKind(
        lambda options, dims: Fold(_axes(options, "output_size", 2), **_fold_geometry(options)),
        ("output_size", *_GEOMETRY),
        "output_size",
    ),
    "batchnorm": LayerKind(_norm("batch"), ("num_features", "affine"), "num_features"),
    "layernorm": LayerKind(_norm("layer"), ("normalized_shape", "affine"), "normalized_shape"),
    "groupnorm": LayerKind(_norm("group"), ("num_groups", "num_features", "affine"), "num_groups"),
    "instancenorm": LayerKind(_norm("instance"), ("num_features", "affine"), "num_features"),
    "rmsnorm": LayerKind(_norm("rms"), ("normalized_shape", "affine"), "normalized_shape"),
    "localresponsenorm": LayerKind(_norm("local_response"), (), None),
    "dropout": LayerKind(lambda options, dims: Pointwise(f"nn.Dropout({options.get('p', 0.5)})"), ("p",), "p"),
}
_ACTIVATIONS = (
    *("ReLU", "ReLU6", "LeakyReLU", "ELU", "SELU", "CELU", "GELU", "SiLU", "Mish", "Hardswish", "Hardsigmoid"),
    *("Hardtanh", "Sigmoid", "Tanh", "Softplus", "Softsign", "LogSigmoid", "Identity"),
)
_WITHOUT_OPTIONS: dict[str, Pointwise] = {
    **{name.lower(): Pointwise(f"nn.{name}()") for name in _ACTIVATIONS},
    "swish": Pointwise("nn.SiLU()"),
    "softmax": Pointwise("nn.Softmax(dim=1)"),
    "prelu": Pointwise("nn.PReLU()", 1),
    "learnable_swish": Pointwise("dlkit.core.models.activations.Swish(learnable=True)", 1),
}
KINDS: dict[str, LayerKind] = _WITH_OPTIONS | {
    name: _without_options(layer) for name, layer in _WITHOUT_OPTIONS.items()
}
SPELLINGS = {
    "fc": "linear",
    "dense": "linear",
    "convtranspose": "tconv",
    "deconv": "tconv",
    "gap": "adaptive",
    "adaptiveavgpool": "adaptive",
    "adaptivemaxpool": "adaptivemax",
    "maxunpool": "unpool",
    "up": "upsample",
    "interp": "upsample",
    "interpolate": "upsample",
    "bn": "batchnorm",
    "ln": "layernorm",
    "gn": "groupnorm",
    "lrn": "localresponsenorm",
    "leaky_relu": "leakyrelu",
}
