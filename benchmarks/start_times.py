"""Claims: commands that only calculate take at most 20 times what Python itself takes to start, the first line of `dlkit train` is
there within 30 times that, and `train` begins its first step, and `eval` and `predict` are done, within 1.3 times `import torch`.

Runs each case in turn, round after round, with compiled bytecode, and prints median, least and greatest wall time and the ratio to the
baseline of the same round. Beside them stands a script of five lines that makes one step of AdamW with torch alone.

    python benchmarks/start_times.py [--rounds 9]
"""

import argparse
import os
import platform
import pty
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DIGITS = str(ROOT / "examples" / "digits.yaml")
DLKIT = [str(Path(sys.executable).with_name("dlkit"))]  # what pip installs
ENVIRONMENT = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"} | {
    "PYTHONPATH": str(ROOT)
}
BARE, TORCH = "python -c pass", "python -c 'import torch'"
ONE_STEP = """import torch
layer = torch.nn.Linear(64, 10)
optimizer = torch.optim.AdamW(layer.parameters())
layer(torch.rand(8, 64)).sum().backward()
optimizer.step()
"""


@dataclass(frozen=True)
class Case:
    """What is measured, against which other case, and how many times as long it may take."""

    name: str
    command: list[str]
    measure: Callable[[list[str]], float]
    baseline: str
    limit: float | None = None


def start(command: list[str], **streams: int) -> subprocess.Popen[bytes]:
    """A process in a folder of its own, silent but for the streams."""
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, env=ENVIRONMENT, **(silent | streams))


def until_done(command: list[str]) -> float:
    """Wall seconds of a process."""
    started = time.perf_counter()
    if start(command).wait() != 0:
        sys.exit(f"{' '.join(command)} failed")
    return time.perf_counter() - started


def until_first_line(command: list[str]) -> float:
    """Wall seconds until a terminal shows anything."""
    reader, writer = pty.openpty()
    started = time.perf_counter()
    process = start(command, stdout=writer, stderr=writer)
    os.read(reader, 1000)
    seconds = time.perf_counter() - started
    process.kill()
    process.wait()
    for end in (reader, writer):
        os.close(end)
    return seconds


def until_first_step(command: list[str]) -> float:
    """Wall seconds until `dlkit train` names its run folder: all is built, checked and opened, and the first step comes next."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        process = start([*command, "--out", f"{folder}/run"], stderr=subprocess.PIPE)
        assert process.stderr is not None
        if not any(line.startswith(b"run folder") for line in process.stderr):
            sys.exit(f"{' '.join(command)} did not begin to train")
        seconds = time.perf_counter() - started
        process.kill()
        process.wait()
        process.stderr.close()
    return seconds


def list_cases(model: Path, picture: Path) -> list[Case]:
    """All that is measured."""
    return [
        Case(BARE, [sys.executable, "-c", "pass"], until_done, BARE),
        Case("dlkit --help", [*DLKIT, "--help"], until_done, BARE, 20),
        Case("dlkit shapecalc conv", [*DLKIT, "shapecalc", "conv", "--k", "3", "--s", "2"], until_done, BARE, 20),
        Case(
            "dlkit lr-plot cosine, 35,190 steps",
            [*DLKIT, *["lr-plot", "cosine", "--lr", "0.1", "--epochs", "90", "--steps-per-epoch", "391"]],
            until_done,
            BARE,
            20,
        ),
        Case("dlkit train, first line", [*DLKIT, "train", DIGITS, "--dry-run"], until_first_line, BARE, 30),
        Case(TORCH, [sys.executable, "-c", "import torch"], until_done, TORCH),
        Case("one step of AdamW by hand", [sys.executable, "-c", ONE_STEP], until_done, TORCH),
        Case("dlkit train, first step", [*DLKIT, "train", DIGITS], until_first_step, TORCH, 1.3),
        Case("dlkit eval", [*DLKIT, "eval", str(model)], until_done, TORCH, 1.3),
        Case("dlkit predict", [*DLKIT, "predict", str(model), str(picture)], until_done, TORCH, 1.3),
    ]


def make_model(folder: Path) -> tuple[Path, Path]:
    """A model file and a picture for it."""
    from PIL import Image

    until_done([*DLKIT, "train", DIGITS, "--max-steps", "1", "--out", str(folder / "run")])
    Image.new("L", (8, 8), 100).save(folder / "picture.png")
    return folder / "run" / "model.pt", folder / "picture.png"


def show(cases: list[Case], times: dict[str, list[float]]) -> None:
    """A line per case."""
    width = max(len(case.name) for case in cases)
    for case in cases:
        found = times[case.name]
        ratios = [seconds / base for seconds, base in zip(found, times[case.baseline], strict=True)]
        ratio = statistics.median(ratios)
        verdict = "" if case.limit is None else f"  at most {case.limit:g}: {'yes' if ratio <= case.limit else 'NO'}"
        print(
            f"{case.name:{width}}  {statistics.median(found):6.3f} s ({min(found):.3f} to {max(found):.3f})"
            f"  ratio {ratio:5.2f} ({min(ratios):.2f} to {max(ratios):.2f}){verdict}"
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    if shutil.which(DLKIT[0]) is None:
        DLKIT[:] = [sys.executable, "-m", "dlkit"]
    print(
        f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}"
        f", {rounds} rounds"
    )
    with tempfile.TemporaryDirectory() as folder:
        cases = list_cases(*make_model(Path(folder)))
        times: dict[str, list[float]] = {case.name: [] for case in cases}
        for number in range(rounds + 1):
            for case in cases:
                seconds = case.measure(case.command)
                if number:  # the first round compiles bytecode
                    times[case.name].append(seconds)
        show(cases, times)


if __name__ == "__main__":
    main()
