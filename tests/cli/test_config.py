"""`dlkit config`, through an app of its own that turns errors into exits as the real one does."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from dlkit.cli.config import app as config_app
from dlkit.config import load_config
from dlkit.errors import ConfigError, OutputError

ROOT = Path(__file__).resolve().parents[2]
GOOD = "data: digits\nmodel: mlp\n"
WRONG = "data: digits\nmodel: mlp\ntrain:\n  epocs: 3\nseed: x\n"

app = typer.Typer()
app.add_typer(config_app, name="config")


def run(*arguments: str):
    return CliRunner().invoke(app, ["config", *arguments])


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_init_writes_a_file_that_passes_check():
    result = run("init")
    assert (result.exit_code, result.stdout) == (0, "wrote dlkit.yaml; next: dlkit train dlkit.yaml\n")
    result = run("check", "dlkit.yaml")
    assert (result.exit_code, result.stdout) == (
        0,
        "ok  data digits, model small_cnn, adamw with cosine, 10 epochs, seed 0\n",
    )


def test_init_replaces_nothing_unless_forced():
    Path("mine.yaml").write_text("mine")
    result = run("init", "mine.yaml")
    assert isinstance(result.exception, OutputError)
    assert str(result.exception) == "mine.yaml is there already; --force replaces it"
    assert Path("mine.yaml").read_text() == "mine"
    assert run("init", "mine.yaml", "--force").exit_code == 0
    assert load_config("mine.yaml").config.data.name == "digits"


def test_init_to_a_folder_that_is_not_there():
    result = run("init", "nowhere/x.yaml")
    assert isinstance(result.exception, OutputError)
    assert "nowhere/x.yaml cannot be written: No such file" in str(result.exception)


def test_init_to_stdout():
    assert run("init", "-").stdout.startswith("# A dlkit run.")


def test_check_raises_all_problems():
    Path("cfg.yaml").write_text(WRONG)
    result = run("check", "cfg.yaml", "optimizer.lr=x", "-c", "more.yaml")
    assert isinstance(result.exception, ConfigError)
    assert "more.yaml  no such file" in str(result.exception)
    Path("more.yaml").write_text("log: {every: 0}\n")
    result = run("check", "cfg.yaml", "optimizer.lr=x", "-c", "more.yaml")
    assert isinstance(result.exception, ConfigError)
    assert [problem.key for problem in result.exception.problems] == [
        "train.epocs",
        "seed",
        "log.every",
        "optimizer.lr",
    ]
    assert result.stdout == ""


def test_check_as_json():
    Path("cfg.yaml").write_text(WRONG)
    result = run("check", "cfg.yaml", "--json")
    assert result.exit_code == 2
    verdict = json.loads(result.stdout)
    assert (verdict["schema"], verdict["ok"]) == ("dlkit.config.check/1", False)
    assert verdict["problems"][0] == {
        "source": "cfg.yaml",
        "line": 4,
        "column": 3,
        "key": "train.epocs",
        "message": "unknown key. Did you mean 'epochs'?",
    }
    Path("cfg.yaml").write_text(GOOD)
    result = run("check", "cfg.yaml", "data.val=test", "--json")
    assert result.exit_code == 0
    verdict = json.loads(result.stdout)
    assert verdict["ok"] is True
    assert [warning["key"] for warning in verdict["warnings"]] == ["data.val"]


def test_check_shows_warnings_on_stderr():
    Path("cfg.yaml").write_text(GOOD)
    result = run("check", "cfg.yaml", "data.val=test")
    assert result.exit_code == 0
    assert result.stdout.startswith("ok  ")
    assert result.stderr.startswith("override 'data.val=test'  data.val: the best epoch is picked on the test split")


def test_show_merges_and_reads_back():
    Path("cfg.yaml").write_text(GOOD)
    Path("more.yaml").write_text("seed: 3\n")
    result = run("show", "cfg.yaml", "-c", "more.yaml", "train.epochs=4", "~ema")
    Path("shown.yaml").write_text(result.stdout)
    config = load_config("shown.yaml").config
    assert (config.seed, config.train.epochs, config.optimizer.name) == (3, 4, "adamw")
    as_json = json.loads(run("show", "cfg.yaml", "seed=3", "train.epochs=4", "--json").stdout)
    assert as_json["config"] == config.model_dump()


def test_schema_to_stdout_and_to_a_file():
    printed = run("schema").stdout
    assert json.loads(printed)["title"] == "dlkit config"
    result = run("schema", "-o", "dlkit.schema.json")
    assert "# yaml-language-server: $schema=dlkit.schema.json" in result.stdout
    assert Path("dlkit.schema.json").read_text() == printed


PROGRAM = """
import sys, typer
from dlkit.cli.config import app as config_app
from dlkit.errors import DlkitError
app = typer.Typer()
app.add_typer(config_app, name="config")
try:
    app(["config", *sys.argv[1:]], standalone_mode=False)
except DlkitError as error:
    print(error.report(), file=sys.stderr)
    code = error.exit_code
else:
    code = 0
loaded = [name for name in ("torch", "torchvision", "numpy") if name in sys.modules]
assert not loaded, loaded
sys.exit(code)
"""


@pytest.mark.parametrize(
    ("arguments", "code"), [(["check", "good.yaml"], 0), (["check", "wrong.yaml"], 2), (["--help"], 0), (["schema"], 0)]
)
def test_no_command_imports_torch(arguments, code):
    Path("good.yaml").write_text(GOOD)
    Path("wrong.yaml").write_text(WRONG)
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, env=environment, check=False
    )
    assert result.returncode == code, result.stderr
    if code:
        assert result.stderr.splitlines()[-1] == "2 problems; nothing was started. Full key list: dlkit config schema"
