"""Refusals say what would work, and it does: every number in a message is tried."""

import random
import re
from itertools import product

import pytest

from dlkit.shapes import (
    Conv,
    ConvTranspose,
    Norm,
    PixelShuffle,
    PixelUnshuffle,
    Pool,
    ShapeError,
    Spatial,
    Upsample,
)

GRID = random.Random(3).sample(
    list(product(range(1, 9), range(1, 7), range(1, 4), range(5), range(1, 4), range(4))), 3000
)


def advice(message: str) -> dict[str, list[int]]:
    """Numbers by the option that they stand behind, after the words `What would work`."""
    text = message.split("What would work:")[1]
    found: dict[str, list[int]] = {}
    for name, number in re.findall(r"(an input of at least|[a-z_]+=)\s*(\d+)", text):
        found.setdefault(name.rstrip("="), []).append(int(number))
    return found


@pytest.mark.parametrize("kind", ["conv", "tconv", "pool"])
def test_what_the_message_proposes_works(kind: str) -> None:
    tried = 0
    for size, kernel, stride, padding, dilation, extra in GRID:
        numbers = {"input": size, "kernel_size": kernel, "stride": stride, "padding": padding, "output_padding": extra}
        try:
            run(kind, numbers, dilation)
        except ShapeError as error:
            assert "What would work" in str(error)
            for name, values in advice(str(error)).items():
                changed = {"input" if name.startswith("an input") else name: values[0]}
                check(kind, {**numbers, **changed}, dilation, str(error))
                tried += 1
    assert tried > 500


def run(kind: str, numbers: dict[str, int], dilation: int) -> int:
    kernel, stride, padding = ((numbers[name],) for name in ("kernel_size", "stride", "padding"))
    layer: Spatial
    if kind == "conv":
        layer = Conv(kernel, stride, (dilation,), padding=padding)
    elif kind == "pool":
        layer = Pool("max", kernel, stride, padding, (dilation,))
    else:
        output_padding = (numbers["output_padding"],)
        layer = ConvTranspose(kernel, stride, (dilation,), padding=padding, output_padding=output_padding)
    return layer.out_size(0, numbers["input"])


def check(kind: str, numbers: dict[str, int], dilation: int, message: str) -> None:
    """The change works, or meets another rule that the first one hid."""
    try:
        run(kind, numbers, dilation)
    except ShapeError as error:
        hidden = str(error).split()[0] != message.split()[0] and message.startswith(("output_padding", "padding"))
        assert hidden, (numbers, message, str(error))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: Conv((3,), (1,), (1,), padding=(0,), groups=3, in_channels=4),
            "What would work: 3 or 6 channels, or groups=2",
        ),
        (lambda: Conv((3,), (2,), (1,), padding="same"), "needs stride 1. What would work: padding=1"),
        (lambda: Conv((3,), (1,), (1,), padding="full"), "neither a number nor 'same' nor 'valid'"),
        (lambda: Conv((3,), (0,), (1,), padding=(0,)), "stride is 0"),
        (lambda: Conv((3,), (1,), (1,), padding=(-1,)), "padding is -1"),
        (lambda: Conv((3,), (1,), (1,), padding=(4,), padding_mode="reflect").out_size(0, 4), "at most 3"),
        (lambda: Conv((3,), (1,), (1,), padding=(0,), in_channels=4).fit((5, 9)), "set in_channels=5"),
        (
            lambda: ConvTranspose((3,), (2,), (1,), padding=(0,), output_padding=(2,)).out_size(0, 4),
            "=1 or less, or stride=3",
        ),
        (lambda: Pool("avg", (2,), (2,), (0,), (2,)), "takes no dilation"),
        (lambda: Pool("lp", (2,), (2,), (1,), (1,)), "takes no padding"),
        (lambda: Pool("avg", *[(4, 4, 4)] * 2, *[(1, 1, 1)] * 2).out_size(0, 3), "kernel_size=3 would work"),
        (lambda: PixelShuffle(3).out_channels_for(8), "What would work: 9 channels"),
        (lambda: PixelUnshuffle(3).out_size(0, 8), "What would work: an input of 6 or 9"),
        (lambda: Upsample(2, (4, 4), mode="linear"), "What would work: nearest, nearest-exact, area, bilinear"),
        (lambda: Upsample(1, scale=(0.1,)).out_size(0, 5), "scale=0.2 or more"),
        (lambda: Norm("group", num_groups=30).fit((64, 4)), "num_groups=32"),
    ],
)
def test_refusals_of_options(build: object, message: str) -> None:
    with pytest.raises(ShapeError, match=re.escape(message)):
        build()  # type: ignore[operator]


@pytest.mark.parametrize(("size", "kernel", "stride"), list(product((10, 57, 223, 224), (2, 3, 5, 7), (2, 3, 4))))
def test_hints_read_the_lost_positions(size: int, kernel: int, stride: int) -> None:
    """What a hint proposes leaves nothing unread at the right end."""
    for layer in (
        Conv((kernel,), (stride,), (1,), padding=(0,)),
        Pool("max", (kernel,), (stride,), (0,), (1,)),
    ):
        border = layer.border(0, size)
        assert border is not None
        if border.hint is None:
            assert border.unread_right == 0
            continue
        option, promised = re.fullmatch(r"(.*) gives (\d+)", border.hint).groups()  # type: ignore[union-attr]
        mended, new_size = layer, size
        if option.startswith("padding="):
            mended = Conv((kernel,), (stride,), (1,), padding=(int(option[8:]),))
        elif option == "ceil_mode=True":
            mended = Pool("max", (kernel,), (stride,), (0,), (1,), ceil_mode=True)
        else:
            new_size = int(option.removeprefix("an input of "))
        assert mended.out_size(0, new_size) == int(promised)
        assert mended.border(0, new_size).unread_right == 0  # type: ignore[union-attr]
