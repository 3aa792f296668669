"""Chains against the torch network that their own lines build, and their mistakes explained."""

from math import prod

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import dlkit.core.models
from dlkit.shapes import (
    KINDS,
    ChainError,
    ShapeError,
    build_layer,
    chain_totals,
    find_fixes,
    parse_chain,
    parse_step,
    run_chain,
    valid_chain_sizes,
)

CHAINS = [
    (
        "conv 64 k7 s2 p3; bn; relu; maxpool k3 s2 p1; conv 128 k3,5 s1,2 p1 nobias; gelu; gap; flatten; linear 10",
        (3, 64, 64),
    ),
    (
        "(conv 16 k3 same; groupnorm 4; silu) x3; avgpool 2; adaptive 3,5; dropout 0.2; flatten; linear 7 nobias",
        (3, 33, 20),
    ),
    ("linear 32; layernorm; prelu; linear 4; layernorm noaffine; rmsnorm noaffine", (10,)),
    ("avgpool 3 p1 count_include_pad=false divisor_override=2; lppool k2 norm_type=1.5", (3, 9, 9)),
    ("conv 8 k5 d2 p4; instancenorm; leaky_relu; maxpool 3 s1 p1 ceil; tconv 4 k4 s2 p1 op1 g2", (4, 50)),
    ("conv 6 k3 p1; dwconv 12 k3 p1; lppool k2 s2; up x2 trilinear; rmsnorm", (2, 9, 8, 7)),
    ("conv 16 k3 p1; pixelshuffle 2; pixelunshuffle 2; unfold k2 s2; fold out=8,8 k2 s2", (3, 8, 8)),
    ("linear 48; unflatten 3x4x4; upsample size=9,9 bicubic; conv 2 k3 reflect p2; lrn; adaptivemax 2", (5,)),
]


def build(text: str, shape: tuple[int, ...]) -> nn.Module:
    codes = [row.torch_code for row in run_chain(parse_chain(text), shape)]
    with torch.device("meta"):
        return nn.Sequential(*(eval(code) for code in codes))


@pytest.mark.parametrize(("text", "shape"), CHAINS)
def test_every_row_equals_the_torch_network(text: str, shape: tuple[int, ...]) -> None:
    rows = run_chain(parse_chain(text), shape)
    network = build(text, shape).eval()
    x = torch.empty(1, *shape, device="meta")
    for row, module in zip(rows, network, strict=True):
        counter = FlopCounterMode(display=False)
        with counter:
            x = module(x)
        assert row.shape == tuple(x.shape[1:]), row.text
        assert row.num_parameters == sum(p.numel() for p in module.parameters()), row.text
        assert 2 * row.num_macs == counter.get_total_flops(), row.text
    parameters, macs, activations = chain_totals(rows)
    assert parameters == sum(p.numel() for p in network.parameters())
    assert activations == sum(prod(row.shape) for row in rows)
    assert macs == sum(row.num_macs for row in rows)


def test_every_kind_of_layer_is_in_a_tested_chain_or_builds_by_name() -> None:
    used = {step.word for text, _ in CHAINS for step in parse_chain(text)}
    assert {kind for kind in set(KINDS) - used if KINDS[kind].options} == {"unpool"}  # see test_oracle.py
    for kind in set(KINDS) - used - {"unpool"}:
        layer = build_layer(kind, {}, dims=2)
        module = eval(layer.torch_code(), {"nn": nn, "dlkit": dlkit})
        assert sum(p.numel() for p in module.parameters()) == layer.num_parameters(), kind


UNET = "conv 8 k3 p1; save a; maxpool 2; conv 16 k3 p1; save b; maxpool 2; up x2; cat b; up x2; cat a; conv 1 k1"


def test_joins_concatenate_and_add() -> None:
    rows = run_chain(parse_chain(UNET), (3, 32, 32))
    assert [row.shape[0] for row in rows if row.text.startswith("cat")] == [32, 40]
    assert rows[-1].shape == (1, 32, 32)
    added = run_chain(parse_chain("conv 8 k3 p1; save a; conv 8 k3 p1; from a; conv 8 k1; add a"), (3, 8, 8))
    assert added[-1].shape == (8, 8, 8)
    assert added[-1].field[0].size == 3


def test_a_join_sees_what_its_widest_branch_sees() -> None:
    rows = run_chain(parse_chain("save a; conv 3 k7 p3; conv 3 k5 p2; add a"), (3, 40, 40))
    assert rows[-1].field[0].size == 11


