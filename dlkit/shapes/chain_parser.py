"""The language of chains: `conv 64 k7 s2 p3; bn; relu; save a; maxpool k3 s2 p1 ceil; up x2; cat a`.

Steps are separated by `;` or line ends; `#` begins a comment. A step is a layer's name, a bare number for its main
option (output channels, features, size), short options (k3, s2, p1, d2, g32, op1) or long ones (stride=2), and words
(ceil, same, nobias). `save NAME` saves the current output, `cat NAME...` and `add NAME...` join it with saved ones,
`from NAME` continues from a saved one. `( ... ) x3` repeats.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from dlkit.shapes.conv import PADDING_MODES
from dlkit.shapes.layer_table import KINDS, SPELLINGS, check_option, layer_names
from dlkit.shapes.resample import MODES
from dlkit.shapes.size import ShapeError, parse_numbers
from dlkit.suggestions import did_you_mean

JOINS = ("save", "cat", "add", "from")


@dataclass(frozen=True)
class ChainStep:
    """One step of a chain as written: a kind of layer (`word`) with its options, or a join with the names it uses."""

    text: str
    word: str
    options: dict[str, Any] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    is_depthwise: bool = False


def parse_chain(text: str) -> list[ChainStep]:
    """Parse a chain, with repeats unrolled. Raises ShapeError that names the step at fault."""
    lines = text.splitlines()
    steps = []
    for part in _unrolled(";".join(line.split("#")[0] for line in lines)):
        try:
            steps.append(parse_step(part))
        except ShapeError as error:
            raise ShapeError(f"{_location(part, lines)}: {error}") from None
    if not steps:
        raise ShapeError('the chain is empty; write for example "conv 64 k7 s2 p3; bn; relu"')
    return steps


def _location(part: str, lines: list[str]) -> str:
    """The location of a step: line and column, or the column alone in a chain of one line."""
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
    """Parse one step, such as `conv 64 k3 s2 p1` or `cat a b`. Raises ShapeError if it cannot be read."""
    word, *arguments = re.sub(r"\s*=\s*", "=", text).split()
    word = word.lower().removeprefix("nn.")
    if word in JOINS:
        if not arguments:
            raise ShapeError(f"{text!r}: {word} needs a name")
        return ChainStep(text, word, names=tuple(arguments))
    is_depthwise = word in ("dwconv", "depthwise")
    kind = layer_kind("conv" if is_depthwise else word)
    try:
        options = _read_options(kind, arguments)
    except ShapeError as error:
        raise ShapeError(f"{text!r}: {error}") from None
    is_depthwise = is_depthwise or options.pop("depthwise", False)
    return ChainStep(text, kind, {**_defaults(kind, options), **options}, is_depthwise=is_depthwise)


def is_layer(word: str) -> bool:
    """Whether a step of a chain may begin with this word."""
    try:
        return word in JOINS or bool(layer_kind(word.lower().removeprefix("nn.")))
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


def layer_kind(word: str) -> str:
    """The key in `KINDS` for any spelling of a layer. Raises ShapeError for an unknown one."""
    word = re.sub(r"[123]d$", "", word.replace("-", ""))
    kind = SPELLINGS.get(word, word)
    if kind not in KINDS:
        known = [*KINDS, *SPELLINGS, *JOINS]
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
    match = re.fullmatch(r"(-?\d[\d.,x]*)|([a-z]+?)(-?\d[\d.,x]*|same|valid)|([a-z_]+)=(\S+)", text)
    if not match:
        raise ShapeError(f"cannot read {text!r}; options look like k3, s2, p1, k3,5 or stride=2")
    if match[1]:
        name = KINDS[kind].positional
        if name is None:
            raise ShapeError(f"{kind} takes no number")
    else:
        name = match[2] or match[4]
        known = KINDS[kind].options
        name = name if name in known else _SHORT.get(name, name)
        if name == "size" and "output_size" in known:
            name = "output_size"
        check_option(kind, name)
    return name, _value(name, match[1] or match[3] or match[5])


def _value(name: str, text: str) -> Any:
    if name in ("mode", "padding_mode") or text in ("same", "valid"):
        return text
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if name in ("scale_factor", "p", "norm_type"):
        try:
            fractions = tuple(float(part) for part in text.split(","))
        except ValueError:
            raise ShapeError(f"{name} {text!r} is not a number") from None
        return fractions if name == "scale_factor" else fractions[0]
    numbers = parse_numbers(text, what=name)
    if name not in _COUNTS:
        return numbers
    if len(numbers) > 1:
        raise ShapeError(f"{name} is one number, got {text!r}")
    return numbers[0]
