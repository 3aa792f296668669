"""Files: every step is in them, at full precision, and figures are figures."""

import csv
import json

import pytest

from dlkit.errors import DataError, OutputError, UsageError
from dlkit.schedules import audit, build_schedule, follow, load_column, read_series, save_traces, traces_as_json


def make(name, options=None, metrics=None):
    return follow(build_schedule(name, options or {}, total_steps=60, steps_per_epoch=10), 0.1, metrics)


def save(path, *traces):
    save_traces(path, traces, [audit(trace) for trace in traces], is_log=False)
    return path


def test_csv_of_one_schedule_gives_back_the_exact_values(tmp_path):
    trace = make("onecycle")
    rows = list(csv.DictReader(save(tmp_path / "lr.csv", trace).read_text().splitlines()))
    assert [float(row["lr"]) for row in rows] == trace.lrs
    assert [float(row["momentum"]) for row in rows] == trace.momenta
    assert [(row["step"], row["epoch"]) for row in rows[9:11]] == [("9", "0"), ("10", "1")]


def test_csv_of_several_names_its_columns(tmp_path):
    path = save(tmp_path / "lr.csv", make("cosine"), make("onecycle"), make("cosine", {"eta_min": 0.01}))
    header = path.read_text().splitlines()[0]
    assert header == "step,epoch,cosine_1.lr,onecycle.lr,onecycle.momentum,cosine_2.lr"


def test_json_holds_everything(tmp_path):
    trace = make("plateau", {"patience": 0}, [1.0, float("nan"), 0.5])
    plain = json.loads(save(tmp_path / "lr.json", trace).read_text())
    assert plain["schema"] == "dlkit.lr-plot/1"
    (schedule,) = plain["schedules"]
    assert schedule["lr"] == trace.lrs
    assert schedule["metrics"] == [1.0, None, 0.5]
    assert schedule["falls"] == [20]
    assert schedule["options"]["patience"] == 0
    assert schedule["summary"]["peak"] == 0.1
    assert schedule["findings"][0]["code"] == "plateau-nan"


def test_json_is_strict_even_where_a_rate_overflows():
    trace = make("exponential", {"gamma": 1e300})
    assert json.loads(json.dumps(traces_as_json([trace], [[]]), allow_nan=False))["schedules"][0]["lr"][-1] is None


@pytest.mark.parametrize(("suffix", "magic"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")])
def test_figures(suffix, magic, tmp_path):
    path = save(tmp_path / f"lr{suffix}", make("cosine"), make("onecycle"))
    assert path.read_bytes().startswith(magic)


def test_a_figure_shows_both_plots_and_a_legend(tmp_path):
    text = save(tmp_path / "lr.svg", make("cosine"), make("onecycle")).read_text()
    for label in ("learning rate", "momentum", "optimizer step", "onecycle"):
        assert f"<!-- {label} -->" in text


def test_an_unknown_suffix_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"must end in \.csv, \.json, \.png, \.svg, \.pdf"):
        save(tmp_path / "lr.bmp", make("cosine"))


@pytest.mark.parametrize("name", ["missing/lr.csv", "missing/lr.png", "missing/lr.json"])
def test_a_folder_that_is_not_there(name, tmp_path):
    with pytest.raises(OutputError, match="cannot be written: there is no folder"):
        save(tmp_path / name, make("cosine"))


def test_a_column_of_a_csv_file(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("epoch,val_loss,note\n0,1.5,a\n1,,b\n2,nan,c\n3,-2e-1,d\n")
    values = load_column(path, "val_loss")
    assert values[0] == 1.5
    assert values[1] != values[1]
    assert values[2] == -0.2
    assert len(values) == 3


def test_a_column_of_a_jsonl_file(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "lr": 0.1}\n\n{"epoch": 0, "val_loss": 0.5}\n{"epoch": 1, "val_loss": 0.25}\n')
    assert load_column(path, "val_loss") == [0.5, 0.25]


def test_a_missing_column_lists_what_there_is(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("epoch,val_loss\n0,1\n")
    with pytest.raises(UsageError, match="no column 'loss'; it has epoch, val_loss"):
        load_column(path, "loss")
    with pytest.raises(UsageError, match="no file"):
        load_column(tmp_path / "other.csv", "loss")


def test_broken_metrics_are_data_errors(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("epoch,val_loss\n0,1\n1,bad\n")
    with pytest.raises(DataError, match="row 2: 'bad' is no number"):
        load_column(path, "val_loss")
    path.write_text("epoch,val_loss\n0,\n")
    with pytest.raises(DataError, match="no value in the column"):
        load_column(path, "val_loss")
    lines = tmp_path / "metrics.jsonl"
    lines.write_text('{"a": 1}\n{"a": \n')
    with pytest.raises(DataError, match=r"metrics\.jsonl:2 is no JSON"):
        load_column(lines, "a")


def test_a_series_by_hand():
    assert read_series("1, 0.8 0.7*3") == [1.0, 0.8, 0.7, 0.7, 0.7]
    for text in ("", "1 two", "0.7*x", "0.7*10000000"):
        with pytest.raises(UsageError, match="series"):
            read_series(text)