def test_a_mismatch_names_the_step_and_what_would_work() -> None:
    steps = parse_chain(UNET)
    with pytest.raises(ChainError, match=r"32x32 here, 8x33x33 from a") as caught:
        run_chain(steps, (3, 33, 33))
    assert (caught.value.index, caught.value.text, caught.value.exit_code) == (10, "cat a", 1)
    assert len(caught.value.rows) == 9
    assert find_fixes(steps, (3, 33, 33), caught.value) == [
        "`up size=33,33` before step 10",
        "an input of 3x32x32 or 3x36x36",
    ]


@pytest.mark.parametrize(
    ("text", "shape", "fix"),
    [
        ("conv 8 k3; linear 10 in_features=288", (3, 8, 8), "`flatten` before step 2"),
        (
            "flatten; linear 10 in_features=5",
            (3, 8, 8),
            "step 2 (linear 10 in_features=5): without in_features (inferred)",
        ),
        ("save a; conv 3 k3; add a", (3, 8, 8), "step 2 (conv 3 k3): with p1"),
    ],
)
def test_fixes_name_the_step_to_change(text: str, shape: tuple[int, ...], fix: str) -> None:
    steps = parse_chain(text)
    with pytest.raises(ChainError) as caught:
        run_chain(steps, shape)
    assert fix in find_fixes(steps, shape, caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the chain is empty"),
        ("conv 8 q3", "conv takes no q; it takes kernel_size, stride"),
        ("convv 8 k3", "no layer 'convv'. Did you mean 'conv'"),
        ("conv 8 k3; (relu", "never closed"),
        ("conv 8 k3)", "has no \\("),
        ("conv 8 k", "cannot read 'k'"),
        ("conv 3x3 k3", "out_channels is one number, got '3x3'"),
        ("save", "save needs a name"),
        ("relu 3", "relu takes no number"),
        ("conv 8 kfoo=3", "conv takes no kfoo"),
    ],
)
def test_what_cannot_be_read_is_said(text: str, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        parse_chain(text)


def test_a_missing_name_is_said() -> None:
    with pytest.raises(ChainError, match="nothing is saved as 'b'; saved so far: a"):
        run_chain(parse_chain("save a; cat b"), (3, 8, 8))


def test_comments_lines_and_repeats() -> None:
    steps = parse_chain("conv 8 k3 p1  # first\n\n(relu; (conv 8 k3 p1) x2) x2 # twice\nflatten")
    assert [step.word for step in steps] == ["conv", *["relu", "conv", "conv"] * 2, "flatten"]


def test_long_and_short_options_are_the_same() -> None:
    short = parse_step("conv 8 k3,5 s2 p1 d2 g4 nobias")
    long = parse_step("nn.Conv2d out_channels=8 kernel_size=3,5 stride=2 padding = 1 dilation=2 groups=4 bias=false")
    assert short.options == long.options


def test_notes_tell_what_the_border_loses() -> None:
    (row,) = run_chain(parse_chain("conv 8 k2 s3"), (3, 10, 9))
    assert row.notes == ("axis 1: 4 of 10 input positions never read", "axis 2: 3 of 9 input positions never read")


def test_the_divisor_rule() -> None:
    found = valid_chain_sizes(parse_chain(UNET), 3, range(1, 100))
    assert (found.divisor, found.remainders, found.sizes[0]) == (4, (0,), 4)
    assert found.rule == "multiples of 4, from 4 on"
    assert valid_chain_sizes(parse_chain("conv 8 k7"), 3, range(1, 30)).rule == "every size from 7 on"
    nothing = valid_chain_sizes(parse_chain("conv 8 k50"), 3, range(1, 30))
    assert (nothing.sizes, nothing.rule) == ((), "no size from 1 to 29 passes")


def test_unknown_kinds_and_missing_options_are_said() -> None:
    with pytest.raises(ShapeError, match=r"no layer 'conw'.* Did you mean 'conv'"):
        build_layer("conw", {}, dims=2)
    with pytest.raises(ShapeError, match="kernel_size is missing"):
        build_layer("conv", {}, dims=2)
    with pytest.raises(ShapeError, match="kernel_size has 3 numbers for 2 spatial axes"):
        build_layer("conv", {"kernel_size": (1, 2, 3)}, dims=2)
    with pytest.raises(ShapeError, match="scale_factor has 2 numbers for 3 spatial axes"):
        build_layer("upsample", {"scale_factor": (1.5, 2.0)}, dims=3)
