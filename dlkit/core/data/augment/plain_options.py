"""What torchvision's v2 objects make of plain options, without the two seconds that importing them takes.

Only what is surely valid: other options, wrong ones among them, are left to torchvision.
"""

from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from dlkit.core.data.augment.flips import AlternatingFlip

MODES = {"nearest", "bilinear"}
PADDINGS = {"constant", "edge", "reflect", "symmetric"}


class PlainTransform(SimpleNamespace):
    """The attributes of a v2 object that its batched form reads."""

    __call__ = AlternatingFlip.__call__


def plain_transform(name: str, options: Mapping[str, Any]) -> PlainTransform | None:
    """Returns what stands for the v2 class of this name with these options, or None where torchvision is needed."""
    if name not in _PLAIN:
        return None
    try:
        return PlainTransform(**_PLAIN[name](**options))
    except (TypeError, ValueError):
        return None


def _crop(
    size: Any, padding: Any = None, pad_if_needed: bool = False, fill: Any = 0, padding_mode: str = "constant"
) -> dict[str, Any]:
    _require(isinstance(pad_if_needed, bool), padding_mode in PADDINGS, padding is None or _are_whole(_listed(padding)))
    height, width = (_listed(size) * 2)[:2] if len(_listed(size)) == 1 else _listed(size)
    _require(_are_whole((height, width)), min(height, width) > 0, min(_listed(padding or 0)) >= 0)
    left, top, right, bottom = _sides(_listed(padding or 0))
    sides = [left, right, top, bottom] if padding else None
    return {
        "size": (height, width), "padding": sides, "pad_if_needed": pad_if_needed, "fill": _fill(fill),
        "padding_mode": padding_mode,
    }  # fmt: skip


def _sides(numbers: list[int]) -> list[int]:
    """Left, top, right and bottom from one number, two, or four."""
    return numbers * (4 // len(numbers)) if len(numbers) in (1, 2) else numbers


def _flip(p: float = 0.5) -> dict[str, Any]:
    _require(0 <= p <= 1)
    return {"p": p}


def _rotation(
    degrees: Any, interpolation: str = "nearest", expand: bool = False, center: Any = None, fill: Any = 0
) -> dict[str, Any]:
    _require(expand is False, interpolation in MODES, center is None or len(_numbers(center)) == 2)
    return {"degrees": _range(degrees), "interpolation": interpolation, "center": center, "fill": _fill(fill)}


def _affine(
    degrees: Any, translate: Any = None, scale: Any = None, shear: Any = None, interpolation: str = "nearest",
    fill: Any = 0, center: Any = None,
) -> dict[str, Any]:  # fmt: skip
    for pair in (translate, scale, center):
        _require(pair is None or len(_numbers(pair)) == 2)
    _require(all(0 <= share <= 1 for share in translate or ()), all(factor > 0 for factor in scale or ()))
    options = _rotation(degrees, interpolation, center=center, fill=fill)
    sheared = None if shear is None else _range(shear, lengths=(2, 4))
    return options | {"translate": translate, "scale": scale, "shear": sheared}


def _erasing(
    p: float = 0.5, scale: Any = (0.02, 0.33), ratio: Any = (0.3, 3.3), value: Any = 0.0, inplace: bool = False
) -> dict[str, Any]:
    (least, most), (narrow, wide) = _numbers(scale), _numbers(ratio)
    _require(0 <= least <= most <= 1, 0 < narrow <= wide, isinstance(inplace, bool))
    return _flip(p) | {"scale": scale, "ratio": ratio, "value": [float(one) for one in _numbers(_listed(value))]}


_PLAIN: dict[str, Callable[..., dict[str, Any]]] = {
    "RandomCrop": _crop,
    "RandomHorizontalFlip": _flip,
    "RandomVerticalFlip": _flip,
    "RandomRotation": _rotation,
    "RandomAffine": _affine,
    "RandomErasing": _erasing,
}


def _require(*facts: bool) -> None:
    if not all(facts):
        raise ValueError("not plain")


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _are_whole(numbers: Sequence[Any]) -> bool:
    return all(type(number) is int for number in numbers)


def _numbers(values: Any) -> Sequence[float]:
    _require(isinstance(values, list | tuple), all(type(value) in (int, float) for value in values))
    numbers: Sequence[float] = values
    return numbers


def _range(value: Any, lengths: tuple[int, ...] = (2,)) -> list[float]:
    """From -value to value for a single number."""
    if type(value) in (int, float):
        _require(value >= 0)
        value = [-value, value]
    _require(len(value) in lengths)
    return [float(number) for number in _numbers(value)]


def _fill(value: Any) -> Any:
    _require(value is None or bool(_numbers(_listed(value))))
    return value
