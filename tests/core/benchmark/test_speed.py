"""Networks by engines: rows, ratios, what is left out and why, and what the numbers are made to say."""

import json
from dataclasses import replace

import pytest
import torch

from dlkit.core.benchmark import (
    Latency,
    Ratio,
    SpeedPlan,
    SpeedRow,
    Speeds,
    TimedModel,
    measure_speeds,
    speedup,
)
from dlkit.core.evaluation import (
    SPEED_COLUMNS,
    Agreement,
    Comparison,
    Costs,
    Scores,
    Side,
    int8_sentences,
    pruning_sentences,
    quantization_sentences,
    speed_rows,
)
from dlkit.errors import UsageError

CPU = torch.device("cpu")
PLAN = SpeedPlan((1, 8, 8), CPU, batches=(1, 3), engines=("eager", "frozen", "compile"), seconds=0.0)


@pytest.fixture(scope="module")
def models(float_network, int8_network):
    return [TimedModel("float", float_network, False), TimedModel("int8", int8_network, True)]


@pytest.fixture
def quick_compile(monkeypatch):
    """Without a compiler nothing is compiled, which takes a minute."""
    monkeypatch.setattr("shutil.which", lambda name: None)


@pytest.mark.usefixtures("quick_compile")
def test_rows_ratios_and_reasons(models):
    events = []
    speeds = measure_speeds(models, PLAN, emit=events.append)
    pairs = [(model, engine) for model in ("float", "int8") for engine in ("eager", "frozen")]
    assert [(row.model, row.engine) for row in speeds.rows] == pairs * 2
    assert [row.latency.batch for row in speeds.rows] == [1] * 4 + [3] * 4
    assert speeds.baseline == ("float", "eager") and set(speeds.fastest_float) == {1, 3}
    for row in speeds.rows:
        base = speeds.row("float", "eager", row.latency.batch)
        best = speeds.row("float", speeds.fastest_float[row.latency.batch], row.latency.batch)
        assert row.to_baseline == speedup(base.latency, row.latency)
        assert row.to_fastest_float == speedup(best.latency, row.latency)
        assert row.difference.agreement == 1.0 and row.is_int8 == (row.model == "int8")
    assert {(one.model, one.engine) for one in speeds.skipped} == {("float", "compile"), ("int8", "compile")}
    assert "C++ compiler" in speeds.skipped[0].reason
    assert [event.what for event in events[:3]] == ["starting eager", "starting frozen", "starting compile"]


def test_plain_values_are_json(models):
    plain = json.loads(json.dumps(measure_speeds(models[:1], replace(PLAN, engines=("eager",))).to_dict()))
    assert plain["baseline"] == {"model": "float", "engine": "eager"} and plain["fastest_float"]["3"] == "eager"
    assert set(plain["rows"][0]) == {
        "model", "engine", "is_int8", "median_ms", "p10_ms", "p90_ms", "runs", "batch", "threads", "samples_per_s",
        "is_noisy", "to_baseline", "to_fastest_float", "difference_to_eager",
    }  # fmt: skip
    assert plain["rows"][0]["to_baseline"] == {"median": 1.0, "p10": 1.0, "p90": 1.0}


def test_an_int8_baseline_has_no_fastest_float(models):
    speeds = measure_speeds(models, replace(PLAN, engines=("eager",), baseline=("int8", "eager")))
    assert speeds.baseline == ("int8", "eager") and not speeds.fastest_float
    assert all(row.to_fastest_float is None for row in speeds.rows)
    assert not int8_sentences(speeds, "int8")


def test_a_baseline_that_did_not_run(models):
    with pytest.raises(UsageError, match="the baseline int8:compile did not run; what ran: float:eager, int8:eager"):
        measure_speeds(models, replace(PLAN, engines=("eager",), baseline=("int8", "compile")))


@pytest.mark.usefixtures("quick_compile")
def test_nothing_to_run(models):
    with pytest.raises(UsageError, match="nothing could be run:\n  int8 by compile: it needs a C"):
        measure_speeds(models[1:], replace(PLAN, engines=("compile",)))


# handmade measurements


def make_row(model, engine, ms, *, baseline, best, is_int8=False):
    ours, base, quickest = (Latency(value, value, value, 3, 1, 1, (value,) * 3) for value in (ms, baseline, best))
    return SpeedRow(model, engine, is_int8, ours, speedup(base, ours), speedup(quickest, ours), None)


def make_comparison(rows, macs=(None, None)):
    speeds = Speeds(tuple(rows), (), ("before", "eager"), {1: "frozen"})
    sides = [Side(name, Scores("test", 1, {}), Costs(1, count, None)) for name, count in zip(("before", "after"), macs)]
    return Comparison(sides[0], sides[1], Agreement(1.0, None), speeds)


BEFORE = [
    make_row("before", "eager", 8.0, baseline=8.0, best=4.0),
    make_row("before", "frozen", 4.0, baseline=8.0, best=4.0),
]


def test_int8_that_pays():
    after = make_row("after", "frozen", 2.0, baseline=8.0, best=4.0, is_int8=True)
    assert quantization_sentences(make_comparison([*BEFORE, after])) == [
        "batch 1: int8 by frozen is 4.00 times as fast as float32 eager and 2.00 times as fast as the fastest float engine "
        "here, frozen"
    ]


def test_int8_that_does_not_pay():
    after = make_row("after", "eager", 4.0, baseline=8.0, best=4.0, is_int8=True)
    (said,) = quantization_sentences(make_comparison([*BEFORE, after]))
    assert said.endswith("but no faster than the fastest float engine here, frozen (1.00 times)")


def test_int8_in_the_noise():
    after = make_row("after", "eager", 2.0, baseline=8.0, best=4.0, is_int8=True)
    noisy = replace(after, to_fastest_float=Ratio(2.0, 0.7, 9.0))
    (said,) = quantization_sentences(make_comparison([*BEFORE, noisy]))
    assert "is lost in the noise: 2.00 (0.70-9.00) times as fast" in said


@pytest.mark.parametrize(
    ("ms", "words"),
    [(2.0, "MACs fell 2.0x, latency 2.0x (frozen against frozen)"), (3.0, "MACs fell 2.0x but latency only 1.3x"),
     (5.0, "MACs fell 2.0x but it is slower, 0.80 times as fast")],
)  # fmt: skip
def test_macs_and_latency(ms, words):
    after = make_row("after", "frozen", ms, baseline=8.0, best=4.0)
    (said,) = pruning_sentences(make_comparison([*BEFORE, after], macs=(2000, 1000)))
    assert words in said and ("do not shrink with MACs" in said) == ("but" in words)
    assert not pruning_sentences(make_comparison([*BEFORE, after]))


def test_tables():
    after = make_row("after", "frozen", 2.0, baseline=8.0, best=4.0)
    rows = speed_rows(make_comparison([*BEFORE, after]).speeds, 1)
    assert rows[0] == ("before", "eager", "8.00", "8.00-8.00", "1.00", "", "0.50", "125")
    assert rows[1][4:7] == ("2.00", "2.00-2.00", "1.00") and rows[2][4] == "4.00"
    assert all(len(row) == len(SPEED_COLUMNS) for row in rows) and not speed_rows(make_comparison(BEFORE).speeds, 16)
