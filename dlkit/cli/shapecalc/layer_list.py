"""The `layers:` list of a config as a chain, so that it can be checked before there is data."""

from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any

import yaml

from dlkit.shapes import KINDS, ChainStep, ShapeError, layer_kind, parse_step

# other kinds have options that change neither shapes nor costs, such as eps or inplace; those are left out
_STRICT = ("conv", "tconv", "linear")
_DEFAULT_KERNELS = {"conv": 3, "tconv": 3, "maxpool": 2, "avgpool": 2, "lppool": 2}


def read_layer_list(path: Path, *, num_classes: int | None) -> list[ChainStep]:
    """The steps of a config's `model.layers`, or of a file with `layers:` alone; `num_classes` stands for `auto`.

    Raises ShapeError for what a chain cannot say, such as a residual whose shortcut is projected.
    """
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ShapeError(f"{path} is no YAML: {error}") from None
    section = config.get("model", config) if isinstance(config, Mapping) else {}
    layers = section.get("layers") if isinstance(section, Mapping) else None
    if not isinstance(layers, list) or not layers:
        raise ShapeError(
            f"{path} has no list `layers:` or `model: {{layers: ...}}`; other models: shapecalc model {path}"
        )
    names = (f"residual{number}" for number in count(1))
    return [parse_step(text) for text in _texts(layers, num_classes, names)]


def _texts(layers: list[Any], num_classes: int | None, names: Iterator[str]) -> Iterator[str]:
    for item in layers:
        if isinstance(item, str):
            yield from _layer(item, {}, num_classes)
        elif isinstance(item, Mapping) and "repeat" in item:
            for _ in range(int(item["repeat"])):
                yield from _texts(item.get("layers", []), num_classes, names)
        elif isinstance(item, Mapping) and "residual" in item:
            name = next(names)
            yield f"save {name}"
            yield from _texts(item["residual"], num_classes, names)
            yield f"add {name}"
        elif isinstance(item, Mapping) and len(item) == 1:
            ((word, options),) = item.items()
            inner = word == "sequential"
            yield from _texts(options, num_classes, names) if inner else _layer(word, options, num_classes)
        else:
            raise ShapeError(f"layer {item!r} is neither a name nor a name with options")


def _layer(word: str, options: Any, num_classes: int | None) -> Iterator[str]:
    if word == "globalavgpool":
        yield from ("adaptive 1", "flatten")
        return
    kind = layer_kind(word)
    if not isinstance(options, Mapping):
        main = KINDS[kind].positional if kind in KINDS else None
        options = {main: options} if main and options is not None else {}
    if kind == "swish" and options.get("learnable"):
        kind = "learnable_swish"
    known = KINDS[kind].options if kind in KINDS else ()
    named = {
        _long(kind, name): value for name, value in options.items() if _long(kind, name) in known or kind in _STRICT
    }
    if kind in _DEFAULT_KERNELS:
        named.setdefault("kernel_size", _DEFAULT_KERNELS[kind])
    parts = (_written(kind, name, _value(name, value, num_classes)) for name, value in named.items())
    yield " ".join([kind, *sorted(parts, key=lambda part: not part[0].isdigit())])


def _written(kind: str, name: str, value: str) -> str:
    """An option in the chain's short words, which is what the table shows."""
    if kind in KINDS and name == KINDS[kind].positional:
        return value
    if value in ("same", "valid"):
        return value
    if (name, value) == ("bias", "false"):
        return "nobias"
    short = {"kernel_size": "k", "stride": "s", "padding": "p", "dilation": "d", "groups": "g"}.get(name)
    return f"{short}{value}" if short else f"{name}={value}"


def _long(kind: str, name: str) -> str:
    known = KINDS[kind].options if kind in KINDS else ()
    candidates = {
        "kernel": ("kernel_size",),
        "out": ("out_channels", "out_features"),
        "in": ("in_channels", "in_features"),
        "size": ("output_size", "shape", "size"),
        "scale": ("scale_factor",),
        "groups": ("groups", "num_groups"),
        "shape": ("normalized_shape", "shape"),
    }.get(name, (name,))
    return next((candidate for candidate in candidates if candidate in known), name)


def _value(name: str, value: Any, num_classes: int | None) -> str:
    if value == "auto" and name == "out_features":
        if num_classes is None:
            raise ShapeError("`linear: auto` is the number of classes: give --num-classes")
        return str(num_classes)
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
