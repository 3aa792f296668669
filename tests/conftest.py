"""The command line as a function: exit code and what it printed. Signals and threads as every test may rely on them."""

import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

# before torch loads: threads that wait spin otherwise, which on a busy machine makes everything many times slower
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

SIMULATION = str(Path(__file__).resolve().parent / "simulation")
EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--simulate-windows", action="store_true", help="Run dlkit without what Windows lacks.")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--simulate-windows") and SIMULATION not in sys.path:
        # before anything of dlkit is imported, here and in the processes that tests start
        os.environ["DLKIT_SIMULATE_WINDOWS"] = "1"
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (SIMULATION, os.environ.get("PYTHONPATH"))))
        sys.path.append(SIMULATION)
        import windows

        windows.simulate()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--simulate-windows"):
        for item in items:
            if item.get_closest_marker("posix"):
                item.add_marker(pytest.mark.skip(reason="needs what Windows lacks"))


@dataclass(frozen=True)
class Outcome:
    """What a command did."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session", autouse=True)
def _signals_as_in_a_terminal() -> None:
    """Python's own handlers, also where the parent ignored signals: `nohup` does, and a shell does for what it puts in the
    background. Processes that tests start inherit the same.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


@pytest.fixture
def dlkit(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """`dlkit("train", path)` runs the command in this process, through the same `main` as the console script.

    With `columns` its output is a terminal of that width.
    """
    from dlkit.cli.app import main

    def run(*arguments: object, columns: int | None = None) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["dlkit", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", str(columns or 120))
        monkeypatch.setattr(sys.stdout, "isatty", lambda: columns is not None)
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Int8 files are loaded again in this process and pictures stay empty: a fresh process and drawing take seconds."""
    really_run = subprocess.run

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        if command[1:2] != ["-m"]:
            return really_run(command, **options)
        monkeypatch.setattr(sys, "argv", command[2:])
        runpy.run_module(command[2], run_name="__main__")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda *_, **__: None)


@pytest.fixture
def write_config(tmp_path: Path) -> Callable[[str], Path]:
    """A YAML file with this text."""

    def write(text: str, name: str = "cfg.yaml") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def same() -> Callable[[Any, Any], bool]:
    """Whether two nests of tensors and values are equal to the bit."""
    import torch

    def are_same(first: Any, second: Any) -> bool:
        if isinstance(first, torch.Tensor):
            return torch.equal(first, second)
        if isinstance(first, dict):
            return first.keys() == second.keys() and all(are_same(first[key], second[key]) for key in first)
        if isinstance(first, list | tuple):
            return len(first) == len(second) and all(map(are_same, first, second))
        return bool(first == second)

    return are_same
