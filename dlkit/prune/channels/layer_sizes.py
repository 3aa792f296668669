"""The sizes of layers by name: listed in a model file, given to a full-sized network, and fitted to cut tensors."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

Shape = tuple[int, ...]


@dataclass(frozen=True)
class SizedKind:
    """A kind of layer: the attributes that hold its sizes, and the shapes of its tensors that follow from them."""

    kinds: tuple[type[nn.Module], ...]
    attributes: tuple[str, ...]
    shapes: Callable[[Any], dict[str, Shape]]
    fit: Callable[[Any], dict[str, Any]]


def describe_sizes(original: nn.Module, shrunk: nn.Module) -> dict[str, Any]:
    """Return the rewrite that turns the full network's layers into the smaller one's, in plain values, for a model file.

    `sizes` maps layers to their new attributes, `parameters` any other tensor to its new shape.
    """
    sizes: dict[str, dict[str, Any]] = {}
    parameters: dict[str, list[int]] = {}
    for (name, before), after in zip(original.named_modules(), shrunk.modules(), strict=True):
        kind = _find_kind(before)
        if kind is not None:
            if changed := _changed_attributes(kind, before, after):
                sizes[name] = changed
            continue
        old, new = _own_tensors(before), _own_tensors(after)
        parameters |= {
            f"{name}.{key}" if name else key: list(new[key].shape) for key in old if old[key].shape != new[key].shape
        }
    return {"op": "prune", "sizes": sizes, "parameters": parameters}


def _changed_attributes(kind: SizedKind, before: nn.Module, after: nn.Module) -> dict[str, Any]:
    values = {name: getattr(after, name) for name in kind.attributes}
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in values.items()
        if value != getattr(before, name)
    }


def replay(
    network: nn.Module, rewrite: Mapping[str, Any], state: Mapping[str, Tensor]
) -> tuple[nn.Module, dict[str, Any]]:
    """Cut the network's layers to the sizes that `describe_sizes` listed; works on the meta device too.

    Raises ValueError for a broken rewrite.
    """
    sizes, parameters = rewrite.get("sizes"), rewrite.get("parameters", {})
    if not isinstance(sizes, Mapping) or not isinstance(parameters, Mapping):
        raise ValueError("pruning lists no sizes of layers")
    resize(network, sizes, parameters)
    return network, dict(state)


def resize(network: nn.Module, sizes: Mapping[str, Mapping[str, Any]], parameters: Mapping[str, Any]) -> None:
    """Cut a full-sized network's layers to these sizes, in place; also on the meta device. It does not matter which numbers
    stay, as the file's are loaded afterwards.

    Raises ValueError for layers or sizes that are not the network's.
    """
    modules = dict(network.named_modules())
    for name, values in sizes.items():
        if name not in modules:
            raise ValueError(f"no layer {name!r:.100}")
        _resize_layer(network, name, modules[name], values)
    stored = stored_tensors(network)
    for name, shape in parameters.items():
        if name not in stored:
            raise ValueError(f"no parameter {name!r:.100}")
        _cut_to(network, name, stored[name], _checked_shape(name, shape))


def _resize_layer(network: nn.Module, name: str, module: nn.Module, values: Mapping[str, Any]) -> None:
    kind = _find_kind(module)
    if kind is None or not isinstance(values, Mapping) or not set(values) <= set(kind.attributes):
        raise ValueError(f"layer {name!r:.100} has no sizes {values!r:.100}")
    for attribute, value in values.items():
        before = getattr(module, attribute)
        _check_size(f"{name}.{attribute}", value, before)
        setattr(module, attribute, tuple(value) if isinstance(before, tuple) else value)
    if isinstance(module, _ConvNd) and (module.in_channels % module.groups or module.out_channels % module.groups):
        raise ValueError(f"layer {name!r:.100}: channels do not divide into {module.groups} groups")
    shapes = kind.shapes(module)
    for key, tensor in _own_tensors(module).items():
        if key in shapes:
            _cut_to(network, f"{name}.{key}", tensor, shapes[key])


def _check_size(name: str, value: Any, before: Any) -> None:
    """Raise ValueError unless a new size is a whole number from 1 to the old one, or a list of such."""
    news, olds = (value, list(before)) if isinstance(before, tuple) else ([value], [before])
    if not isinstance(news, list) or len(news) != len(olds):
        raise ValueError(f"{name:.100}: {value!r:.100} is no size like {before!r}")
    for new, old in zip(news, olds, strict=True):
        if type(new) is not int or not 1 <= new <= old:
            raise ValueError(f"{name:.100}: must be a whole number from 1 to {old}, got {new!r:.100}")


def _checked_shape(name: str, shape: Any) -> Shape:
    if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError(f"{name:.100}: {shape!r:.100} is no shape")
    return tuple(shape)


def _cut_to(network: nn.Module, name: str, tensor: Tensor, shape: Shape) -> None:
    if len(shape) != tensor.dim() or any(new > old for new, old in zip(shape, tensor.shape, strict=True)):
        raise ValueError(f"{name:.100}: {shape} does not fit into {tuple(tensor.shape)}")
    if shape != tensor.shape:
        put_tensor(network, tensor, tensor.detach()[tuple(map(slice, shape))].clone())


def fit_sizes(module: nn.Module) -> None:
    """Set a layer's attributes to the sizes of its cut tensors."""
    kind = _find_kind(module)
    if kind is not None:
        for name, value in kind.fit(module).items():
            setattr(module, name, value)


