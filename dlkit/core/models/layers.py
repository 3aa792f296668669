"""A network written as a list of layers. Sizes are inferred by passing a shape from layer to layer; mistakes name the
layer.

An item is a name (`relu`), a name with its main option (`{maxpool: 2}`), a name with options
(`{conv: {out: 32, kernel: 3}}`), or one of the four that hold layers:

    {sequential: [...]}
    {residual: [...], project: true}    adds its input; where shapes differ the input goes through a 1x1 convolution
                                        (a linear layer for vectors), or, with project: false, that is an error
    {concat: [...]}                     the input and what the layers make of it side by side, as channels
    {repeat: 3, layers: [...]}          the layers three times over, with weights of their own

Layers are numbered from 1 as written, inner ones as 4.2. The result is an nn.Sequential whose state-dict keys are
positions.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dlkit.core.components import ComponentError
from dlkit.core.models.activations import build_activation, is_activation, known_activations
from dlkit.core.models.layer_kinds import KINDS, find_kind
from dlkit.core.models.layer_options import LayerError, LayerOptions, Shape, is_count
from dlkit.core.models.meta import meta_copy, output_shape
from dlkit.errors import first_line
from dlkit.shapes import size_text
from dlkit.suggestions import did_you_mean

_MOST_LAYERS = 2000
_DEEPEST = 12
_HOLDERS = ("sequential", "residual", "concat", "repeat")


class Residual(nn.Module):
    """body(x) + shortcut(x); the shortcut is the identity where shapes agree."""

    def __init__(self, body: nn.Sequential, shortcut: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Add the two branches."""
        out: Tensor = self.body(x) + self.shortcut(x)
        return out


class Concat(nn.Module):
    """x and body(x), joined along the channels."""

    def __init__(self, body: nn.Sequential) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        """Join both."""
        return torch.cat([x, self.body(x)], 1)


def build_layers(layers: Sequence[Any], input_size: Sequence[int], num_classes: int) -> nn.Sequential:
    """Returns the network that the list describes, for samples of `input_size` (channels first, no batch), ending in
    (num_classes,), or of images in a map of the same size (num_classes, H, W).

    Raises ComponentError with the layer's number; its `option` is the path of the key, for example
    `layers.2.conv.kernel`.
    """
    walk = _Walk(num_classes, shape=tuple(input_size))
    modules = walk.build_all(layers, number="", path="layers")
    maps = (num_classes, *input_size[1:])
    if walk.shape != (num_classes,) and not (len(maps) == 3 and walk.shape == maps):
        place = f"layer {len(layers)}" if layers else "the list"
        fix = "end with {linear: auto}" if len(walk.shape) == 1 else "end with flatten and {linear: auto}"
        if len(walk.shape) == len(maps) == 3:
            fix += f"; for maps of {size_text(maps)} with {{conv: {{out: auto, kernel: 1}}}}, at the size of the images"
        raise ComponentError(
            f"{place} gives {size_text(walk.shape)}, the model must give {num_classes}: {fix}", option="layers"
        )
    return nn.Sequential(*modules)


