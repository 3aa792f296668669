"""Whether runs differ by more than chance: against scipy, against counting by hand, and on runs whose truth is known."""

import json
import math
from itertools import product

import numpy as np
import pytest

from dlkit.run_comparison import compare_runs, group_runs, mid_p_value, student_p_value, welch_difference
from dlkit.run_folders import PREDICTIONS_FILE, KeptPredictions, PredictionFacts, StoredRun, save_predictions

SETTINGS = {"seed": 0, "optimizer": {"lr": 0.1}, "data": {"name": "digits", "normalize": {"mean": [0.1]}}}


def a_run(path, *, seed=0, lr=0.1, test=None, **config):
    config = {**SETTINGS, "seed": seed, "optimizer": {"lr": lr}, **config}
    config["data"] = SETTINGS["data"] | {"normalize": {"mean": [seed / 10]}}
    path.mkdir(parents=True, exist_ok=True)
    return StoredRun(path, "finished", config=config, summary={"test": test or {}})


# statistics


@pytest.mark.parametrize(
    ("one", "other"), [([1, 2, 3], [2, 4, 7]), ([0.1, 0.2], [0.3, 0.5]), ([1, 1, 1.2], [1, 2, 4, 9.5])]
)
def test_welch_is_that_of_scipy(one, other):
    from scipy import stats

    expected = stats.ttest_ind(other, one, equal_var=False)
    low, high, p = welch_difference(one, other)
    assert math.isclose(p, expected.pvalue, rel_tol=1e-9)
    interval = expected.confidence_interval(0.95)
    assert math.isclose(low, interval.low, rel_tol=1e-7) and math.isclose(high, interval.high, rel_tol=1e-7)


def test_students_tails_are_those_of_scipy():
    from scipy import stats

    for t, freedom in product((0.0, 0.01, 0.7, 2.5, 40.0, 1e4), (1.0, 1.7, 5.0, 60.0, 5000.0)):
        assert math.isclose(student_p_value(t, freedom), 2 * stats.t.sf(t, freedom), rel_tol=1e-7, abs_tol=1e-300)


def test_welch_says_nothing_without_spread():
    assert welch_difference([1.0], [2.0, 3.0]) is None
    assert welch_difference([1.0, 1.0], [2.0, 2.0]) is None


@pytest.mark.parametrize(("b", "c"), [(0, 0), (3, 3), (0, 5), (5, 0), (2, 9), (10, 4), (300, 410), (0, 5000)])
def test_mcnemars_mid_p_is_that_of_counting(b, c):
    n, k = b + c, min(b, c)
    counted = sum(2 * math.comb(n, i) for i in range(k)) + math.comb(n, k)
    assert math.isclose(mid_p_value(b, c), min(1.0, counted / 2**n), rel_tol=1e-9, abs_tol=1e-300)


# groups


def test_runs_that_differ_in_their_seed_alone_are_a_group(tmp_path):
    runs = [
        a_run(tmp_path / str(index), seed=seed, lr=lr)
        for index, (seed, lr) in enumerate([(0, 0.1), (0, 0.2), (1, 0.1)])
    ]
    groups = group_runs(runs)
    assert [(group.letter, len(group.runs)) for group in groups] == [("a", 2), ("b", 1)]
    # another folder or another machine is no other setting; no settings at all are not the same settings
    moved = a_run(tmp_path / "3", runtime={"device": "cuda", "out": "elsewhere"}, name="x")
    broken = [StoredRun(tmp_path / name, "damaged") for name in "yz"]
    assert [len(group.runs) for group in group_runs([runs[0], moved, *broken])] == [2, 1, 1]


def test_seeds_decide_where_there_are_several(tmp_path):
    accuracies = {0.1: (0.90, 0.91, 0.92), 0.2: (0.80, 0.82, 0.81)}
    runs = [
        a_run(tmp_path / f"{lr}-{seed}", seed=seed, lr=lr, test={"accuracy": value})
        for lr, values in accuracies.items()
        for seed, value in enumerate(values)
    ]
    again = a_run(tmp_path / "again", seed=2, lr=0.1, test={"accuracy": 0.92})  # a run twice is no second seed
    compared = compare_runs([*runs, again])
    (difference,) = compared.differences
    assert compared.over_seeds and compared.groups[0].values("test_accuracy") == [0.90, 0.91, 0.92]
    assert math.isclose(difference.difference, -0.1) and difference.verdict == "more than chance"
    (alone,) = compare_runs([*runs[:3], runs[3]]).differences
    assert alone.p is None and alone.verdict == "cannot tell" and "one seed only" in alone.why
    assert compare_runs(runs[:3]).differences == ()


