"""evaluation.json: what `dlkit eval` tells of the same split, and refused where it is of another form."""

import json

import pytest

import dlkit as package
from dlkit.errors import FileRefused
from dlkit.run_folders import EVALUATION_FILE, read_evaluation

CONFIG = {
    "data": {"name": "fake", "num_samples": 90, "shape": [1, 8, 8], "num_classes": 3, "batch_size": 16},
    "model": {"name": "small_cnn", "width": 4},
    "train": {"epochs": 1},
    "log": {"tensorboard": False},
}


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    return package.train(CONFIG, out=tmp_path_factory.mktemp("runs") / "run").run_dir


def test_it_is_what_eval_tells(dlkit, run_dir):
    told = json.loads(dlkit("eval", run_dir / "model.pt", "--json").out)
    kept = read_evaluation(run_dir)
    assert (kept.task, kept.split) == ("classification", "test") and set(kept.intervals) == {"loss", "accuracy"}
    for name in ("num_samples", "classes", "per_class", "confusion", "temperature"):
        assert getattr(kept, name) == told[name], name
    assert kept.metrics == pytest.approx(told["metrics"], abs=1e-6)  # batches of another size round otherwise
    assert [row["count"] for row in kept.reliability] == [row["count"] for row in told["reliability"]]
    assert kept.intervals["accuracy"] == told["intervals"]["accuracy"]
    assert len(kept.worst) == min(24, kept.num_samples)
    wrong = kept.num_samples - sum(row[place] for place, row in enumerate(kept.confusion))
    assert len(kept.certain) == min(24, wrong) and all(row["true"] != row["predicted"] for row in kept.certain)
    certainties = [row["probability"] for row in kept.certain]
    assert certainties == sorted(certainties, reverse=True)


def test_eval_shows_intervals(dlkit, run_dir):
    shown = dlkit("eval", run_dir / "model.pt").out
    assert "95 %" in shown and " to " in next(line for line in shown.splitlines() if "accuracy" in line)


def test_there_may_be_none(tmp_path):
    assert read_evaluation(tmp_path) is None


@pytest.mark.parametrize(
    "change",
    [
        {"schema": "other/1"},
        {"task": "poetry"},
        {"metrics": {"accuracy": "high"}},
        {"metrics": [1]},
        {"classes": [1, 2, 3]},
        {"confusion": [[1, 2], [3, 4]]},
        {"confusion": [["<b>"] * 3] * 3},
        {"worst": [{"position": 1}]},
        {"per_class": [{"name": 3}]},
        {"reliability": [7]},
        {"num_samples": None},
        {"intervals": {"loss": ["<script>", 1]}},
    ],
    ids=lambda change: "-".join(change),
)
def test_other_contents_are_refused(run_dir, tmp_path, change):
    whole = json.loads((run_dir / EVALUATION_FILE).read_text())
    (tmp_path / EVALUATION_FILE).write_text(json.dumps(whole | change))
    with pytest.raises(FileRefused, match=r"evaluation\.json: cannot be read as an evaluation"):
        read_evaluation(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, "\xff"])
def test_damage_is_refused(tmp_path, text):
    (tmp_path / EVALUATION_FILE).write_bytes(text.encode("latin-1"))
    with pytest.raises(FileRefused):
        read_evaluation(tmp_path)
