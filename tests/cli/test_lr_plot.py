"""`lr-plot` from the line to the text: what it prints, what it refuses, and that it stays fast and without torch."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from dlkit.cli import lr_plot as command
from dlkit.errors import UsageError
from dlkit.schedules import build_schedule

app = typer.Typer()
app.command("lr-plot", context_settings=command.CONTEXT_SETTINGS)(command.lr_plot)


def run(*words):
    result = CliRunner().invoke(app, list(words), env={"COLUMNS": "80"})
    if isinstance(result.exception, Exception) and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def values(*words):
    return json.loads(run(*words, "--json").stdout)


def test_the_json_is_what_training_uses():
    plain = values("cosine", "--lr", "3e-4", "--epochs", "9", "--steps-per-epoch", "10", "--warmup", "5%")
    schedule = build_schedule("cosine", {}, warmup_steps=4, total_steps=90, steps_per_epoch=10)
    assert plain["schema"] == "dlkit.lr-plot/1"
    assert plain["schedules"][0]["lr"] == [schedule.lr(step, 3e-4) for step in range(90)]


def test_the_plot_of_the_issue():
    lines = run("cosine", "--lr", "0.1", "--epochs", "90", "--steps-per-epoch", "391").stdout.splitlines()
    assert " ".join(lines[0].split()) == "lr-plot · cosine · 35,190 steps, 90 epochs peak 0.1 @ 0"
    assert max(map(len, lines)) <= 80
    assert any("last used 2.0e-10" in line for line in lines)


@pytest.mark.parametrize(
    "words",
    [
        ["multistep", "--milestones", "30,60", "--gamma", "0.2"],
        ["multistep", "--milestones=30,60", "--gamma=0.2"],
        ["multistep", "milestones=[30, 60]", "gamma=0.2"],
        ["--gamma", "0.2", "MultiStepLR", "milestones=30,60"],
    ],
)
def test_options_of_the_curve_in_every_spelling(words):
    options = values(*words, "--epochs", "90")["schedules"][0]["options"]
    assert options == {"milestones": [30, 60], "gamma": 0.2}


def test_flags_of_the_curve():
    options = values("onecycle", "--three-phase", "--no-cycle-momentum", "--steps", "1k")["schedules"][0]["options"]
    assert (options["three_phase"], options["cycle_momentum"], options["total_steps"]) == (True, False, 1000)


@pytest.mark.parametrize("words", [["linear 50 from 0.01; cosine rest"], ["seq", "linear 50 from 0.01; cosine rest"]])
def test_a_composition(words):
    (schedule,) = values(*words, "--steps", "200")["schedules"]
    assert schedule["name"] == "sequence"
    assert schedule["lr"][0] == pytest.approx(0.001)
    assert schedule["lr"][50] == 0.1


def test_a_comparison_shares_options_and_says_what_it_made_up():
    result = run("cosine,onecycle,step", "--compare", "--steps", "90", "eta_min=0.01")
    assert "a cosine" in result.stdout
    assert "c step: step_size=30 is only for this plot: a config has to give it" in result.stdout.replace("\n   ", " ")
    assert [row["name"] for row in values("cosine", "wsd")["schedules"]] == ["cosine", "wsd"]


def test_a_plateau_on_a_metrics_file(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("epoch,val_loss\n" + "".join(f"{epoch},{max(1 - epoch / 10, 0.5)}\n" for epoch in range(20)))
    plain = values("plateau", "--metrics", f"{path}:val_loss", "--patience", "3", "--cooldown", "2")
    assert plain["total_steps"] == 20
    assert plain["schedules"][0]["falls"] == [10, 16]
    by_hand = values("plateau", "--series", "1 .9 .8 .7 .6 .5*15", "--patience", "3", "--cooldown", "2")
    assert by_hand["schedules"][0]["falls"] == [10, 16]


def test_the_code_is_only_code():
    code = run("cosine", "--steps", "100", "--code").stdout
    assert "scheduler = lr_scheduler.CosineAnnealingLR(optimizer, T_max=100, eta_min=0.0)" in code
    compile(code, "printed", "exec")


def test_files_are_written(tmp_path):
    result = run("onecycle", "--steps", "50", "-o", str(tmp_path / "lr.csv"), "-o", str(tmp_path / "lr.json"))
    assert len((tmp_path / "lr.csv").read_text().splitlines()) == 51
    assert "wrote" in result.stderr
    assert "wrote" not in result.stdout


def test_ascii_and_log():
    text = run("exponential", "--gamma", "0.9", "--ascii", "--log", "--height", "5").stdout
    assert text.isascii()
    assert text.count("*") > 50


def test_units():
    flat = values("step", "--step-size", "2", "--epochs", "4", "--steps-per-epoch", "2")["schedules"][0]
    assert flat["unit"] == "epoch"
    assert flat["lr"] == pytest.approx([0.1] * 4 + [0.01] * 4)
    stepped = values("step", "--step-size", "2", "--epochs", "4", "--steps-per-epoch", "2", "--step-on", "step")
    assert stepped["schedules"][0]["lr"][2] == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", (100, 1)),
        ("--epochs 90 --steps-per-epoch 391", (35190, 391)),
        ("--epochs 90", (90, 1)),
        ("--steps 5000", (5000, 1)),
        ("--steps 10k", (10_000, 1)),
        ("--steps 0.02M --steps-per-epoch 100", (20_000, 100)),
        ("--epochs 3 --steps 100", (100, 34)),
        ("--epochs 4 --steps 100 --steps-per-epoch 25", (100, 25)),
    ],
)
def test_the_length_of_the_run(words, expected):
    found = values("constant", *words.split())
    assert (found["total_steps"], found["steps_per_epoch"]) == expected


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["cosin"], "no schedule 'cosin'. Did you mean 'cosine'?"),
        (["cosine", "--etamin", "3"], "no option 'etamin'; it takes T_max, eta_min"),
        (["cosine", "wsd", "foo=3"], "none of cosine, wsd takes 'foo'"),
        (["plateau"], "plateau follows a metric: give --metrics FILE:COLUMN or --series"),
        (["cosine", "--series", "1 2"], "this schedule takes no metric"),
        (["plateau", "--metrics", "file.csv"], "expected FILE:COLUMN"),
        (["cosine", "--lr", "0"], "--lr must be above 0"),
        (["cosine", "--lr", "nan"], "--lr must be above 0"),
        (["cosine", "--steps", "many"], "--steps: expected a number of steps such as 5000 or 10k, got 'many'"),
        (["cosine", "--steps", "1000M"], "1,000,000,000 steps are too many"),
        (["cosine", "--steps", "0"], "--steps: expected a number"),
        (["cosine", "--steps", "100", "--epochs", "3", "--steps-per-epoch", "10"], "leave one out"),
        (["cosine", "--warmup", "5 weeks"], "--warmup: expected a share"),
        (["cosine", "--unit", "batch"], "unit must be 'auto' or 'step' or 'epoch'"),
        (["gamma=0.1"], "which schedule?"),
        (["sequence"], "pieces is needed, for example pieces: linear 500"),
        (["linear 500 from 0.01; cosin rest"], "no built-in schedule 'cosin'"),
        (["cosine", "-o", "lr.gif"], "must end in .csv"),
        (["LambdaLR"], "LambdaLR needs 'lr_lambda'"),
        (["run.yaml", "--eta-min", "3"], "'--eta-min' does not go with a config"),
        (["missing.yaml"], "missing.yaml"),
    ],
)
def test_mistakes_are_usage_errors(words, says):
    with pytest.raises(UsageError) as caught:
        run(*words)
    assert says in str(caught.value)


def test_options_after_a_config_are_overrides():
    config = str(Path(__file__).resolve().parents[2] / "examples" / "digits.yaml")
    (schedule,) = values(config, "optimizer.lr=0.3", "schedule=constant", "~optimizer.weight_decay")["schedules"]
    assert set(schedule["lr"]) == {0.3}


def test_a_real_torch_class():
    (schedule,) = values("SWALR", "--swa-lr", "0.01", "anneal_epochs=10", "--steps", "20")["schedules"]
    assert schedule["lr"][0] == 0.1
    assert schedule["lr"][-1] == pytest.approx(0.01)
    assert schedule["options"] == {"swa_lr": 0.01, "anneal_epochs": 10}


@pytest.mark.parametrize(
    "words",
    [
        ["cosine", "--lr", "0.1", "--epochs", "90", "--steps-per-epoch", "391"],
        ["cosine,onecycle,wsd", "--compare", "--json"],
        ["linear 500 from 0.01; cosine rest", "--steps", "10k", "--code"],
        ["cosin"],
    ],
)
def test_built_in_curves_need_no_torch(words):
    code = textwrap.dedent(
        f"""
        import sys, typer
        from dlkit.cli import lr_plot as command
        app = typer.Typer()
        app.command("lr-plot", context_settings=command.CONTEXT_SETTINGS)(command.lr_plot)
        try:
            app({words!r}, standalone_mode=False)
        except Exception as error:
            assert "cosin" in str(error)
        heavy = {{"torch", "numpy", "matplotlib", "yaml"}} & set(sys.modules)
        assert not heavy, heavy
        """
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
