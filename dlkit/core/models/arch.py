"""What a network is, in plain values: enough to build it again without data and without running foreign code."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dlkit.core.components import Builder

REGISTRIES = ("dlkit", "torchvision", "timm", "user")
_DEEPEST = 32  # levels of lists and mappings; a hostile file must not exhaust the stack


@dataclass(frozen=True)
class Arch:
    """A builder's name and every argument that it needs, `num_classes` and `in_channels` included.

    `registry` is `dlkit`, `torchvision`, `timm` or `user`. For `user`, `name` is the import path that the network was made
    from; it is information only, and is never imported because a file says so. `builder` is what the name stands for,
    once that was looked up and the options were checked against it; see `plan_arch` and `resolve_arch`.
    """

    registry: str
    name: str
    options: Mapping[str, Any]
    builder: Builder | None = field(default=None, repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values for a model file; lists and mappings are copied."""
        return {"registry": self.registry, "name": self.name, "options": plain(self.options)}

    @classmethod
    def from_dict(cls, values: object) -> "Arch":
        """Read `to_dict`'s result back from a file that may be hostile. Raises ValueError for anything of another
        shape.
        """
        if not isinstance(values, dict) or set(values) != {"registry", "name", "options"}:
            raise ValueError("an architecture is a mapping with exactly registry, name and options")
        registry, name, options = values["registry"], values["name"], values["options"]
        if registry not in REGISTRIES:
            raise ValueError(f"architecture registry {registry!r:.80} is none of {', '.join(REGISTRIES)}")
        if not isinstance(name, str) or not 0 < len(name) <= 500:
            raise ValueError(f"architecture name {name!r:.80} is no short text")
        if not isinstance(options, dict):
            raise ValueError("architecture options are no mapping")
        return cls(registry, name, plain(options))


def plain(value: Any, *, depth: int = 0) -> Any:
    """Returns a copy in JSON's own types: tuples become lists. Raises ValueError for anything that JSON does not have."""
    if depth > _DEEPEST:
        raise ValueError(f"options are nested more than {_DEEPEST} levels deep")
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float and math.isfinite(value):
        return value
    if type(value) in (list, tuple):
        return [plain(item, depth=depth + 1) for item in value]
    if isinstance(value, Mapping) and all(type(key) is str for key in value):
        return {key: plain(item, depth=depth + 1) for key, item in value.items()}
    raise ValueError(f"{value!r:.80} is no plain value")
