"""The commands of `dlkit shapecalc`: what they print, their JSON, their exit codes, and that they stay light."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from dlkit.cli.shapecalc import app
from dlkit.errors import DlkitError

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    assert max(map(len, result.stdout.splitlines()), default=0) <= 80, result.stdout
    return result.stdout


def facts(*arguments: str) -> dict[str, Any]:
    result = CliRunner().invoke(app, [*arguments, "--json"])
    assert result.exit_code in (0, 1), result.output
    found: dict[str, Any] = json.loads(result.stdout)
    assert found["schema"] == "dlkit.shapecalc/1"
    return found


def failure(*arguments: str) -> DlkitError:
    result = CliRunner().invoke(app, list(arguments))
    assert isinstance(result.exception, DlkitError), result.output
    return result.exception


def test_a_convolution_with_everything() -> None:
    text = run("conv", "--in", "3x224x224", "--k", "7", "--s", "2", "--p", "3", "--c-out", "64")
    assert "64x112x112" in text
    assert "112 = floor((224 + 2*3 - 1*(7-1) - 1) / 2) + 1" in text
    assert "118,013,952 (118.01 M); FLOPs = 2 MACs = 236,027,904" in text
    assert "nn.Conv2d(3, 64, 7, stride=2, padding=3)" in text
    assert "receptive field 7; jump 2" in text


def test_long_names_are_the_same() -> None:
    short = facts("conv", "--in", "4x9x9", "--k", "3", "--s", "2", "--p", "1", "--d", "2", "--g", "2", "--c-out", "6")
    long = facts(
        *("conv", "--input", "4x9x9", "--kernel-size", "3", "--stride", "2", "--padding", "1", "--dilation", "2"),
        *("--groups", "2", "--out-channels", "6"),
    )
    assert short == long
    assert short["out_shape"] == [6, 4, 4]
    assert (short["parameters"], short["flops"]) == (6 * 2 * 9 + 6, 2 * short["macs"])


def test_without_an_input_there_is_the_formula_and_a_table() -> None:
    text = run("conv", "--k", "3", "--s", "2")
    assert "floor((in - 1) / 2)" in text
    assert "in   32  56  64  112  224  256  384  512" in text
    assert "out  15  27  31   55  111  127  191  255" in text
    assert facts("conv", "--k", "64")["table"][0]["out"] is None


def test_a_lost_column_is_seen_explained_and_mended() -> None:
    text = run("conv", "--in", "224", "--k", "3", "--s", "2", "--draw")
    assert "1 input position at the right end of 224 is never read" in text
    assert "padding=1 gives 112" in text
    assert text.rstrip().endswith("!")
    (axis, _) = facts("conv", "--in", "224", "--k", "3", "--s", "2")["axes"]
    assert (axis["unread_right"], axis["leftover"], axis["hint"]) == (1, 1, "padding=1 gives 112")


@pytest.mark.parametrize(
    ("arguments", "shape"),
    [
        (("conv", "--k", "3,5", "--s", "2,1", "--in", "3x20x30", "--c-out", "2"), [2, 9, 26]),
        (("conv", "--k", "3", "--p", "same", "--dims", "1", "--in", "3x20", "--c-out", "2"), [2, 20]),
        (("conv", "--k", "3", "--in", "1x3x20x30", "--c-out", "2"), [2, 18, 28]),
        (("conv", "--k", "3", "--in", "2x8x20x30", "--c-out", "2"), [2, 6, 18, 28]),
        (("tconv", "--k", "4", "--s", "2", "--p", "1", "--op", "1", "--in", "3x7x7", "--c-out", "8"), [8, 15, 15]),
        (("maxpool", "--k", "3", "--s", "2", "--ceil", "--in", "8x112x112"), [8, 56, 56]),
        (("avgpool", "--k", "2", "--in", "8x7x7"), [8, 3, 3]),
        (("lppool", "--k", "2", "--in", "8x7x7"), [8, 3, 3]),
        (("adaptive", "--out", "7,3", "--in", "8x20x20"), [8, 7, 3]),
        (("upsample", "--scale", "1.5", "--in", "8x5x5"), [8, 7, 7]),
        (("upsample", "--scale", "2", "--mode", "linear", "--in", "8x5"), [8, 10]),
        (("upsample", "--scale", "2", "--mode", "linear", "--in", "1x8x5"), [8, 10]),
        (("upsample", "--scale", "2", "--mode", "trilinear", "--in", "8x5x5x5"), [8, 10, 10, 10]),
        (("upsample", "--size", "9", "--mode", "linear", "--in", "8x5", "--dims", "1"), [8, 9]),
        (("pixelshuffle", "--r", "2", "--in", "8x5x5"), [2, 10, 10]),
        (("pixelshuffle", "--r", "5", "--down", "--in", "8x5x5"), [200, 1, 1]),
        (("unpool", "--k", "2", "--in", "8x5x5", "--out", "11"), [8, 11, 11]),
        (("linear", "--in", "512", "--out", "10"), [10]),
        (("flatten", "--in", "512x7x7"), [25088]),
        (("norm", "group", "--in", "64x5x5"), [64, 5, 5]),
        (("unfold", "--k", "3", "--in", "3x8x8"), [27, 36]),
        (("fold", "--k", "3", "--out", "8", "--in", "27x36"), [3, 8, 8]),
    ],
)
def test_every_layer_has_a_command(arguments: tuple[str, ...], shape: list[int]) -> None:
    assert facts(*arguments)["out_shape"] == shape
    assert "torch" in run(*arguments)


def test_a_transposed_convolution_is_explained_step_by_step() -> None:
    text = run("tconv", "--k", "3", "--s", "2", "--p", "1", "--in", "3", "--explain")
    assert "2. put stride-1 = 1 zeros between neighbours: 5x5" in text
    assert "4. flip the kernel" in text
    assert "5. slide it with stride 1: 5x5" in text


def test_the_explanation_of_one_dimension_is_a_row_and_of_unequal_axes_names_both() -> None:
    text = run("tconv", "--k", "3", "--s", "2", "--dims", "1", "--explain")
    assert "1. image 1x3" in text
    assert "5. slide it with stride 1: 1x7" in text
    both = run("tconv", "--k", "3,2", "--s", "2,1", "--op", "1,0", "--in", "3", "--explain")
    assert "put stride-1 = 1 down, 0 across zeros" in both
    assert "1*(3-1) - 0 = 2 down, 1*(2-1) - 0 = 1 across" in both
    run("tconv", "--k", "11", "--s", "4", "--d", "2", "--op", "1", "--in", "9", "--explain")  # fits 80 columns


def test_the_explanation_is_in_the_json_too() -> None:
    found = facts("tconv", "--k", "2", "--s", "2", "--in", "3", "--explain")["explain"]
    assert found["flipped"] == [[4, 3], [2, 1]]
    assert len(found["output"]) == 6


def test_windows_of_axes_that_differ_are_all_listed() -> None:
    text = run("adaptive", "--out", "3,5", "--in", "12,16")
    assert "3 windows over 12:" in text
    assert "5 windows over 16:" in text
    assert facts("adaptive", "--out", "none,5", "--in", "12,16")["axes"][1]["windows"][0] == [0, 3]
    assert "nn.AdaptiveAvgPool2d((None, 5))" in run("adaptive", "--out", "none,5", "--in", "12,16")


def test_an_unpooled_size_that_was_asked_for_is_no_wrong_sum() -> None:
    assert "34 = (16-1)*2 + 3 - 2*0 + 1 by output_size" in run(
        "unpool", "--k", "3", "--s", "2", "--in", "16", "--out", "34"
    )


def test_adaptive_windows_are_listed() -> None:
    text = run("adaptive", "--out", "4", "--in", "10")
    assert "0..2 (3)          2..4 (3)          5..7 (3)          7..9 (3)" in text


def test_interpolation_that_rounds_down_is_pointed_out() -> None:
    assert "falls just short of 120: say size=120" in run("upsample", "--scale", str(120 / 88), "--in", "88")


def test_solve_lists_usual_solutions_first() -> None:
    lines = run("solve", "conv", "--in", "224", "--out", "112").splitlines()
    assert lines[1].split() == ["3", "2", "1", "1", "1", "padding", "223..224", "usual"]
    assert "op" in run("solve", "tconv", "--in", "7", "--out", "14").splitlines()[0].split()
    solutions = facts("solve", "conv", "--out", "112", "--k", "3", "--s", "2", "--p", "1")["solutions"]
    assert solutions[0]["inputs"] == [[223, 224]]
    assert "more with --all" in run("solve", "conv", "--in", "224", "--out", "112", "--d", "?")
    assert facts("solve", "maxpool", "--in", "7", "--out", "50")["solutions"] == []


CHAIN = "conv 64 k7 s2 p3; bn; relu; maxpool k3 s2 p1; save a; conv 128 k3 s2 p1; up x2; cat a; gap; flatten; linear 10"


def test_a_chain_is_a_table() -> None:
    text = run(
        "chain", "3x224x224", CHAIN, "--rf", "--check", "out=10", "--check", "params<=90k", "--check", "macs<=1G"
    )
    assert "  6  conv 128 k3 s2 p1  128x28x28   73.9 k  57.8 M    19     8" in text
    assert "FLOPs = 2 MACs" in text
    found = facts("chain", "3x224x224", CHAIN)
    assert [row["out_shape"] for row in found["layers"]][-1] == [10]
    assert found["total"]["parameters"] == sum(row["parameters"] for row in found["layers"])


def test_a_mismatch_exits_with_1_and_says_what_would_work() -> None:
    error = failure("chain", "3x225x225", CHAIN.replace("maxpool k3 s2 p1", "maxpool k3 s2 p1 ceil"))
    assert error.exit_code == 1
    assert "step 8 (cat a): cat needs equal sizes: 128x58x58 here, 64x57x57 from a" in str(error)
    assert "would work: an input of 3x222x222 or 3x227x227" in str(error)
    broken = facts("chain", "3x8x8", "conv 4 k3; linear 5 in_features=144")
    assert (broken["error"]["index"], broken["error"]["would_work"][0]) == (2, "`flatten` before step 2")


@pytest.mark.parametrize("demand", ["out=11", "params<=1k", "macs=5"])
def test_a_failed_check_exits_with_1(demand: str) -> None:
    assert failure("chain", "3x32x32", "conv 64 k3 p1; gap; flatten; linear 10", "--check", demand).exit_code == 1


def test_a_chain_comes_from_a_file_and_prints_its_code(tmp_path: Path) -> None:
    file = tmp_path / "net.txt"
    file.write_text("conv 8 k3 p1  # stem\nrelu\n")
    assert run("chain", "3x8x8", str(file), "--code").splitlines() == [
        "nn.Sequential(",
        "    nn.Conv2d(3, 8, 3, padding=1),",
        "    nn.ReLU(),",
        ")",
    ]


LAYERS = """
model:
  name: layers
  layers:
    - {conv: {out: 16, kernel: 3, padding: same}}
    - repeat: 2
      layers: [{residual: [{conv: {out: 16, padding: 1}}, batchnorm, relu]}]
    - {maxpool: 2}
    - sequential: [{groupnorm: {groups: 4}}, {dropout: 0.1}]
    - globalavgpool
    - {linear: auto}
