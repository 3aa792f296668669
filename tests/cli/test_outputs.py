"""Every command that writes a file: one that is there stays, unless --force is given."""

import inspect
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from typer.main import get_command

import dlkit as package
from dlkit.cli.app import app

CONFIG = """
data: {name: digits, limit: 64, batch_size: 32}
model: {name: mlp, hidden: [4]}
train: {epochs: 1}
log: {tensorboard: false}
"""
# of each command the parameter that names the file
WRITING = {
    "config init: path": "config init out.yaml",
    "config schema: output": "config schema -o out.json",
    "convert: new": "convert model.pt out.pt",
    "eval: confusion": "eval model.pt --confusion out.png",
    "eval: reliability": "eval model.pt --reliability out.png",
    "eval: worst": "eval model.pt --worst out.png",
    "eval: output": "eval model.pt --fit-temperature -o out.pt",
    "export: output": "export model.pt --format state-dict -o out.pt",
    "lr-find: output": "lr-find cfg.yaml -o out.csv",
    "lr-plot: output": "lr-plot cosine -o out.csv",
    "predict: out": "predict model.pt cfg.yaml -o out.csv",
    "prune: output": "prune model.pt --amount 50% -o out.pt",
    "prune: output of --scan": "prune model.pt --scan -o out.png",
    "report: output": "report run -o out.html",
    "quantize: output": "quantize model.pt --dynamic -o out.pt",
    "quantize: output of --sensitivity": "quantize model.pt --sensitivity -o out.json",
}
RUN_FOLDERS = {"train: out", "sweep: out"}  # never replaced
MASK_FOLDERS = {"predict: masks"}  # whose files stay, see tests/cli/test_segmentation.py; and --overlays likewise
READ = {"cfg", "overlays", "config", "resume", "model", "models", "inputs", "file", "old", "runs", "folders"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    (folder / "cfg.yaml").write_text(CONFIG)
    return package.train(folder / "cfg.yaml", out=folder / "run").model_path


@pytest.mark.parametrize("line", WRITING.values(), ids=WRITING.keys())
def test_a_file_that_is_there_stays(dlkit: Any, trained: Path, tmp_path: Path, monkeypatch: Any, line: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.pt").write_bytes(trained.read_bytes())
    (tmp_path / "cfg.yaml").write_text(CONFIG)
    if "run" in line.split():
        shutil.copytree(trained.parent, tmp_path / "run")
    name = next(word for word in line.split() if word.startswith("out."))
    (tmp_path / name).write_text("mine")
    done = dlkit(*line.split())
    assert (done.code, done.err.splitlines()[-1]) == (
        2,
        f"error: {name} is there already; give another name, or --force",
    )
    assert (tmp_path / name).read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        {"model.pt", "cfg.yaml", name} | {"run"} & set(line.split())
    )


@pytest.mark.parametrize("name", ["config init: path", "config schema: output", "convert: new", "lr-plot: output"])
def test_force_replaces_it(dlkit: Any, trained: Path, tmp_path: Path, monkeypatch: Any, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.pt").write_bytes(trained.read_bytes())
    line = WRITING[name].split()
    out = tmp_path / next(word for word in line if word.startswith("out."))
    out.write_text("mine")
    assert dlkit(*line, "--force").code == 0
    assert out.read_bytes() != b"mine"


def commands_of(group: Any, words: str = "") -> Iterator[tuple[str, Any]]:
    for name in group.commands:
        command = group.imported(name)
        yield from commands_of(command, f"{name} ") if hasattr(command, "commands") else [(words + name, command)]


def path_parameters(command: Any) -> Iterator[str]:
    hints = get_type_hints(inspect.unwrap(command.callback))
    for param in command.params:
        if "Path" in str(hints.get(param.name)):
            yield param.name


def test_no_command_that_writes_is_left_out() -> None:
    commands = dict(commands_of(get_command(app)))
    paths = {f"{name}: {param}" for name, command in commands.items() for param in path_parameters(command)}
    written = {path for path in paths if path.rpartition(" ")[2] not in READ}
    assert written == {name.partition(" of ")[0] for name in WRITING} | RUN_FOLDERS | MASK_FOLDERS
    for name in written - RUN_FOLDERS:
        assert any("--force" in param.opts for param in commands[name.partition(":")[0]].params), name
