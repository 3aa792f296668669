"""The rules of the house (CONTRIBUTING.md), checked."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "dlkit"
FILES = sorted(PACKAGE.rglob("*.py"))
NAMELESS = {"utils.py", "util.py", "helpers.py", "common.py", "manager.py", "misc.py", "handler.py"}
# a layer may import itself and what stands to its right
LAYERS = {
    "cli": {"quantize", "prune", "core", "config", "registry", "schedules", "shapes"},
    "quantize": {"core", "config", "registry", "schedules", "shapes"},
    "prune": {"core", "config", "registry", "schedules", "shapes"},
    "core": {"config", "registry", "schedules", "shapes"},
    "config": {"registry", "schedules", "shapes"},
    "registry": set(),
    "schedules": {"registry"},
    "shapes": set(),
}
BOTTOM = {"errors", "events", "event_lines"}
HEAVY = {"torch", "torchvision", "torchmetrics", "matplotlib", "tensorboard"}


def layer_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def imported_modules(nodes):
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def test_there_is_a_house():
    assert len(FILES) > 80


@pytest.mark.parametrize("path", [path for path in FILES if len(path.relative_to(PACKAGE).parts) > 1], ids=str)
def test_imports_point_down(path):
    layer = layer_of(path)
    for module in imported_modules(ast.walk(tree_of(path))):
        parts = module.split(".")
        if parts[0] == "dlkit" and len(parts) > 1:
            assert parts[1] in LAYERS[layer] | BOTTOM | {layer}, f"{path} imports {module}"


COMMANDS = {
    "train",
    "eval",
    "predict",
    "listing",
    "doctor",
    "config",
    "lr_plot",
    "lr_find",
    "shapecalc",
    "convert",
    "prune",
    "bench",
    "export",
    "inspect",
    "quantize",
}


@pytest.mark.parametrize("path", sorted((PACKAGE / "cli").glob("*.py")), ids=str)
def test_commands_do_not_import_each_other(path):
    if path.stem in COMMANDS:
        others = {f"dlkit.cli.{name}" for name in COMMANDS - {path.stem}}
        assert not others & set(imported_modules(ast.walk(tree_of(path))))


@pytest.mark.parametrize("path", FILES, ids=str)
def test_torch_stays_below(path):
    if layer_of(path) in {"core", "quantize", "prune"}:
        return
    for module in imported_modules(tree_of(path).body):
        parts = module.split(".")
        assert parts[0] not in HEAVY, f"{path} imports {module} at module level"
        assert parts[:2] not in (["dlkit", "core"], ["dlkit", "quantize"], ["dlkit", "prune"]), (
            f"{path} imports {module}"
        )


@pytest.mark.parametrize("path", FILES, ids=str)
def test_rich_is_imported_by_the_console_only(path):
    if path != PACKAGE / "cli" / "console.py":
        assert "rich" not in {module.split(".")[0] for module in imported_modules(ast.walk(tree_of(path)))}


@pytest.mark.parametrize("path", FILES, ids=str)
def test_sizes_and_names(path):
    lines = path.read_text(encoding="utf-8").count("\n")
    assert lines <= 300, f"{path} has {lines} lines"
    assert path.name not in NAMELESS
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = node.end_lineno - node.lineno + 1
            assert length <= 40, f"{path}:{node.lineno} {node.name} has {length} lines"


def test_core_never_prints():
    for path in FILES:
        if layer_of(path) != "cli":
            calls = [
                node
                for node in ast.walk(tree_of(path))
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
            ]
            assert not [node for node in calls if node.func.id == "print"], path


def heavy_modules_after(code):
    """Which heavy modules are loaded after running code in a fresh process."""
    code += f"\nimport sys\nprint(sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    return done.stdout.strip().splitlines()[-1]


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["quantize", "--help"], ["quantize", "x.pt"], ["inspect", "--help"], ["train", "--help"],
     ["eval", "--help"], ["bench", "--help"], ["bench", "x.pt", "--batch", "0"],
     ["config", "check", "examples/digits.yaml"], ["config", "schema"], ["list"],
     ["list", "models"], ["config", "init", "--help"], ["train", "examples/digits.yaml", "optimizer.lrr=1"],
     ["lr-find", "--help"], ["lr-find", "examples/digits.yaml", "--lo", "0"],
     ["lr-plot", "cosine", "--lr", "0.1", "--epochs", "9", "--steps-per-epoch", "39"]],
    ids=" ".join,
)  # fmt: skip
def test_these_never_import_torch(arguments):
    command = f"import sys\nsys.argv = ['dlkit', *{arguments!r}]\nfrom dlkit.cli.app import main\n"
    assert heavy_modules_after(command + "try:\n    main()\nexcept SystemExit:\n    pass") == "[]"


def test_importing_dlkit_costs_nothing():
    assert heavy_modules_after("import dlkit") == "[]"