def test_several_groups_are_judged_more_strictly(tmp_path):
    values = {0.1: (0.90, 0.91, 0.92), 0.2: (0.88, 0.89, 0.90), 0.3: (0.90, 0.91, 0.93)}
    runs = {
        lr: [a_run(tmp_path / f"{lr}-{seed}", seed=seed, lr=lr, test={"accuracy": x}) for seed, x in enumerate(found)]
        for lr, found in values.items()
    }
    (alone,) = compare_runs([*runs[0.1], *runs[0.2]]).differences
    smaller, larger = compare_runs([run for group in runs.values() for run in group]).differences
    assert math.isclose(smaller.p, 2 * alone.p) and larger.p >= smaller.p


# the same samples


def keep(run, task="classification", *, samples="these", **arrays):
    targets = np.asarray(arrays.pop("targets"))
    size = len(targets)
    facts = PredictionFacts(task, "test", ("x", "y"), {"targets": samples})
    numbers = np.arange(size, dtype=np.int32)
    save_predictions(run.path / PREDICTIONS_FILE, KeptPredictions(facts, numbers, numbers, targets, **arrays))


def two_classifiers(tmp_path, *, wrong=(40, 60), **options):
    """Of 400 samples the first so many are wrong; so all that the first gets wrong the second does, too."""
    targets, runs = np.zeros(400, dtype=np.int32), []
    for index, count in enumerate(wrong):
        predicted = (np.arange(400) < count).astype(np.int32)
        run = a_run(tmp_path / str(index), lr=0.1 + index, test={"accuracy": 1 - count / 400})
        keep(run, targets=targets, predicted=predicted, **({key: value[index] for key, value in options.items()}))
        runs.append(run)
    return runs


def test_accuracies_on_the_same_samples(tmp_path):
    (difference,) = compare_runs(two_classifiers(tmp_path)).differences
    assert (difference.metric, difference.letter) == ("test_accuracy", "b")
    assert math.isclose(difference.difference, -0.05) and math.isclose(difference.p, 2**-20, rel_tol=1e-6)
    assert difference.low < -0.05 < difference.high < 0
    spread = 1.96 * math.sqrt(20 / 400 - (20 / 400) ** 2) / 20  # of the mean of 400 paired differences
    assert abs((difference.high - difference.low) / 2 - spread) < 0.1 * spread
    assert compare_runs(two_classifiers(tmp_path / "again", wrong=(40, 42))).differences[0].verdict == "may be chance"
    assert compare_runs(two_classifiers(tmp_path / "same", wrong=(40, 40))).differences[0].verdict == "the same"


def test_what_cannot_be_told_says_why(tmp_path):
    one, other = two_classifiers(tmp_path, samples=("these", "those"))
    assert compare_runs([one, other]).differences[0].why == "judged by other samples"
    (other.path / PREDICTIONS_FILE).write_bytes(b"PK")
    assert "cannot be read as predictions" in compare_runs([one, other]).differences[0].why
    (other.path / PREDICTIONS_FILE).unlink()
    assert compare_runs([one, other]).differences[0].why == "b keeps no predictions"
    one, other = two_classifiers(tmp_path / "else")
    other.summary["test"] = {"accuracy": 0.5, "map": 0.5}
    one.summary["test"]["map"] = 0.4
    other.__dict__.pop("test", None), one.__dict__.pop("test", None)
    whys = {each.metric: each.why for each in compare_runs([one, other]).differences}
    assert whys["test_accuracy"] == "what is kept of each sample does not add up to it"
    assert whys["test_map"] == "nothing is kept of each sample for it"


def test_numbers_and_labels(tmp_path):
    draws = np.random.default_rng(1)
    targets = draws.normal(size=(300, 2)).astype(np.float32)
    runs = []
    for index, noise in enumerate((0.1, 0.3)):
        predicted = targets + noise * draws.normal(size=targets.shape).astype(np.float32)
        errors = (predicted.astype(float) - targets) ** 2
        r2 = (1 - errors.sum(0) / ((targets - targets.mean(0)) ** 2).sum(0)).mean()
        test = {"mse": errors.mean(), "rmse": errors.mean() ** 0.5, "r2": r2, "mae": np.abs(predicted - targets).mean()}
        runs.append(
            a_run(tmp_path / str(index), lr=index + 1.0, test={name: float(value) for name, value in test.items()})
        )
        keep(runs[-1], "regression", targets=targets, predicted=predicted)
    found = {each.metric: each for each in compare_runs(runs).differences}
    assert {name: each.verdict for name, each in found.items()} == dict.fromkeys(
        ("test_mse", "test_rmse", "test_r2", "test_mae"), "more than chance"
    )
    assert all(each.low < each.difference < each.high for each in found.values())


