"""SIGKILL at random moments of a run's whole life, by the script that also makes the long count."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[4] / "benchmarks" / "resume_kills.py"


@pytest.mark.slow
def test_forty_kills_change_nothing(tmp_path):
    done = subprocess.run(
        [sys.executable, SCRIPT, "--kills", "40", "--seed", "3", "--out", tmp_path],
        capture_output=True,
        text=True,
        check=False,
    )
    print(f"\n{done.stdout}")
    assert done.returncode == 0 and "all the same bits" in done.stdout, done.stdout + done.stderr
