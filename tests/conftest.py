"""The command line as a function: exit code and what it printed. Signals and threads as every test may rely on them."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

# before torch loads: threads that wait spin otherwise, which on a busy machine makes everything many times slower
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
if "PYTEST_XDIST_WORKER" in os.environ:  # there is one for each core
    os.environ.setdefault("OMP_NUM_THREADS", "1")

SIMULATION = str(Path(__file__).resolve().parent / "simulation")
EXAMPLES = Path(__file__).resolve().parent.parent / "examples"

# where processes that tests start find the tests' own functions; the last place, so that the dlkit that is installed comes first
sys.path.append(str(EXAMPLES.parent))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--simulate-windows", action="store_true", help="Run dlkit without what Windows lacks.")


def pytest_configure(config: pytest.Config) -> None:
    config.option.loadscopereorder = False  # pytest-xdist keeps our order
    if config.getoption("--simulate-windows") and SIMULATION not in sys.path:
        # before anything of dlkit is imported, here and in the processes that tests start
        os.environ["DLKIT_SIMULATE_WINDOWS"] = "1"
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (SIMULATION, os.environ.get("PYTHONPATH"))))
        sys.path.append(SIMULATION)
        import windows

        windows.simulate()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    # files with slow tests first, so that in the end no process of pytest-xdist waits long for another
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
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


@pytest.fixture(scope="session")
def _popen() -> Iterator[type[subprocess.Popen[Any]]]:
    if sys.platform == "linux":  # elsewhere it is unsafe to fork once torch is there
        from tests.preloaded import SERVER, Preloaded

        yield Preloaded
        SERVER.close()
    else:
        yield subprocess.Popen


@pytest.fixture(autouse=True)
def _processes_start_at_once(
    _popen: type[subprocess.Popen[Any]], request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`sys.executable -m dlkit ...` is forked from a process that has imported torch, which takes seconds."""
    if not request.node.get_closest_marker("anew"):
        monkeypatch.setattr(subprocess, "Popen", _popen)


@pytest.fixture(autouse=True)
def _ends_in_time(_processes_start_at_once: None) -> Iterator[None]:
    if sys.platform == "linux":
        from tests.hanging import watched
        from tests.preloaded import SERVER

        with watched(lambda: SERVER.pids):
            yield
    else:
        yield


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures stay empty: drawing takes seconds."""
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
def straight_and_resumed(tmp_path: Path) -> Callable[..., list[dict[str, Any]]]:
    """`straight_and_resumed(config, step)` trains in run/ to the end, and in again/ from the checkpoint of a step on, with another
    config if one is given; both last checkpoints.
    """
    import dlkit
    from dlkit.core.training import Resume
    from dlkit.core.training.folder import read_checkpoint

    def train(config: Any, step: int, *, later: Any = None) -> list[dict[str, Any]]:
        dlkit.train(config, out=tmp_path / "run")
        middle = shutil.copy(tmp_path / "run" / "checkpoints" / f"step-{step:09}.pt", tmp_path / "middle.pt")
        dlkit.train(later or config, out=tmp_path / "again", resume=Resume(Path(middle)))
        return [read_checkpoint(tmp_path / name / "checkpoints" / "last.pt") for name in ("run", "again")]

    return train


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
