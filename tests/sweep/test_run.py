import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev
from zlib import crc32

import pytest
import torch

import dlkit as package
from dlkit.config import load_config, load_spaces
from dlkit.errors import FileRefused, OutputError, UsageError
from dlkit.events import EpochDone, TrialDone, TrialStarted
from dlkit.run_folders import read_run
from dlkit.sweep import SweepRequest, SweepWorker, open_storage, run_sweep

optuna = pytest.importorskip("optuna")
TrialState = optuna.trial.TrialState

CONFIG = """
data: {name: digits, limit: 60, batch_size: 32}
model: {name: mlp, hidden: [8]}
optimizer: {name: adamw, lr: 0.05}
train: {epochs: 3}
log: {tensorboard: false}
"""
SPACES = ("optimizer.lr=log:1e-4..1e-1", "model.activation=relu,tanh")


@pytest.fixture
def ask(write_config, tmp_path):
    """A request for a sweep of this test's config in the folder `sweep`."""

    def ask(*texts, out="sweep", **options):
        space = load_spaces(write_config(CONFIG), texts=texts or SPACES)
        return SweepRequest(space, out=tmp_path / out, **({"sampler": "random"} | options))

    return ask


def outcomes(result):
    return [(row.number, row.status, row.settings, row.values, row.epochs) for row in result.trials]


class Killed(BaseException):
    """What nothing catches on its way."""


def stopping_at(count):
    """An `emit` that ends everything at an epoch."""
    seen = []

    def emit(event):
        seen.append(event)
        if sum(isinstance(one, EpochDone) for one in seen) == count:
            raise Killed

    return emit


def test_every_trial_is_a_run_and_the_best_config_trains(ask, tmp_path, quick):
    events = []
    result = run_sweep(ask(trials=6), emit=events.append)
    assert [row.number for row in result.trials] == list(range(6)) and result.is_complete
    assert result.trials[0].settings["optimizer.lr"] == 0.05  # the config's own
    statuses = {row.status for row in result.trials}
    assert statuses == {"finished", "pruned"}
    for row in result.trials:
        run = read_run(tmp_path / "sweep" / f"trial-{row.number:03d}")
        assert run.status == row.status and run.best["value"] == row.values[0] and len(run.epochs) == row.epochs
        assert bool(run.test) == (row.status == "finished")
        assert run.settings["optimizer.lr"] == row.settings["optimizer.lr"]
    finished = [row for row in result.trials if row.status == "finished"]
    assert result.best.value == max(row.value for row in finished)
    best = load_config(tmp_path / "sweep" / "best.yaml").config
    assert best.optimizer.lr == result.best.settings["optimizer.lr"]
    assert best.model.options["activation"] == result.best.settings["model.activation"]
    assert json.loads((tmp_path / "sweep" / "sweep.json").read_text()) == json.loads(json.dumps(result.to_json()))
    assert [event.number for event in events if isinstance(event, TrialDone)] == list(range(6))
    assert (tmp_path / "sweep" / "history.png").exists()

    events.clear()
    assert outcomes(run_sweep(ask(trials=6), emit=events.append)) == outcomes(result)
    assert not any(isinstance(event, TrialStarted) for event in events)
    assert len(run_sweep(ask(trials=7)).trials) == 7


def test_a_sweep_that_was_stopped_comes_to_the_same(ask, quick):
    whole = run_sweep(ask(trials=4, sampler="tpe", out="whole"))
    for epochs in (2, 4):
        with pytest.raises(Killed):
            run_sweep(ask(trials=4, sampler="tpe"), emit=stopping_at(epochs))
    resumed = []
    result = run_sweep(ask(trials=4, sampler="tpe"), emit=resumed.append)
    assert outcomes(result) == outcomes(whole)
    assert next(event.is_resumed for event in resumed if isinstance(event, TrialStarted))


def command(out, trials):
    return [
        sys.executable,
        "-m",
        "dlkit",
        "sweep",
        "cfg.yaml",
        *SPACES,
        "--trials",
        str(trials),
        "--out",
        str(out),
        "-q",
    ]


