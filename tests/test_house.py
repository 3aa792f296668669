"""The rules of the house (CONTRIBUTING.md), checked; the order of rooms is read from the picture there."""

import ast
import subprocess
import sys
from collections import Counter
from functools import cache
from importlib import import_module
from itertools import takewhile
from pathlib import Path

import pytest
from typer.main import get_command

from dlkit.cli.app import app

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "dlkit"
FILES = sorted(PACKAGE.rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
OUTSIDE = sorted(path for name in ("benchmarks", "examples") for path in (ROOT / name).rglob("*.py"))
NAMELESS = {"utils.py", "util.py", "helpers.py", "common.py", "manager.py", "misc.py", "handler.py"}
HEAVY = {"torch", "torchvision", "torchmetrics", "matplotlib", "tensorboard"}
TASKS = {"quantize", "prune", "sweep"}
FLOORS = {"dlkit", "dlkit.core", "dlkit.cli"}  # folders that hold rooms and have no door of their own
TWICE = {"Linear"}  # a layer in shapes, a schedule in schedules: the field's term for both


@cache
def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def module_of(path):
    """The dotted name of a file: `dlkit.core.data` for the door of a wing."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path) for path in FILES}
WINGS = {module_of(path.parent / "__init__.py") for path in FILES} - FLOORS


def handed_on(wing):
    """The names that a wing's door hands on; a function may be called as its file is."""
    door = tree_of(ROOT / Path(*wing.split(".")) / "__init__.py")
    return {alias.name for node in ast.walk(door) if isinstance(node, ast.ImportFrom) for alias in node.names}


HANDED_ON = {f"{wing}.{name}" for wing in WINGS for name in handed_on(wing)}


def imported_modules(nodes):
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            names = (f"{node.module}.{alias.name}" for alias in node.names)
            yield from (name for name in names if name in MODULES - HANDED_ON)


def drawn_rooms(floor):
    """The files and folders that the picture in CONTRIBUTING.md draws in a folder, from top to bottom."""
    picture = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("```")[1].splitlines()
    start = next(index for index, row in enumerate(picture) if row.split()[:1] == [f"{floor}/"])
    indent = picture[start].index(floor) + 2
    inside = takewhile(lambda row: row.startswith(" " * indent), picture[start + 1 :])
    named = [row.strip().split("  ")[0].split() for row in inside if row[indent] != " "]
    return [name.removesuffix("/").removesuffix(".py") for names in named for name in names]


def room_of(module, floor):
    """The folder or file just inside a floor that a module is in: `data` for dlkit.core.data.build in core."""
    rest = module.removeprefix(f"{floor}.")
    return None if rest == module else rest.split(".")[0]


@pytest.mark.parametrize("floor", ["dlkit", "core"])
def test_the_picture_shows_every_room(floor):
    folder = PACKAGE if floor == "dlkit" else PACKAGE / floor
    rooms = {path.stem for path in folder.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert Counter(drawn_rooms(floor)) == Counter(rooms - ({"__init__"} if floor == "core" else set()))


@pytest.mark.parametrize("path", FILES, ids=str)
@pytest.mark.parametrize("floor", ["dlkit", "core"])
def test_imports_point_down(path, floor):
    root, order = ("dlkit" if floor == "dlkit" else f"dlkit.{floor}"), drawn_rooms(floor)
    mine = room_of(module_of(path), root)
    if mine is None:
        return
    for module in imported_modules(ast.walk(tree_of(path))):
        theirs = room_of(module, root)
        if theirs is not None and theirs != mine:
            assert order.index(mine) < order.index(theirs), f"{path} imports {module}, which stands above it"
            assert not {mine, theirs} <= TASKS, f"{path} imports {module}: tasks never import each other"


@pytest.mark.parametrize("path", FILES, ids=str)
def test_nobody_inside_comes_in_by_the_public_door(path):
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ImportFrom) and node.module == "dlkit":
            names = {f"dlkit.{alias.name}" for alias in node.names}
            assert names <= MODULES | {"dlkit.__version__"}, f"{path} imports {names}, which stand above all"


@pytest.mark.parametrize("path", [*FILES, *TESTS, *OUTSIDE], ids=str)
def test_wings_are_entered_by_their_door(path):
    mine, nodes = module_of(path), list(ast.walk(tree_of(path)))
    # what a test replaces by its dotted name is entered, too
    texts = [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    texts = [text for text in texts if text.replace(".", "").isidentifier()]
    for module in [*imported_modules(nodes), *(texts if path in TESTS else ())]:
        passed = [wing for wing in WINGS if module.startswith(f"{wing}.") and not f"{mine}.".startswith(f"{wing}.")]
        if path in TESTS and module in WINGS:
            continue  # what stands inside a wing is tested by its own door
        assert not passed, f"{path} imports {module}, past the door of {min(passed, key=len)}"


def test_doors_say_what_their_wing_is_for():
    for wing in WINGS:
        text = ast.get_docstring(ast.parse((ROOT / Path(*wing.split(".")) / "__init__.py").read_text(encoding="utf-8")))
        assert text and text.splitlines()[0].endswith("."), wing


def is_lazy(wing):
    return "lazy_door" in handed_on(wing)


@pytest.mark.parametrize("wing", sorted(filter(is_lazy, WINGS)))
def test_lazy_doors_hand_on_what_they_show_to_readers(wing):
    door = import_module(wing)
    assert set(door.__all__) == handed_on(wing) - {"TYPE_CHECKING", "lazy_door"}
    # a module that is imported becomes an attribute of its wing, in place of what would be found
    assert not [name for name in door.__all__ if f"{wing}.{name}" in MODULES or not hasattr(door, name)]


def test_no_class_name_stands_twice():
    names = Counter(node.name for path in FILES for node in ast.walk(tree_of(path)) if isinstance(node, ast.ClassDef))
    assert {name for name, count in names.items() if count > 1} == TWICE


def callbacks(command):
    """The functions of a command and of those within it."""
    yield command.callback
    for name in getattr(command, "commands", ()):
        yield from callbacks(command.imported(name))


# the files and folders of cli that hold a command
COMMANDS = {room_of(callback.__module__, "dlkit.cli") for callback in callbacks(get_command(app)) if callback} - {"app"}


@pytest.mark.parametrize("path", sorted((PACKAGE / "cli").rglob("*.py")), ids=str)
def test_commands_do_not_import_each_other(path):
    mine = room_of(module_of(path), "dlkit.cli")
    if mine in COMMANDS:
        theirs = {room_of(module, "dlkit.cli") for module in imported_modules(ast.walk(tree_of(path)))}
        assert not theirs & (COMMANDS - {mine})


@pytest.mark.parametrize("path", FILES, ids=str)
def test_torch_stays_below(path):
    if room_of(module_of(path), "dlkit") in {"core", *TASKS}:
        return
    for module in imported_modules(tree_of(path).body):
        parts = module.split(".")
        assert parts[0] not in HEAVY, f"{path} imports {module} at module level"
        assert not (parts[0] == "dlkit" and parts[1:2] and parts[1] in {"core", *TASKS}), f"{path} imports {module}"


@pytest.mark.parametrize("path", FILES, ids=str)
def test_rich_is_imported_by_the_console_only(path):
    if path != PACKAGE / "cli" / "console.py":
        assert "rich" not in {module.split(".")[0] for module in imported_modules(ast.walk(tree_of(path)))}


@pytest.mark.parametrize("path", FILES, ids=str)
def test_sizes_and_names(path):
    lines = path.read_text(encoding="utf-8").count("\n")
    assert lines <= 400, f"{path} has {lines} lines"
    assert path.name not in NAMELESS
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = node.end_lineno - node.lineno + 1
            assert length <= 40, f"{path}:{node.lineno} {node.name} has {length} lines"


def test_core_never_prints():
    for path in FILES:
        if room_of(module_of(path), "dlkit") != "cli":
            calls = [
                node
                for node in ast.walk(tree_of(path))
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
            ]
            assert not [node for node in calls if node.func.id == "print"], path


def heavy_modules_after(code):
    """Which heavy modules are loaded after running code in a fresh process."""
    code += f"\nimport sys\nprint(sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return done.stdout.strip().splitlines()[-1]


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["quantize", "--help"], ["quantize", "x.pt"], ["inspect", "--help"], ["train", "--help"],
     ["eval", "--help"], ["bench", "--help"], ["bench", "x.pt", "--batch", "0"],
     ["config", "check", "examples/digits.yaml"], ["config", "schema"], ["list"], ["runs", "examples"], ["compare", "x", "y"],
     ["list", "models"], ["config", "init", "--help"], ["train", "examples/digits.yaml", "optimizer.lrr=1"],
     ["sweep", "--help"], ["sweep", "examples/digits.yaml", "optimizer.lr=0.2..0.1"],
     ["lr-find", "--help"], ["lr-find", "examples/digits.yaml", "--lo", "0"],
     ["lr-plot", "cosine", "--lr", "0.1", "--epochs", "9", "--steps-per-epoch", "39"]],
    ids=" ".join,
)  # fmt: skip
def test_these_never_import_torch(arguments):
    command = f"import sys\nsys.argv = ['dlkit', *{arguments!r}]\nfrom dlkit.cli.app import main\n"
    assert heavy_modules_after(command + "try:\n    main()\nexcept SystemExit:\n    pass") == "[]"


def test_every_door_opens_without_the_extras():
    hidden = "import sys\nfor name in ('onnx', 'onnxruntime', 'onnxscript', 'optuna', 'mlflow'):\n    sys.modules[name] = None\n"
    code = hidden + "".join(f"import {wing}\n" for wing in sorted(WINGS))
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_importing_dlkit_costs_nothing():
    assert heavy_modules_after("import dlkit") == "[]"
