"""Receptive fields of a whole model: what every module's output sees of the image, followed operator by operator."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakIdKeyDictionary

from dlkit.core.models import RunningModules, eval_mode, first_tensor, tensors_in
from dlkit.core.profile.field_axes import Seen, everything, lost, plain_axes
from dlkit.core.profile.field_rules import RULES, Call, number_by_number
from dlkit.shapes import IDENTITY


@dataclass(frozen=True)
class ModuleField:
    """What a module's output sees: size and jump per image axis; `is_all` the whole image; else where it got lost."""

    path: str
    kind: str
    sizes: tuple[int, ...]
    jumps: tuple[float, ...]
    is_all: bool
    lost_at: str | None


def trace_fields(model: nn.Module, image: Tensor) -> list[ModuleField]:
    """Receptive fields at the output of every module; the image is (batch, channels, *sizes), on meta like the model.

    Batch norm counts as number by number; global pooling, attention and squeeze-and-excitation see the whole image.
    """
    tracer = _Tracer(image)
    with eval_mode(model), torch.no_grad(), RunningModules(tracer.record).followed(model), tracer:
        model(image)
    return tracer.fields


class _Tracer(TorchDispatchMode):  # type: ignore[no-untyped-call]  # the base is untyped
    """Follows what tensors see through every operator."""

    def __init__(self, image: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._seen: Any = WeakIdKeyDictionary()
        views = tuple(((int(size), (axis, IDENTITY)),) for axis, size in enumerate(image.shape[2:]))
        self._seen[image] = Seen((*plain_axes(image.shape[:2]), *views))
        self._image_sizes = tuple(image.shape[2:])
        self.fields: list[ModuleField] = []

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = op(*args, **(kwargs or {}))
        parts = [self._seen[a] for a in tensors_in(args) if a in self._seen]
        if parts:
            for position, tensor in enumerate(tensors_in(out)):
                self._seen[tensor] = self._follow(op, args, parts, tensor, position)
        return out

    def _follow(self, op: Any, args: Any, parts: Sequence[Seen], out: Tensor, position: int) -> Seen:
        name = op.name().split(".")[0].removeprefix("aten::")
        if any(part.is_all for part in parts):
            return everything(out.shape)
        places_lost = [part.lost_at for part in parts if part.lost_at]
        if places_lost:
            return lost(out.shape, places_lost[0])
        rule = RULES.get(name) or RULES.get(name.removesuffix("_"))
        if rule is None:
            rule = number_by_number if torch.Tag.pointwise in op.tags else None
        if rule is None:
            return lost(out.shape, name)
        with_parts = [self._seen.get(a) if isinstance(a, Tensor) else a for a in args]
        return rule(Call(name, args, with_parts, parts, out, position))

    def record(self, path: str, module: nn.Module, output: Any) -> None:
        """Take note of what comes out of a module."""
        tensor = first_tensor(output)
        seen = None if tensor is None else self._seen.get(tensor)
        if path and seen is not None:
            self.fields.append(self._field(path, type(module).__name__, seen))

    def _field(self, path: str, kind: str, seen: Seen) -> ModuleField:
        reaches = seen.reaches()
        missing = len(reaches) < len(self._image_sizes) and not seen.lost_at
        sizes = tuple(reach.size for reach in reaches.values())
        covers = not missing and sizes and all(s >= n for s, n in zip(sizes, self._image_sizes, strict=False))
        is_all = seen.is_all or missing or bool(covers)
        return ModuleField(path, kind, sizes, tuple(float(r.jump) for r in reaches.values()), is_all, seen.lost_at)