def put_tensor(network: nn.Module, old: Tensor, new: Tensor) -> None:
    """Replace a parameter or buffer in every module that holds it: tied weights stay tied."""
    if isinstance(old, nn.Parameter):
        new = nn.Parameter(new, requires_grad=old.requires_grad)
    for module in network.modules():
        for held in (module._parameters, module._buffers):
            for name, tensor in held.items():
                if tensor is old:
                    held[name] = new  # type: ignore[assignment]  # parameters and buffers are held alike


def stored_tensors(network: nn.Module) -> dict[str, Tensor]:
    """All parameters and buffers of a network, by name."""
    return {**dict(network.named_parameters()), **dict(network.named_buffers())}


def _find_kind(module: nn.Module) -> SizedKind | None:
    """Return how a layer names its sizes; None for one that has none or is of an unknown class."""
    return next((kind for kind in SIZED_KINDS if isinstance(module, kind.kinds)), None)


def _own_tensors(module: nn.Module) -> dict[str, Tensor]:
    """A module's own parameters and buffers, without those of its children."""
    tensors = {**module._parameters, **module._buffers}
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}


def _conv_shapes(conv: Any) -> dict[str, Shape]:
    sides = (conv.in_channels, conv.out_channels)
    first, second = sides if isinstance(conv, _ConvTransposeNd) else sides[::-1]
    return {"weight": (first, second // conv.groups, *conv.kernel_size), "bias": (conv.out_channels,)}


def _fit_conv(conv: Any) -> dict[str, Any]:
    """Return the sizes of a cut weight while the attributes are still the old ones; a depthwise convolution loses groups."""
    first, second = conv.weight.shape[:2]
    groups = conv.groups
    if groups > 1 and groups == conv.in_channels:
        num_outputs = first if not isinstance(conv, _ConvTransposeNd) else first * second
        groups = num_outputs * groups // conv.out_channels
    if isinstance(conv, _ConvTransposeNd):
        return {"in_channels": first, "out_channels": second * groups, "groups": groups}
    return {"in_channels": second * groups, "out_channels": first, "groups": groups}


def _linear_shapes(linear: Any) -> dict[str, Shape]:
    return {"weight": (linear.out_features, linear.in_features), "bias": (linear.out_features,)}


def _fit_linear(linear: Any) -> dict[str, Any]:
    return {"in_features": linear.weight.shape[1], "out_features": linear.weight.shape[0]}


def _along(attribute: str) -> Callable[[Any], dict[str, Shape]]:
    def shapes(module: Any) -> dict[str, Shape]:
        return dict.fromkeys(("weight", "bias", "running_mean", "running_var"), (getattr(module, attribute),))

    return shapes


def _fit_along(attribute: str) -> Callable[[Any], dict[str, Any]]:
    def fit(module: Any) -> dict[str, Any]:
        tensor = module.weight if getattr(module, "weight", None) is not None else module.running_mean
        return {attribute: tensor.shape[0]}

    return fit


SIZED_KINDS = (
    SizedKind((_ConvNd,), ("in_channels", "out_channels", "groups"), _conv_shapes, _fit_conv),
    SizedKind((nn.Linear,), ("in_features", "out_features"), _linear_shapes, _fit_linear),
    SizedKind((_NormBase,), ("num_features",), _along("num_features"), _fit_along("num_features")),
    SizedKind((nn.GroupNorm,), ("num_channels",), _along("num_channels"), _fit_along("num_channels")),
    SizedKind((nn.PReLU,), ("num_parameters",), _along("num_parameters"), _fit_along("num_parameters")),
    SizedKind(
        (nn.LayerNorm, nn.RMSNorm),
        ("normalized_shape",),
        lambda norm: dict.fromkeys(("weight", "bias"), tuple(norm.normalized_shape)),
        lambda norm: {"normalized_shape": tuple(norm.weight.shape)},
    ),
    SizedKind(
        (nn.Embedding,),
        ("embedding_dim",),
        lambda table: {"weight": (table.num_embeddings, table.embedding_dim)},
        lambda table: {"embedding_dim": table.weight.shape[1]},
    ),
)