def numbers_told(journal):
    """The trials that the journal says are over, by its operation 6 (state) with one of Optuna's states 1 to 3."""
    rows = [json.loads(line) for line in journal.read_text().splitlines()]
    return sorted(row["trial_id"] for row in rows if row["op_code"] == 6 and 1 <= row["state"] <= 3)


@pytest.mark.posix
def test_two_workers_one_of_them_killed(write_config, tmp_path, ask, quick):
    write_config(CONFIG)
    out = tmp_path / "sweep"
    workers = [subprocess.Popen(command(out, 6), cwd=tmp_path, stdout=subprocess.DEVNULL) for _ in range(2)]
    journal, deadline = out / "journal.log", time.monotonic() + 120
    while not journal.exists() or '"intermediate_value"' not in journal.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(workers[0].pid, signal.SIGKILL)
    assert [worker.wait() for worker in workers] == [-signal.SIGKILL, 0]
    with journal.open("ab") as file:
        file.write(b'{"op_code":7,"worker')  # as a crash leaves it
    request = ask(trials=6, sampler="tpe")
    result = run_sweep(request)
    assert [row.number for row in result.trials] == list(range(6)) and numbers_told(journal) == list(range(6))
    for row in result.trials:
        epochs = [epoch["epoch"] for epoch in read_run(out / f"trial-{row.number:03d}").epochs]
        assert epochs == list(range(1, row.epochs + 1))


def test_a_grid_has_each_point_once(ask, quick):
    result = run_sweep(ask("train.epochs=1..2", "model.hidden=[4],[8]", sampler="grid", pruner="none"))
    points = [(row.settings["train.epochs"], row.settings["model.hidden"]) for row in result.trials]
    assert points == [(1, [4]), (1, [8]), (2, [4]), (2, [8])]


def checkpoints(folder):
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def test_pruned_trials_keep_all_but_their_checkpoints(ask, tmp_path, quick):
    sweep = tmp_path / "sweep"

    def emit(event):  # somebody's own file beside the checkpoints
        if isinstance(event, EpochDone):
            for folder in sweep.glob("trial-*/checkpoints"):
                (folder / "mine.txt").touch()

    result = run_sweep(ask("optimizer.lr=1e-4..1e-1", trials=4), emit=emit)
    assert {row.status for row in result.trials} == {"finished", "pruned"}
    for row in result.trials:
        folder = sweep / f"trial-{row.number:03d}"
        is_pruned, kept = row.status == "pruned", {path.name for path in folder.iterdir()}
        assert checkpoints(folder) == (["mine.txt"] if is_pruned else ["best.pt", "last.pt", "mine.txt"])
        assert {"run.json", "summary.json", "config.resolved.yaml", "metrics.jsonl", "train.log", "model.pt"} <= kept
        assert package.load_model(folder / "model.pt")(torch.zeros(1, 1, 8, 8)).shape == (1, 10)
        assert read_run(folder).best["value"] == row.values[0]
    pruned = next(row.number for row in result.trials if row.status == "pruned")
    with pytest.raises(FileRefused, match="its checkpoints were deleted"):
        package.train(sweep / f"trial-{pruned:03d}" / "config.resolved.yaml", resume=sweep / f"trial-{pruned:03d}")


def test_a_trial_goes_on_where_its_worker_was_killed_before_it_told_that_it_was_pruned(
    ask, dlkit, tmp_path, monkeypatch, quick
):
    spaces, tell = "optimizer.lr=1e-4..1e-1", optuna.study.Study.tell
    whole = run_sweep(ask(spaces, trials=3, out="whole"))
    (number,) = [row.number for row in whole.trials if row.status == "pruned"][:1]

    def tell_or_die(study, trial, values=None, state=None, **options):
        if state == TrialState.PRUNED:
            raise Killed
        return tell(study, trial, values, state, **options)

    for is_bare in (False, True):
        sweep = tmp_path / f"sweep-{is_bare}"
        with monkeypatch.context() as patches, pytest.raises(Killed):
            patches.setattr(optuna.study.Study, "tell", tell_or_die)
            run_sweep(ask(spaces, trials=3, out=sweep.name))
        assert checkpoints(sweep / f"trial-{number:03d}") == ["best.pt", "last.pt"]
        if is_bare:
            assert dlkit("runs", sweep, "--prune-checkpoints", "--yes").code == 0
            assert checkpoints(sweep / f"trial-{number:03d}") == []
        assert outcomes(run_sweep(ask(spaces, trials=3, out=sweep.name))) == outcomes(whole)
        assert checkpoints(sweep / f"trial-{number:03d}") == []


