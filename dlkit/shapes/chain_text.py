"""The language of chains: `conv 64 k7 s2 p3; bn; relu; save a; maxpool k3 s2 p1 ceil; up x2; cat a`.

Steps are separated by `;` or line ends, `#` begins a comment. A step is a layer's name, a bare number for its main
option (output channels, features, size), short options (k3, s2, p1, d2, g32, op1) or long ones (stride=2), and words
(ceil, same, nobias). `save NAME` keeps the current output, `cat NAME...` and `add NAME...` join kept ones with it,
`from NAME` goes on from a kept one. `( ... ) x3` repeats.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from dlkit.shapes.build import KINDS, POINTWISE, SPELLINGS, did_you_mean, layer_names
from dlkit.shapes.conv import PADDING_MODES
from dlkit.shapes.resample import MODES
from dlkit.shapes.size import ShapeError, parse_numbers

JOINS = ("save", "cat", "add", "from")


@dataclass(frozen=True)
class ChainStep:
    """One step of a chain as written: a kind of layer with options, or a join with the names it uses."""

    text: str
    word: str
    options: dict[str, Any] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    is_depthwise: bool = False


def parse_chain(text: str) -> list[ChainStep]:
    """The steps of a chain, repeats unrolled. Raises ShapeError naming the step that cannot be read."""
    lines = text.splitlines()
    steps = []
    for part in _unrolled(";".join(line.split("#")[0] for line in lines)):
        try:
            steps.append(parse_step(part))
        except ShapeError as error:
            raise ShapeError(f"{_place(part, lines)}: {error}") from None
    if not steps:
        raise ShapeError('the chain is empty; write for example "conv 64 k7 s2 p3; bn; relu"')
    return steps


def _place(part: str, lines: list[str]) -> str:
    """Where a step stands: line and column, of a chain on one line the column alone."""
    for number, line in enumerate(lines, start=1):
        found = re.search(rf"(?<![^\s;(]){re.escape(part)}(?=\s*(?:[;)#]|$))", line.split("#")[0])
        if found:
            return f"line {number}, column {found.start() + 1}" if len(lines) > 1 else f"column {found.start() + 1}"
    return repr(part)


def _unrolled(text: str) -> Iterator[str]:
    """Split at `;` outside parentheses, repeating `( ... ) xN`."""
    for part in _split(text):
        group = re.fullmatch(r"\((.*)\)\s*(?:[x*]\s*(\d+))?", part, re.DOTALL)
        if group:
            for _ in range(int(group[2] or 1)):
                yield from _unrolled(group[1])
        elif part:
            yield part


def _split(text: str) -> list[str]:
    parts, depth = [""], 0
    for letter in text:
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if depth < 0:
            raise ShapeError("a ) in the chain has no ( before it")
        if letter == ";" and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    if depth:
        raise ShapeError("a ( in the chain is never closed")
    return [part.strip() for part in parts]


def parse_step(text: str) -> ChainStep:
    """One step, such as `conv 64 k3 s2 p1` or `cat a b`. Raises ShapeError."""
    word, *arguments = re.sub(r"\s*=\s*", "=", text).split()
    word = word.lower().removeprefix("nn.")
    if word in JOINS:
        if not arguments:
            raise ShapeError(f"{text!r}: {word} needs a name")
        return ChainStep(text, word, names=tuple(arguments))
    is_depthwise = word in ("dwconv", "depthwise")
    kind = spell("conv" if is_depthwise else word)
    try:
        options = _read_options(kind, arguments)
    except ShapeError as error:
        raise ShapeError(f"{text!r}: {error}") from None
    is_depthwise = is_depthwise or options.pop("depthwise", False)
    return ChainStep(text, kind, {**_defaults(kind, options), **options}, is_depthwise=is_depthwise)


def is_layer(word: str) -> bool:
    """Whether a chain knows this word."""
    try:
        return word in JOINS or bool(spell(word.lower().removeprefix("nn.")))
    except ShapeError:
        return word in ("dwconv", "depthwise")


def _read_options(kind: str, arguments: list[str]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for argument in arguments:
        name, value = _read_option(kind, argument)
        if name in options:
            raise ShapeError(f"{argument!r} gives {name} a second time; numbers for several axes are joined: k3,5")
        options[name] = value
    return options


def spell(word: str) -> str:
    """The kind of layer that a word stands for. Raises ShapeError for an unknown one."""
    word = re.sub(r"[123]d$", "", word.replace("-", ""))
    kind = SPELLINGS.get(word, word)
    if kind not in KINDS and kind not in POINTWISE:
        known = [*KINDS, *SPELLINGS, *POINTWISE, *JOINS]
        raise ShapeError(f"no layer {word!r}.{did_you_mean(word, known)} {layer_names()}; joins: {', '.join(JOINS)}")
    return kind


def _defaults(kind: str, options: dict[str, Any]) -> dict[str, Any]:
    return {"kernel_size": (2,)} if kind in ("maxpool", "avgpool", "unpool") and "kernel_size" not in options else {}


_SHORT = {
    "k": "kernel_size",
    "s": "stride",
    "p": "padding",
    "d": "dilation",
    "g": "groups",
    "op": "output_padding",
    "x": "scale_factor",
    "size": "size",
    "scale": "scale_factor",
    "out": "output_size",
    "c": "out_channels",
}
_WORDS: dict[str, tuple[str, Any]] = {
    "ceil": ("ceil_mode", True),
    "nobias": ("bias", False),
    "same": ("padding", "same"),
    "valid": ("padding", "valid"),
    "depthwise": ("depthwise", True),
    "dw": ("depthwise", True),
    "align_corners": ("align_corners", True),
    "antialias": ("antialias", True),
    "affine": ("affine", True),
    "noaffine": ("affine", False),
    **{mode: ("mode", mode) for mode in MODES},
    **{mode: ("padding_mode", mode) for mode in PADDING_MODES},
}
_COUNTS: tuple[str, ...] = (
    *("groups", "in_channels", "out_channels", "out_features", "in_features"),
    *("factor", "num_groups", "num_features", "start_dim", "end_dim", "divisor_override"),
)


def _read_option(kind: str, text: str) -> tuple[str, Any]:
    if text in _WORDS:
        return _WORDS[text]
    short = re.fullmatch(r"(-?\d[\d.,x]*)|([a-z]+?)(-?\d[\d.,x]*|same|valid)|([a-z_]+)=(\S+)", text)
    if not short:
        raise ShapeError(f"cannot read {text!r}; options look like k3, s2, p1, k3,5 or stride=2")
    if short[1]:
        name = KINDS[kind].positional if kind in KINDS else None
        if name is None:
            raise ShapeError(f"{kind} takes no number")
    else:
        name = short[2] or short[4]
        name = name if kind in KINDS and name in KINDS[kind].options else _SHORT.get(name, name)
    return _long_name(kind, name), _value(_long_name(kind, name), short[1] or short[3] or short[5])


def _long_name(kind: str, name: str) -> str:
    known = KINDS[kind].options if kind in KINDS else ()
    if name == "size" and "output_size" in known:
        name = "output_size"
    if name not in known:
        raise ShapeError(f"{kind} takes no {name}; it takes {', '.join(known) or 'nothing'}")
    return name


def _value(name: str, text: str) -> Any:
    if name in ("mode", "padding_mode") or text in ("same", "valid"):
        return text
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        if name in ("scale_factor", "p", "norm_type"):
            numbers = tuple(float(part) for part in text.split(","))
            return numbers if name == "scale_factor" else numbers[0]
        numbers_int = parse_numbers(text, what=name)
    except ValueError:
        raise ShapeError(f"{name} {text!r} is not a number") from None
    if name not in _COUNTS:
        return numbers_int
    if len(numbers_int) > 1:
        raise ShapeError(f"{name} is one number, got {text!r}")
    return numbers_int[0]
