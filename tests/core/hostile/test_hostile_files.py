"""A sample of the hostile files; `python tests/core/hostile` runs them all."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.anew
@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="files are tried in forked children")
def test_a_sample_runs_no_code_and_ends_in_words(tmp_path):
    """Each 40th crafted file and some mutants: no code, no traceback, no exit 1, at most 1 GB and 5 s."""
    command = [sys.executable, str(Path(__file__).parent), "--every", "40", "--mutants", "60"]
    done = subprocess.run(
        [*command, "--json", str(tmp_path / "report.json")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert report["files"] > 150 and report["code executed"] == report["tracebacks"] == report["exit 1"] == 0
    assert {"0", "2", "3", "4"} <= set(report["exit codes"])