class _Walk:
    """Where building stands: the running shape, and the shape before the last flatten, for error messages."""

    def __init__(self, num_classes: int, *, shape: Shape) -> None:
        self.num_classes = num_classes
        self.shape = shape
        self.unflattened: Shape | None = None
        self.num_built = 0

    def build_all(self, items: Any, *, number: str, path: str) -> list[nn.Module]:
        if not isinstance(items, list | tuple) or not items:
            place = f"layer {number.rstrip('.')}" if number else "layers"
            raise ComponentError(f"{place}: a list of layers is needed, got {items!r}", option=path)
        if number.count(".") > _DEEPEST:
            raise ComponentError(f"layer {number.rstrip('.')}: nested more than {_DEEPEST} deep", option=path)
        return [
            self.build_one(item, number=f"{number}{index + 1}", path=f"{path}.{index}")
            for index, item in enumerate(items)
        ]

    def build_one(self, item: Any, *, number: str, path: str) -> nn.Module:
        name, value, extra = _read_item(item, number, path)
        self.num_built += 1
        if self.num_built > _MOST_LAYERS:
            raise ComponentError(f"layer {number}: more than {_MOST_LAYERS} layers", option=path)
        if name == "sequential":
            return nn.Sequential(*self.build_all(value, number=f"{number}.", path=f"{path}.sequential"))
        if name == "residual":
            return self.build_residual(value, extra.get("project", True), number=number, path=path)
        if name == "concat":
            return self.build_concat(value, number=number, path=path)
        if name == "repeat":
            return self.build_repeat(value, extra["layers"], number=number, path=path)
        return self.build_leaf(name, value, number=number, path=path)

    def build_repeat(self, count: Any, items: Any, *, number: str, path: str) -> nn.Sequential:
        if not is_count(count):
            raise ComponentError(
                f"layer {number} (repeat): needs a whole number above 0, got {count!r}", option=f"{path}.repeat"
            )
        modules: list[nn.Module] = []
        for time in range(count):
            try:
                modules += self.build_all(items, number=f"{number}.", path=f"{path}.layers")
            except ComponentError as error:
                if time == 0:
                    raise
                raise ComponentError(f"{error} (in repetition {time + 1})", option=error.option) from error
        return nn.Sequential(*modules)

    def build_residual(self, items: Any, project: Any, *, number: str, path: str) -> Residual:
        before = self.shape
        body = nn.Sequential(*self.build_all(items, number=f"{number}.", path=f"{path}.residual"))
        after = self.shape
        if before == after:
            return Residual(body, nn.Identity())
        what = f"layer {number} (residual): its layers turn {size_text(before)} into {size_text(after)}"
        if project is not True:
            raise ComponentError(f"{what}; without projection the two must be equal", option=f"{path}.project")
        shortcut = _build_projection(before, after)
        if shortcut is None:
            raise ComponentError(
                f"{what}, which no 1x1 projection does; give the convolutions padding: same", option=path
            )
        return Residual(body, shortcut)

    def build_concat(self, items: Any, *, number: str, path: str) -> Concat:
        before = self.shape
        body = nn.Sequential(*self.build_all(items, number=f"{number}.", path=f"{path}.concat"))
        if len(self.shape) != len(before) or self.shape[1:] != before[1:]:
            raise ComponentError(
                f"layer {number} (concat): its layers turn {size_text(before)} into {size_text(self.shape)}; only channels may differ",
                option=path,
            )
        self.shape = (before[0] + self.shape[0], *before[1:])
        return Concat(body)

    def build_leaf(self, name: str, value: Any, *, number: str, path: str) -> nn.Module:
        try:
            module = self.build_module(name, value)
            shape = output_shape(meta_copy(module), self.shape)
            if 0 in shape:
                raise LayerError(f"gives {size_text(shape)}, nothing is left of {size_text(self.shape)}")
        except LayerError as mistake:
            option = f"{path}.{name}.{mistake.option}" if mistake.option else path
            raise ComponentError(
                f"layer {number} ({name}): {mistake}{self.origin(mistake)}", option=option
            ) from mistake
        except ComponentError as error:  # of an activation
            option = f"{path}.{name}.{error.option}" if error.option else path
            raise ComponentError(f"layer {number} ({name}): {error}", option=option) from error
        except (TypeError, ValueError, RuntimeError, IndexError, NotImplementedError) as error:
            raise ComponentError(
                f"layer {number} ({name}): does not take {size_text(self.shape)}: {first_line(error)}", option=path
            ) from error
        if name.lower() == "flatten" and len(self.shape) > 1:
            self.unflattened = self.shape
        elif shape != self.shape:
            self.unflattened = None
        self.shape = shape
        return module

    def origin(self, mistake: LayerError) -> str:
        flat = self.unflattened
        is_size = mistake.option == "in" and flat is not None and self.shape == (math.prod(flat),)
        return f" ({size_text(flat)})" if is_size and flat else ""

    def build_module(self, name: str, value: Any) -> nn.Module:
        kind = find_kind(name)
        if kind is None:
            if value is not None and not isinstance(value, Mapping):
                raise LayerError(f"takes its options as a mapping, got {value!r}")
            return build_activation({"name": name, **(value or {})})
        if value is not None and not isinstance(value, Mapping):
            if kind.main is None:
                raise LayerError(f"takes its options as a mapping, got {value!r}")
            value = {kind.main: value}
        return kind.build(LayerOptions(dict(value or {}), self.num_classes), self.shape)


def _read_item(item: Any, number: str, path: str) -> tuple[str, Any, Mapping[str, Any]]:
    """Returns an item's kind, the value beside it, and the further keys that `residual` and `repeat` take."""
    if isinstance(item, str):
        item = {item: None}
    if not isinstance(item, Mapping) or not item or not all(isinstance(key, str) for key in item):
        raise ComponentError(
            f"layer {number}: a name or a mapping such as {{conv: {{out: 32}}}} is needed, got {item!r}", option=path
        )
    name = next((key for key in _HOLDERS if key in item), next(iter(item)))
    extra = {key: value for key, value in item.items() if key != name}
    allowed = {"residual": {"project"}, "repeat": {"layers"}}.get(name, set())
    for key in extra:
        if key not in allowed:
            hint = "one layer an item" if not allowed else f"it takes {', '.join(allowed)}"
            raise ComponentError(
                f"layer {number} ({name}): {key!r} does not belong here: {hint}", option=f"{path}.{key}"
            )
    if name == "repeat" and "layers" not in extra:
        raise ComponentError(f"layer {number} (repeat): needs 'layers'", option=path)
    if name not in _HOLDERS and find_kind(name) is None and not is_activation(name):
        known = [*KINDS, *_HOLDERS, *known_activations()]
        raise ComponentError(
            f"layer {number}: no layer kind {name!r}.{did_you_mean(name, known)}", option=f"{path}.{name}"
        )
    return name, item[name], extra


def _build_projection(before: Shape, after: Shape) -> nn.Module | None:
    """Returns a 1x1 convolution or linear layer from one shape to the other, or None where there is none."""
    if len(before) != len(after):
        return None
    if len(before) == 1:
        return nn.Linear(before[0], after[0])
    strides = tuple(-(-have // want) for have, want in zip(before[1:], after[1:], strict=True))
    reached = tuple((have - 1) // stride + 1 for have, stride in zip(before[1:], strides, strict=True))
    if reached != after[1:]:
        return None
    kind: Callable[..., nn.Module] = getattr(nn, f"Conv{len(before) - 1}d")
    return kind(before[0], after[0], 1, strides)