"""


def test_a_chain_comes_from_the_layers_of_a_config(tmp_path: Path) -> None:
    file = tmp_path / "cfg.yaml"
    file.write_text(LAYERS)
    found = facts("chain", "3x16x16", str(file), "--num-classes", "7")
    assert found["layers"][-1]["out_shape"] == [7]
    assert found["total"]["parameters"] == 16 * 28 + 2 * (16 * 145 + 32) + 32 + 17 * 7
    assert "--num-classes" in str(failure("chain", "3x16x16", str(file)))


def test_sizes_gives_the_divisor_rule() -> None:
    text = run("sizes", "maxpool 2; maxpool 2; up x4; save a; from a", "--range", "1..64")
    assert "every size from 4 on" in text
    joined = "save a; maxpool 2; maxpool 2; up x4; cat a"
    assert "multiples of 4, from 4 on" in run("sizes", joined, "--range", "1..64")
    assert failure("sizes", "conv 8 k50", "--range", "1..9").exit_code == 1


def test_sizes_takes_models_too(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "import torch\nclass Net(torch.nn.Module):\n    def forward(self, x):\n"
        "        up = torch.nn.functional.interpolate(torch.nn.functional.avg_pool2d(x, 2), scale_factor=2.0)\n"
        "        return torch.cat([x, up], 1)\n"
    )
    assert "multiples of 2, from 2 on" in run("sizes", f"{tmp_path / 'net.py'}:Net", "--range", "1..12")
    assert "no model 'resnet19'" in str(failure("sizes", "resnet19"))


def test_mistakes_in_a_chain_have_a_place(tmp_path: Path) -> None:
    assert str(failure("chain", "3x9x9", "conv 4 k3; (relu; pol 2) x2")).startswith("column 19: no layer 'pol'")
    file = tmp_path / "net.txt"
    file.write_text("conv 4 k3\nrelu  # pol 2\nbn; pol 2\n")
    assert str(failure("chain", "3x9x9", str(file))).startswith("line 3, column 5: no layer 'pol'")
    assert "gives out_channels a second time" in str(failure("chain", "3x9x9", "conv 4 8 k3"))
    assert str(failure("chain", "3x9x9", "nowhere.txt")).startswith("no file nowhere.txt")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("solve", "conv", "--in", "9", "--out", "9", "--p", "same"), "--p 'same' is not a number; write 1"),
        (
            ("conv", "--k", "7", "--in", "5"),
            "What would work: an input of at least 7, padding=1, kernel_size=5 or less",
        ),
        (("conv", "--k", "3", "--g", "3", "--in", "4x9x9"), "in_channels 4 is not divisible by groups 3"),
        (("tconv", "--k", "3", "--s", "2", "--op", "2", "--in", "5"), "What would work: output_padding=1 or less"),
        (("conv", "--k", "three"), "--k 'three' is not a number"),
        (("conv", "--k", "3", "--in", "3x4x5x6x7x8"), "has 6 numbers"),
        (("upsample", "--in", "5"), "a size or a scale factor is missing"),
        (
            ("upsample", "--scale", "2", "--mode", "linear", "--in", "3x32x32"),
            "'linear' does not take 2 spatial axes. What would work",
        ),
        (
            ("upsample", "--scale", "2", "--mode", "linear", "--in", "32,32"),
            "'linear' does not take 2 spatial axes. What would work",
        ),
        (
            ("upsample", "--scale", "2", "--mode", "trilinear", "--in", "3x32x32"),
            "'trilinear' does not take 2 spatial axes",
        ),
        (
            ("upsample", "--scale", "2", "--mode", "trilinear", "--in", "8,8"),
            "'trilinear' does not take 2 spatial axes",
        ),
        (
            ("upsample", "--scale", "2", "--mode", "bilinear", "--in", "3x8x8x8"),
            "'bilinear' does not take 3 spatial axes",
        ),
        (("upsample", "--in", "5", "--size", "3", "--scale", "2"), "either a size or a scale factor"),
        (("conv", "--k", "3", "--padding-mode", "mirror"), "zeros, reflect, replicate, circular"),
        (("conv", "--k", "3,3,3,3"), "at most 3 spatial axes"),
        (("conv", "--k", "3", "--in", "9,9,9,9"), "at most 3 spatial axes"),
        (("adaptive", "--out", "seven"), "--out 'seven' is not a number"),
        (("tconv", "--k", "1", "--p", "40", "--in", "99", "--explain"), "try it with less padding"),
        (("upsample", "--scale", "two"), "--scale 'two' is not a number"),
        (("solve", "conv", "--out", "9"), "give --k"),
        (("solve", "conv", "--in", "9", "--out", "99"), "turns 9 into 99"),
        (("chain", "3x8x8", "conv 4 k3", "--check", "size=3"), "write out=112"),
        (("sizes", "conv 4 k3", "--range", "9..3"), "write 32..512"),
        (("linear", "--in", "5x0", "--out", "3"), "at least 1"),
    ],
)
def test_wrong_usage_exits_with_2_in_words(arguments: tuple[str, ...], message: str) -> None:
    error = failure(*arguments)
    assert error.exit_code == 2
    assert message in str(error)


def test_a_model_is_measured_without_memory() -> None:
    text = run("model", "resnet18", "--depth", "1")
    assert "1,814,073,344 (1.81 G); FLOPs = 2 MACs" in text
    assert "none: every operator has a formula" in text
    found = facts("model", "resnet18", "--batch", "2")
    assert (found["macs"], found["parameters"]) == (2 * 1_814_073_344, 11_689_512)
    assert found["training_bytes"] > 4 * found["parameter_bytes"]


def test_models_are_compared_and_their_fields_shown() -> None:
    text = run("model", "resnet18", "--diff", "resnet34")
    assert re.search(r"layer3 +256x14x14 +2.1 M > 6.82 M +411 M > 1.34 G", text)
    assert re.search(r"layer3.5 +- > 256x14x14 +- > 1.18 M +- > 231 M", text)
    assert "... 40 more with --json" in text
    diff = facts("model", "resnet18", "--diff", "resnet34")
    assert diff["other"]["parameters"] == 21_797_672
    fields = run("model", "resnet18", "--rf", "--depth", "1")
    assert "layer3   Sequential               211    16" in fields
    assert "every size from 63 on" in run("model", "alexnet", "--range", "60..70")


def test_a_model_of_ones_own_needs_its_input(tmp_path: Path) -> None:
    file = tmp_path / "net.py"
    file.write_text("from torch import nn\n\ndef net():\n    return nn.Embedding(100, 8)\n")
    assert "give --input" in str(failure("model", f"{file}:net"))
    assert facts("model", f"{file}:net", "--input", "12:int64")["parameters"] == 800
    assert "is no torch type" in str(failure("model", f"{file}:net", "--input", "12:string"))


def test_every_command_is_documented() -> None:
    text = (ROOT / "docs" / "commands" / "shapecalc.md").read_text(encoding="utf-8")
    for name in get_command(app).commands:
        assert f"shapecalc {name}" in text, name


LIGHT = """
import sys
from dlkit.cli.shapecalc import app
app({arguments!r}, standalone_mode=False)
print([name for name in ("torch", "rich", "yaml", "numpy", "matplotlib") if name in sys.modules], file=sys.stderr)
"""


@pytest.mark.parametrize("arguments", [["conv", "--k", "3", "--s", "2"], ["chain", "3x64x64", "conv 8 k3; relu"]])
def test_nothing_heavy_is_imported(arguments: list[str]) -> None:
    code = LIGHT.format(arguments=arguments)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr.startswith("[]")


def documented_examples() -> list[tuple[str, str]]:
    """Commands of the page and what stands below each."""
    text = (ROOT / "docs" / "commands" / "shapecalc.md").read_text(encoding="utf-8")
    return re.findall(r"^```\n\$ dlkit shapecalc (.*)\n((?:.*\n)*?)```$", text, re.MULTILINE)


def test_the_page_has_examples() -> None:
    assert len(documented_examples()) >= 12


@pytest.mark.parametrize(("command", "shown"), documented_examples())
def test_examples_of_the_page_print_what_it_shows(command: str, shown: str) -> None:
    result = CliRunner().invoke(app, shlex.split(command))
    error = f"error: {result.exception}\n" if isinstance(result.exception, DlkitError) else ""
    assert (result.stdout + error).splitlines() == shown.splitlines()


def test_the_example_list_of_layers_costs_what_its_model_costs() -> None:
    path = str(ROOT / "examples" / "layers.yaml")
    profile = facts("model", path)
    shape = "x".join(map(str, profile["inputs"][0]["shape"]))
    chain = facts("chain", shape, path, "--num-classes", str(profile["layers"][-1]["out_shape"][-1]))
    assert chain["total"]["parameters"] == profile["parameters"]
    assert chain["total"]["macs"] == profile["macs"]
