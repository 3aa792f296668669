"""Help that fits a terminal, and what the Tab key offers."""

import re
import subprocess
import sys

import pytest
import typer

from dlkit.cli.app import app


def commands(command, words=()):
    yield words
    for name in getattr(command, "commands", ()):
        yield from commands(command.imported(name), (*words, name))


ROOT = typer.main.get_command(app)
COMMANDS = list(commands(ROOT))


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_of_every_command_fits_80_columns(dlkit, words):
    done = dlkit(*words, "--help", columns=80)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", done.out).splitlines()
    assert done.code == 0 and max(map(len, lines)) <= 80, done.err
    assert not [line for line in lines if "…" in line or "<bool>" in line or "<str>" in line]
    usage = next(line for line in lines if "Usage:" in line)
    assert "{" not in usage and "[[" not in usage


@pytest.mark.parametrize("group", [ROOT, ROOT.imported("shapecalc")], ids=lambda group: group.name)
def test_summaries_are_the_beginnings_of_the_help(group):
    for name, command in group.commands.items():
        assert command.help == group.imported(name).help.split("\n\n")[0].replace("\n", " ")


def test_usage_lines_are_those_of_the_docs(dlkit):
    assert "Usage: dlkit train [OPTIONS] CFG [KEY=VALUE]...\n" in dlkit("train", "--help").out.replace("  ", "")
    assert "Usage: dlkit bench [OPTIONS] MODEL...\n" in dlkit("bench", "--help").out.replace("  ", "")
    assert "Usage: dlkit list [OPTIONS] [KIND] [TEXT]\n" in dlkit("list", "--help").out.replace("  ", "")


@pytest.fixture
def complete(dlkit, monkeypatch, tmp_path):
    """What the Tab key offers behind these words, the last of which is unfinished."""
    monkeypatch.chdir(tmp_path)
    for name in ("runs/one/model.pt", "runs/one/config.yaml", "cfg.yaml", "notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()

    def complete(*words):
        monkeypatch.setenv("_DLKIT_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", " ".join(("dlkit", *words)))
        monkeypatch.setenv("COMP_CWORD", str(len(words)))
        return dlkit().out.split()

    return complete


COMPLETED = {
    ("list", "op"): ["optimizers"],
    ("lr-plot", "cosine_"): ["cosine_restarts"],
    ("lr-plot", "cosine,onec"): ["cosine,onecycle"],
    ("train", "cfg.yaml", "train.epo"): ["train.epochs="],
    ("train", "cfg.yaml", "optimizer=adamw"): ["optimizer=adamw"],
    ("train", "cfg.yaml", "train.compile=t"): ["train.compile=true"],
    ("train", "cfg.yaml", "data.test=n"): ["data.test=none"],
    ("train", "cfg.yaml", "~em"): ["~ema", "~ema.decay", "~ema.every", "~ema.warmup"],
    ("train", "c"): ["cfg.yaml"],
    ("train", ""): ["cfg.yaml", "runs/one/config.yaml"],
    ("eval", "ru"): ["runs/one/model.pt"],
    ("bench", "runs/one/model.pt", "ru"): ["runs/one/model.pt"],
}


@pytest.mark.parametrize("words", COMPLETED, ids=" ".join)
def test_completion(complete, words):
    assert complete(*words) == COMPLETED[words]


def test_completion_loads_no_torch():
    code = "import sys, dlkit.cli.completion as c; c.complete_overrides('optimizer='); c.complete_models(''); "
    done = subprocess.run(
        [sys.executable, "-c", code + "print('torch' in sys.modules)"], capture_output=True, text=True
    )
    assert done.stdout == "False\n", done.stderr