def test_folds_that_ended_are_read_where_their_checkpoints_are_gone(ask, dlkit, tmp_path, quick):
    whole = run_sweep(ask(trials=1, folds=2, pruner="none", out="whole"))
    with pytest.raises(Killed):
        run_sweep(ask(trials=1, folds=2, pruner="none"), emit=stopping_at(4))
    assert dlkit("runs", tmp_path / "sweep", "--prune-checkpoints", "--yes").code == 0
    assert checkpoints(tmp_path / "sweep" / "trial-000-fold-1") == []
    assert outcomes(run_sweep(ask(trials=1, folds=2, pruner="none"))) == outcomes(whole)


def judged_epochs(number):
    """The epochs at which Hyperband looks at a trial of the sweep `sweep` of 4 epochs. Of its two brackets the first looks after
    1 and 3, the other after 3 alone; they have 3 and 2 of 5 trials.
    """
    return (1, 3) if crc32(f"sweep_{number}".encode()) % 5 < 3 else (3,)


def hyperband_says(told):
    """The epoch at which Optuna's own Hyperband ends each of these trials, one after the other; None for those that it lets through."""
    pruner = optuna.pruners.HyperbandPruner(min_resource=1, max_resource=4, reduction_factor=3)
    study, ends = optuna.create_study(study_name="sweep", direction="maximize", pruner=pruner), []
    for values in told:
        trial, end = study.ask(), None
        for epoch, value in enumerate(values, 1):
            trial.report(value, epoch)
            if end is None and trial.should_prune():
                end = epoch
        ends.append(end)
        study.tell(trial, None if end else value, state=TrialState.PRUNED if end else TrialState.COMPLETE)
    return ends


def test_hyperband_ends_trials_as_their_bracket_says(ask, tmp_path, quick):
    result = run_sweep(ask("optimizer.lr=log:1e-4..1e-1", "train.epochs=4", trials=10, pruner="hyperband"))
    runs = [read_run(tmp_path / "sweep" / f"trial-{row.number:03d}") for row in result.trials]
    ends = [row.epochs if row.status == "pruned" else None for row in result.trials]
    assert ends == hyperband_says([[epoch["val_accuracy"] for epoch in run.epochs] for run in runs])
    judged = [judged_epochs(row.number) for row in result.trials]
    assert all(end is None or end in epochs for end, epochs in zip(ends, judged, strict=True))
    assert {(3,), (1, 3)} == set(judged) and {1, 3, None} == set(ends)


