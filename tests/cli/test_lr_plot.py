"""`lr-plot` from the line to the text: what it prints, what it refuses, and that it stays fast and without torch."""

import json
import subprocess
import sys
import textwrap

import pytest

from dlkit.schedules import build_schedule


@pytest.fixture
def run(dlkit):
    """The command in a terminal of 80 columns."""

    def run_plot(*words):
        done = dlkit("lr-plot", *words, columns=80)
        assert done.code == 0, done.err
        return done

    return run_plot


@pytest.fixture
def values(run):
    """What the command says as JSON."""
    return lambda *words: json.loads(run(*words, "--json").out)


def test_the_json_is_what_training_uses(values):
    plain = values("cosine", "--lr", "3e-4", "--epochs", "9", "--steps-per-epoch", "10", "--warmup", "5%")
    schedule = build_schedule("cosine", {}, warmup_steps=4, total_steps=90, steps_per_epoch=10)
    assert plain["schema"] == "dlkit.lr-plot/1"
    assert plain["schedules"][0]["lr"] == [schedule.lr(step, 3e-4) for step in range(90)]


def test_the_plot_of_the_issue(run):
    lines = run("cosine", "--lr", "0.1", "--epochs", "90", "--steps-per-epoch", "391").out.splitlines()
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
def test_options_of_the_curve_in_every_spelling(values, words):
    options = values(*words, "--epochs", "90")["schedules"][0]["options"]
    assert options == {"milestones": [30, 60], "gamma": 0.2}


def test_flags_of_the_curve(values):
    options = values("onecycle", "--three-phase", "--no-cycle-momentum", "--steps", "1k")["schedules"][0]["options"]
    assert (options["three_phase"], options["cycle_momentum"], options["total_steps"]) == (True, False, 1000)


@pytest.mark.parametrize("words", [["linear 50 from 0.01; cosine rest"], ["seq", "linear 50 from 0.01; cosine rest"]])
def test_a_composition(values, words):
    (schedule,) = values(*words, "--steps", "200")["schedules"]
    assert schedule["name"] == "sequence"
    assert schedule["lr"][0] == pytest.approx(0.001)
    assert schedule["lr"][50] == 0.1


def test_a_comparison_shares_options_and_says_what_it_made_up(run, values):
    result = run("cosine,onecycle,step", "--compare", "--steps", "90", "eta_min=0.01")
    assert "a cosine" in result.out
    assert "c step: step_size=30 is only for this plot: a config has to give it" in result.out.replace("\n   ", " ")
    assert [row["name"] for row in values("cosine", "wsd")["schedules"]] == ["cosine", "wsd"]


def test_a_plateau_on_a_metrics_file(values, tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("epoch,val_loss\n" + "".join(f"{epoch},{max(1 - epoch / 10, 0.5)}\n" for epoch in range(20)))
    plain = values("plateau", "--metrics", f"{path}:val_loss", "--patience", "3", "--cooldown", "2")
    assert plain["total_steps"] == 20
    assert plain["schedules"][0]["falls"] == [10, 16]
    by_hand = values("plateau", "--series", "1 .9 .8 .7 .6 .5*15", "--patience", "3", "--cooldown", "2")
    assert by_hand["schedules"][0]["falls"] == [10, 16]


def test_the_code_is_only_code(run):
    code = run("cosine", "--steps", "100", "--code").out
    assert "scheduler = lr_scheduler.CosineAnnealingLR(optimizer, T_max=100, eta_min=0.0)" in code
    compile(code, "printed", "exec")


def test_files_are_written(run, tmp_path):
    result = run("onecycle", "--steps", "50", "-o", str(tmp_path / "lr.csv"), "-o", str(tmp_path / "lr.json"))
    assert len((tmp_path / "lr.csv").read_text().splitlines()) == 51
    assert "wrote" in result.err
    assert "wrote" not in result.out


def test_ascii_and_log(run):
    text = run("exponential", "--gamma", "0.9", "--ascii", "--log", "--height", "5").out
    assert text.isascii()
    assert text.count("*") > 50


def test_units(values):
    flat = values("step", "--step-size", "2", "--epochs", "4", "--steps-per-epoch", "2")["schedules"][0]
    assert flat["unit"] == "epoch"
    assert flat["lr"] == pytest.approx([0.1] * 4 + [0.01] * 4)
    stepped = values("step", "--step-size", "2", "--epochs", "4", "--steps-per-epoch", "2", "--step-on", "step")
    assert stepped["schedules"][0]["lr"][2] == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], (100, 1)),
        (["--epochs", 90, "--steps-per-epoch", 391], (35190, 391)),
        (["--epochs", 90], (90, 1)),
        (["--steps", "10k"], (10_000, 1)),
        (["--steps", "1.5M"], (1_500_000, 1)),
        (["--steps", "10k", "--steps-per-epoch", 100], (10_000, 100)),
        (["--epochs", 3, "--steps", 100], (100, 34)),
        (["--epochs", 4, "--steps", 100, "--steps-per-epoch", 25], (100, 25)),
    ],
)
def test_the_length_of_the_run(values, given, expected):
    plain = values("constant", *given)
    assert (plain["total_steps"], plain["steps_per_epoch"]) == expected


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
def test_mistakes_are_usage_errors(dlkit, words, says):
    done = dlkit("lr-plot", *words)
    assert done.code == 2 and says in done.err and done.out == "", done.err


def test_options_after_a_config_are_overrides(values, write_config):
    path = write_config("data: digits\nmodel: mlp\ntrain: {epochs: 4}\n")
    plain = values(path, "optimizer.lr=0.3", "schedule=constant", "--steps-per-epoch", 5)
    assert plain["schedules"][0]["lr"] == [0.3] * 20


def test_a_real_torch_class(values):
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
        import sys
        from dlkit.cli.app import main
        sys.argv = ["dlkit", "lr-plot", *{words!r}]
        try:
            main()
        except SystemExit as end:
            assert end.code == (2 if "cosin" in sys.argv else 0)
        heavy = {{"torch", "numpy", "matplotlib", "yaml"}} & set(sys.modules)
        assert not heavy, heavy
        """
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
