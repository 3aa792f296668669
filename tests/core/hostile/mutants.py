"""Sound files with random damage: bytes flipped, cut, doubled and swapped; keys and values of what they hold changed."""

import copy
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from originals import Originals, read_original
from torch import Tensor
from trials import Trial

Path_ = tuple[Any, ...]
WRONG: tuple[Any, ...] = (
    None, True, 0, 1, -1, 7, 2**31, 2**63, 2**70, 0.5, -1.0, 1e38, float("nan"), float("inf"), "", "x", "none", "auto",
    "\ud800", "../../etc/passwd", "builtins:int", "os:system", "a" * 2000, [], [0], [1, [2]], ["x"], {}, {"name": "x"}, {"x": {}},
    (1, 2), torch.zeros(0), torch.zeros(3, dtype=torch.int64), torch.full((2, 2), float("nan")),
)  # fmt: skip


def places(value: Any, at: Path_ = ()) -> list[Path_]:
    """The places of all values in nested mappings and lists, of long lists the first two and the last."""
    found = [at] if at else []
    if isinstance(value, dict):
        for key, item in value.items():
            found += places(item, (*at, key))
    elif isinstance(value, list | tuple):
        for index in sorted({0, 1, len(value) - 1} & set(range(len(value)))):
            found += places(value[index], (*at, index))
    return found


def changed(value: Any, at: Path_, change: Callable[[Any, Any], Any]) -> Any:
    """A copy in which `change(container, key)` was done at a place; tuples around it become lists."""
    if len(at) == 1:
        container = list(value) if isinstance(value, tuple) else copy.copy(value)
        change(container, at[0])
        return container
    container = list(value) if isinstance(value, tuple) else copy.copy(value)
    container[at[0]] = changed(value[at[0]], at[1:], change)
    return container


def put(wrong: Any) -> Callable[[Any, Any], Any]:
    """A change that puts a value there."""

    def change(container: Any, key: Any) -> None:
        container[key] = wrong

    return change


def drop(container: Any, key: Any) -> None:
    """A change that takes a value away."""
    del container[key]


def commands_for(kind: str, originals: Originals, *, is_short: bool = False) -> tuple[tuple[str, ...], ...]:
    """What reads a file of this kind."""
    config = str(originals.path("config"))
    inspect = ("inspect", "{file}")
    return {
        "checkpoint": (inspect, ("train", config, "--resume", "{file}", "--out", "{out}", "--quiet")),
        "weights": (inspect, ("eval", "{file}", "--arch", "mlp", "--data", config, "--json")),
        "legacy": (inspect, ("convert", "{file}", "{out}.safetensors", "--force")),
        "safetensors": (inspect, ("eval", "{file}", "--arch", "mlp", "--data", config, "--json")),
        "config": (("config", "check", "{file}"), ("train", "{file}", "--out", "{out}", "--quiet", "--max-steps", "1")),
    }.get(kind, (inspect, ("eval", "{file}", "--json")))


def mutant(originals: Originals, seed: int) -> Trial:
    """The mutant with this number."""
    draw = random.Random(seed)
    kind = draw.choice([*originals.kinds, "checkpoint", "legacy", "safetensors", "config"])
    source = originals.path(kind)
    by_value = kind not in ("legacy", "safetensors", "config") and draw.random() < 0.7

    def write(path: Path) -> None:
        if by_value:
            torch.save(_damaged_value(read_original(source), draw), path)
        else:
            path.write_bytes(_damaged_bytes(source.read_bytes(), draw, is_text=kind == "config"))

    name = f"mutant {seed}: {kind} by {'value' if by_value else 'byte'}"
    # a config is its user's own: asking for more memory than there is ends with 6
    allowed = frozenset({6}) if kind == "config" else frozenset()
    return Trial(name, source.suffix, write, commands_for(kind, originals), allowed)


def _damaged_value(value: Any, draw: random.Random) -> Any:
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        found = places(value)
        at = draw.choice(found)
        value = changed(value, at, draw.choice((drop, put(_wrong_for(value, at, draw)), _renamed)))
    return value


def _renamed(container: Any, key: Any) -> None:
    if isinstance(container, dict):
        container[f"{key}x"] = container.pop(key)


def _wrong_for(value: Any, at: Path_, draw: random.Random) -> Any:
    for key in at:
        value = value[key]
    if isinstance(value, Tensor) and draw.random() < 0.6:
        return draw.choice(
            (value.double(), value.flatten()[:-1], value.unsqueeze(0), value.to(torch.int64), value * float("nan"))
        )
    if isinstance(value, int | float) and draw.random() < 0.5:
        return draw.choice((value + 1, -value, value * 1000, float(value), str(value)))
    return draw.choice(WRONG)


def _damaged_bytes(data: bytes, draw: random.Random, *, is_text: bool) -> bytes:
    found = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 8))):
        start, length = draw.randrange(len(found)), draw.choice((1, 1, 4, 64))
        kind = draw.choice(("flip", "cut", "drop", "double", "swap", "zero"))
        piece = found[start : start + length]
        if kind == "flip":
            found[start] ^= 1 << draw.randrange(8)
        elif kind == "cut" and draw.random() < 0.3:
            del found[start:]
        elif kind == "drop":
            del found[start : start + length]
        elif kind == "double":
            found[start:start] = piece
        elif kind == "swap":
            found[start : start + length] = piece[::-1]
        else:
            found[start : start + length] = draw.choice((b"0", b"-1", b"{", b"\xff")) if is_text else bytes(len(piece))
        if not found:
            return b""
    return bytes(found)