@pytest.mark.slow
@pytest.mark.posix
def test_workers_of_hyperband_share_its_brackets(write_config, tmp_path, ask, quick):
    cfg = write_config(CONFIG)
    asked = [*command(tmp_path / "sweep", 10), "train.epochs=4", "--pruner", "hyperband"]
    workers = [subprocess.Popen(asked, cwd=tmp_path, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [worker.wait() for worker in workers] == [0, 0]
    space = load_spaces(cfg, texts=(*SPACES, "train.epochs=4"))
    result = run_sweep(SweepRequest(space, out=tmp_path / "sweep", trials=10, pruner="hyperband"))
    assert {row.status for row in result.trials} == {"finished", "pruned"} and len(result.trials) == 10
    for row in result.trials:
        assert row.epochs in (judged_epochs(row.number) if row.status == "pruned" else (4,))


def test_a_first_run_that_is_told_to_end_at_its_last_epoch_has_no_others(ask, tmp_path, quick):
    result = run_sweep(ask("optimizer.lr=1e-4..1e-1", "train.epochs=1", trials=4, folds=2))
    assert {row.status for row in result.trials} == {"finished", "pruned"}
    for row in result.trials:
        folders = list((tmp_path / "sweep").glob(f"trial-{row.number:03d}-*"))
        assert len(folders) == row.epochs == len(row.values) == (2 if row.status == "finished" else 1)


def test_folds_and_seeds_are_runs_of_one_trial(ask, tmp_path, quick):
    result = run_sweep(ask(trials=1, folds=2, seeds=2, pruner="none"))
    (row,) = result.trials
    names = [f"trial-000-seed-{seed}-fold-{fold}" for seed in (0, 1) for fold in (1, 2)]
    assert sorted(path.name for path in (tmp_path / "sweep").glob("trial-*")) == names
    values = [read_run(tmp_path / "sweep" / name).best["value"] for name in names]
    assert row.values == values and row.value == pytest.approx(fmean(values)) and row.epochs == 12
    assert row.deviation == pytest.approx(stdev(values))
    assert read_run(tmp_path / "sweep" / names[3]).config["data"]["fold"] == {"number": 2, "of": 2}


def test_a_trial_that_diverges_is_an_outcome(ask, quick):
    result = run_sweep(ask("optimizer.lr=1.0e+30,0.01", "optimizer=sgd", sampler="grid"))
    assert [row.status for row in result.trials] == ["diverged", "finished"]
    assert "the loss is" in result.trials[0].error and result.best.number == 1


def test_a_trial_that_fails_is_an_outcome_and_three_end_the_sweep(ask, tmp_path, quick):
    result = run_sweep(ask("data.drop_last=false,true", "data.batch_size=128", sampler="grid", out="one"))
    assert [row.status for row in result.trials] == ["finished", "failed"]
    assert "drops the only batch" in result.trials[1].error
    code = "from torch import nn\n\n\nclass Net(nn.Linear):\n    def forward(self, inputs):\n        raise ValueError('no')\n"
    (tmp_path / "net.py").write_text(code)
    net = f"model={{name: {tmp_path}/net.py:Net, in_features: 64, out_features: 10}}"
    with pytest.raises(UsageError, match="all 3 trials have failed, the last with: .*no"):
        run_sweep(ask(net, "optimizer.lr=0.1,0.2,0.3,0.4", sampler="grid"))


def test_time_ends_a_sweep_in_the_middle_of_a_trial(ask, quick):
    spaces = ("optimizer.lr=log:1e-4..1e-1", "train.epochs=100000")
    assert [row.status for row in run_sweep(ask(*spaces, seconds=1.0)).trials] == ["running"]
    events = []
    assert len(run_sweep(ask(*spaces, seconds=0.5), emit=events.append).trials) == 1
    assert [event.is_resumed for event in events if isinstance(event, TrialStarted)] == [True]


def test_another_sweep_in_the_same_folder_is_refused(ask, quick):
    run_sweep(ask("optimizer.lr=0.1,0.2", sampler="grid", trials=1))
    with pytest.raises(OutputError, match=r"spaces\.optimizer\.lr: \"0\.1,0\.2\" there, \"0\.1,0\.3\" now"):
        run_sweep(ask("optimizer.lr=0.1,0.3", sampler="grid", trials=1))


def test_sqlite_keeps_a_sweep_too(ask, tmp_path, quick):
    request = ask(trials=2, storage=f"sqlite:///{tmp_path / 'sweeps.db'}")
    assert outcomes(run_sweep(replace(request, trials=1))) == outcomes(run_sweep(request))[:1]
    assert not Path(tmp_path / "sweep" / "journal.log").exists()


def test_random_numbers_outside_stay_as_they_are(ask, quick):
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    run_sweep(ask(trials=1))
    assert torch.equal(torch.rand(3), expected)


def test_a_worker_elsewhere_is_gone_when_its_beats_stand_still(tmp_path):
    storage = open_storage(None, tmp_path)
    study = optuna.create_study(storage=storage)
    here, there = (SweepWorker(study, storage, tmp_path / name, beat_s=0.05, still_s=0.5) for name in ("here", "there"))
    theirs, was_begun = there.next_trial(1, is_over=lambda: False)
    assert (theirs.number, was_begun) == (0, False)
    lost = []
    with there.beating(theirs, lambda: lost.append(True)):
        assert here.next_trial(1, is_over=lambda: False) is None
    mine, was_begun = here.next_trial(1, is_over=lambda: False)
    assert (mine.number, was_begun) == (0, True) and here.has(mine._trial_id)
    with there.beating(theirs, lambda: lost.append(True)):
        time.sleep(0.3)
    assert lost == [True]
    there.leave()
    here.leave()