def test_maps(tmp_path):
    """Pictures of 100 pixels of two classes; a third is nowhere."""
    import torch

    from dlkit.core.scoring import SCORES

    draws, runs = np.random.default_rng(2), []
    true = draws.integers(20, 60, 200)
    targets = np.stack([true, 100 - true, np.zeros_like(true)], 1).astype(np.int32)
    for index, share in enumerate((0.9, 0.8)):
        right = np.floor(targets * np.clip(share + 0.05 * draws.normal(size=targets.shape), 0, 1)).astype(np.int32)
        wrong = targets - right
        predicted = right + wrong[:, [1, 0, 2]]
        (one, other), (lost, missed) = right.sum(0)[:2], wrong.sum(0)[:2]
        counts = torch.tensor([[one, lost, 0], [missed, other, 0], [0, 0, 0]])
        runs.append(a_run(tmp_path / str(index), lr=index + 1.0, test=SCORES["segmentation"]().judge(counts)))
        keep(runs[-1], "segmentation", targets=targets, predicted=predicted, right=right)
    found = {each.metric: each for each in compare_runs(runs).differences}
    assert {name: each.verdict for name, each in found.items()} == dict.fromkeys(
        ("test_miou", "test_dice", "test_pixel_accuracy"), "more than chance"
    )
    assert all(each.low < each.difference < each.high < 0 for each in found.values())
    keep(runs[1], "segmentation", targets=targets, predicted=predicted)
    assert "does not say which pixels are right" in compare_runs(runs).differences[0].why


def test_labels(tmp_path):
    import torch

    from dlkit.core.scoring import SCORES

    draws = np.random.default_rng(2)
    targets, runs = draws.random((300, 3)) < 0.4, []
    for index, share in enumerate((0.05, 0.2)):
        predicted = targets ^ (draws.random(targets.shape) < share)
        logits = torch.tensor(predicted).double() * 2 - 1
        test = SCORES["multilabel"](None).summarize(logits, torch.tensor(targets).double())
        test.pop("map")
        runs.append(a_run(tmp_path / str(index), lr=index + 1.0, test=test))
        keep(runs[-1], "multilabel", targets=targets, predicted=predicted)
    differences = compare_runs(runs).differences
    assert [each.metric for each in differences] == ["test_micro_f1", "test_macro_f1", "test_subset_accuracy"]
    assert all(each.verdict == "more than chance" and each.low < each.difference < each.high for each in differences)


# the command


def test_the_command(dlkit, tmp_path, monkeypatch):
    import dlkit as library

    monkeypatch.chdir(tmp_path)
    tiny = {"data": {"name": "digits", "limit": 200}, "train": {"epochs": 2}, "log": {"tensorboard": False}}
    for name, width in (("narrow", 2), ("wide", 16)):
        library.train({**tiny, "model": {"name": "small_cnn", "width": width}}, out=tmp_path / name)
    done = dlkit("compare", "narrow", "wide", "--ascii", "--height", "4")
    lines = done.out.splitlines()
    assert done.code == 0 and done.err == "" and "model.width  2  16" in lines
    assert any(line.startswith("b - a  test_accuracy") and "chance" in line for line in lines)
    assert any(line.startswith("cannot tell of val_accuracy of b") for line in lines)
    assert any("val_accuracy by epoch (more is better)" in line for line in lines) and lines[-1].split() == [
        "epoch",
        "1",
        "2",
    ]
    assert (
        max(len(line) for line in dlkit("compare", "narrow", "wide", columns=80).out.splitlines() if "\x1b" not in line)
        <= 80
    )
    plain = json.loads(dlkit("compare", "narrow", "wide", "--json").out)
    assert plain["schema"] == "dlkit.compare/1" and plain["settings"] == {"model.width": [2, 16]}
    assert plain["judged_by"] == "samples" and plain["groups"][1]["runs"] == ["wide"]
    told = {each["metric"]: each for each in plain["differences"]}
    summary = json.loads((tmp_path / "wide" / "summary.json").read_text())["test"]
    assert plain["groups"][1]["metrics"]["test_accuracy"]["mean"] == summary["accuracy"]
    assert 0 < told["test_accuracy"]["p"] <= 1 and told["test_loss"]["p"] is not None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["one"], "give two runs or more, each once"),
        (["one", "./one"], "give two runs or more, each once"),
        (["one", "none"], "none: no run folder; `dlkit runs` lists"),
        (
            ["one", "two", "--metric", "val_acuracy"],
            "--metric val_acuracy: no run has it. Did you mean 'val_accuracy'?",
        ),
    ],
    ids=str,
)
def test_what_is_refused(dlkit, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text('{"status": "finished"}')
        (tmp_path / name / "metrics.jsonl").write_text('{"event": "epoch", "epoch": 1, "val_accuracy": 0.5}\n')
    done = dlkit("compare", *words)
    assert done.code == 2 and message in done.err
