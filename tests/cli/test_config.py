"""`dlkit config`: a starter file, every mistake at once, the merged config, the schema, and all of it without torch."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from dlkit.config import load_config

ROOT = Path(__file__).resolve().parents[2]
GOOD = "data: digits\nmodel: mlp\n"
WRONG = "data: digits\nmodel: mlp\ntrain:\n  epocs: 3\nseed: x\n"


@pytest.fixture
def run(dlkit):
    return lambda *arguments: dlkit("config", *arguments)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_init_writes_a_file_that_passes_check(run):
    result = run("init")
    assert (result.code, result.out) == (0, "wrote dlkit.yaml; next: dlkit train dlkit.yaml\n")
    result = run("check", "dlkit.yaml")
    assert (result.code, result.out) == (
        0,
        "ok  data digits, model small_cnn, adamw with cosine, 10 epochs, seed 0\n",
    )


def test_init_replaces_nothing_unless_forced(run):
    Path("mine.yaml").write_text("mine")
    result = run("init", "mine.yaml")
    assert (result.code, result.err) == (2, "error: mine.yaml is there already; give another name, or --force\n")
    assert Path("mine.yaml").read_text() == "mine"
    assert run("init", "mine.yaml", "--force").code == 0
    assert load_config("mine.yaml").config.data.name == "digits"


def test_init_to_a_folder_that_is_not_there(run):
    result = run("init", "nowhere/x.yaml")
    assert result.code == 2 and "nowhere/x.yaml cannot be written: there is no folder nowhere" in result.err


def test_init_to_stdout(run):
    assert run("init", "-").out.startswith("# A dlkit run.")


def test_check_raises_all_problems(run):
    Path("cfg.yaml").write_text(WRONG)
    result = run("check", "cfg.yaml", "optimizer.lr=x", "-c", "more.yaml")
    assert result.code == 2 and "more.yaml  no such file" in result.err
    Path("more.yaml").write_text("log: {every: 0}\n")
    result = run("check", "cfg.yaml", "optimizer.lr=x", "-c", "more.yaml")
    keys = re.findall(r"^\S+.*?  (\S+): ", result.err, re.MULTILINE)
    assert keys == ["train.epocs", "seed", "log.every", "optimizer.lr"]
    assert (result.code, result.out) == (2, "")


def test_check_as_json(run):
    Path("cfg.yaml").write_text(WRONG)
    result = run("check", "cfg.yaml", "--json")
    assert result.code == 2
    verdict = json.loads(result.out)
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
    assert result.code == 0
    verdict = json.loads(result.out)
    assert verdict["ok"] is True
    assert [warning["key"] for warning in verdict["warnings"]] == ["data.val"]


def test_check_shows_warnings_on_stderr(run):
    Path("cfg.yaml").write_text(GOOD)
    result = run("check", "cfg.yaml", "data.val=test")
    assert result.code == 0
    assert result.out.startswith("ok  ")
    assert result.err.startswith("override 'data.val=test'  data.val: the best epoch is picked on the test split")


def test_show_merges_and_reads_back(run):
    Path("cfg.yaml").write_text(GOOD)
    Path("more.yaml").write_text("seed: 3\n")
    result = run("show", "cfg.yaml", "-c", "more.yaml", "train.epochs=4", "~ema")
    Path("shown.yaml").write_text(result.out)
    config = load_config("shown.yaml").config
    assert (config.seed, config.train.epochs, config.optimizer.name) == (3, 4, "adamw")
    as_json = json.loads(run("show", "cfg.yaml", "seed=3", "train.epochs=4", "--json").out)
    assert as_json["config"] == config.model_dump()


def test_schema_to_stdout_and_to_a_file(run):
    printed = run("schema").out
    assert json.loads(printed)["title"] == "dlkit config"
    result = run("schema", "-o", "dlkit.schema.json")
    assert "# yaml-language-server: $schema=dlkit.schema.json" in result.out
    assert Path("dlkit.schema.json").read_text() == printed


@pytest.mark.parametrize(
    ("arguments", "code"), [(["check", "good.yaml"], 0), (["check", "wrong.yaml"], 2), (["--help"], 0), (["schema"], 0)]
)
def test_no_command_imports_torch(arguments, code):
    Path("good.yaml").write_text(GOOD)
    Path("wrong.yaml").write_text(WRONG)
    program = (
        "import atexit, os, sys\nfrom dlkit.cli.app import main\n"
        "loaded = lambda: {'torch', 'torchvision', 'numpy'} & set(sys.modules)\n"
        "atexit.register(lambda: loaded() and os._exit(99))\nmain()"
    )
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-c", program, "config", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == code, done.stderr
    if code:
        assert done.stderr.splitlines()[-1] == "2 problems; nothing was started. Full key list: dlkit config schema"


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (
            "timm/convnext_ato",
            "cfg.yaml:2:8  model.name: timm has no model 'convnext_ato'. Did you mean 'convnext_atto'?",
        ),
        (
            "{name: timm/convnext_atto.d2_in22k}",
            "cfg.yaml:2:15  model.name: timm's convnext_atto has no tag 'd2_in22k'.",
        ),
        (
            "{name: timm/test_vit, drop_rte: 0.1}",
            "cfg.yaml:2:30  model.drop_rte: unknown key for test_vit. Did you mean",
        ),
        ("{name: timm/test_vit, drop_rate: 0.1}", ""),
    ],
)
def test_check_looks_networks_of_timm_up(run, model, words):
    Path("cfg.yaml").write_text(f"data: digits\nmodel: {model}\n")
    result = run("check", "cfg.yaml")
    assert (result.code == 2 and words in result.err) if words else result.code == 0
    assert json.loads(run("check", "cfg.yaml", "--json").out)["ok"] == (not words)


def test_check_says_what_to_install_for_networks_of_timm(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    Path("cfg.yaml").write_text("data: digits\nmodel: timm/test_vit\n")
    result = run("check", "cfg.yaml")
    assert result.code == 2 and "cfg.yaml:2:8  model.name" in result.err and "pip install 'dlkit[timm]'" in result.err
