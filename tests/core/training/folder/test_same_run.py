"""Another config or other data than those of the run that is resumed: noticed, listed, refused; and training longer on purpose."""

import json

import pytest
import torch

import dlkit
from dlkit.core.scoring import pick_precision
from dlkit.core.training import Resume
from dlkit.errors import UsageError
from dlkit.events import Note

SETTINGS = {
    "seed": 7, "task": "regression", "data.batch_size": 4, "data.val": 0.5, "data.test": 0.2, "data.limit": 9, "data.shuffle": False,
    "data.drop_last": True, "data.normalize": "none", "data.num_classes": 3, "model.hidden": [5],
    "loss.name": "mse", "loss.label_smoothing": 0.1, "optimizer.name": "sgd", "optimizer.lr": 0.2, "optimizer.weight_decay": 0.5,
    "optimizer.decay_norm_bias": True, "optimizer.groups": [{"match": "1.*", "lr_mult": 2}], "schedule.name": "constant",
    "schedule.warmup": 2, "schedule.length": 3, "train.epochs": 3, "train.max_steps": 3, "train.accumulate": 2,
    "train.clip": {"norm": 1.0}, "train.amp": "bf16", "train.early_stop": {"patience": 3}, "train.on_nan": "skip", "ema": {"decay": 0.9},
    "eval.every": 2, "checkpoint.metric": "val_loss", "checkpoint.mode": "min", "train.gradient_checkpointing": True,
}  # fmt: skip


def changed(config, key, value):
    config = json.loads(json.dumps(config))
    section, _, name = key.rpartition(".")
    (config.setdefault(section, {}) if section else config)[name] = value
    return config


@pytest.fixture
def begun(crash, tmp_path):
    dlkit.train(crash.tiny, out=tmp_path / "run")
    return tmp_path / "run"


def test_every_changed_setting_is_listed(crash, begun):
    unnoticed = []
    for key, value in SETTINGS.items():
        if key == "train.amp" and pick_precision(value, torch.device("cpu")).name == "fp32":
            continue  # a CPU without bf16 trains in float32 all the same
        try:
            dlkit.train(changed(crash.tiny, key, value), resume=Resume(begun))
            unnoticed.append(key)
        except UsageError as error:
            if key.split(".")[0] not in str(error) or "in the checkpoint" not in str(error):
                unnoticed.append(f"{key}: {error}")
    assert not unnoticed
    print(f"\nchanged settings: {len(SETTINGS)} of {len(SETTINGS)} noticed")


def write_table(path, rows):
    path.write_text("a,b,label\n" + "".join(f"{a},{b},{label}\n" for a, b, label in rows))


ROWS = [(index % 7 / 7, index % 5 / 5, "xy"[index % 2]) for index in range(60)]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (ROWS[:40], "48 train samples in the checkpoint, 32 now"),
        (ROWS + ROWS[:30], "48 train samples in the checkpoint, 72 now"),
        ([(a, b, "yx"[index // 2 % 2]) for index, (a, b, _) in enumerate(ROWS)], "other targets"),
        ([(b, a, label) for a, b, label in ROWS], "other contents"),
    ],
    ids=["fewer", "more", "targets", "contents"],
)
def test_other_data_are_noticed(crash, tmp_path, rows, words):
    table = tmp_path / "t.csv"
    write_table(table, ROWS)
    data = {"name": "csv", "path": str(table), "target": "label", "batch_size": 8, "val": 0.2, "test": "none"}
    data["normalize"] = {"mean": [0.5, 0.5], "std": [0.3, 0.3]}
    config = crash.tiny | {"data": data}
    dlkit.train(config, out=tmp_path / "run")
    write_table(table, rows)
    with pytest.raises(UsageError, match=words):
        dlkit.train(config, resume=Resume(tmp_path / "run"))
    notes = []
    dlkit.train(config, resume=Resume(tmp_path / "run", is_relaxed=True), emit=notes.append)
    assert any(isinstance(note, Note) and words in note.text for note in notes)


def test_other_weights_are_noticed(crash, tmp_path):
    table, config = (
        tmp_path / "t.csv",
        crash.tiny | {"data": {"name": "csv", "target": "label", "val": 0.2, "test": "none"}},
    )
    config["data"] |= {"path": str(table), "sampling": {"weights": "often"}}
    for often in (1, 2):
        rows = [f"{a},{b},{label},{1 + index % 3 * often}\n" for index, (a, b, label) in enumerate(ROWS)]
        table.write_text("a,b,label,often\n" + "".join(rows))
        if often == 1:
            dlkit.train(config, out=tmp_path / "run")
    with pytest.raises(UsageError, match="the train samples have other weights than in the checkpoint"):
        dlkit.train(config, resume=Resume(tmp_path / "run"))


def rates_of(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["lr"] for line in lines if line["event"] == "step"]


def test_a_longer_run_says_how_its_rate_goes_on(crash, tmp_path):
    longer = crash.tiny | {"train": {"epochs": 4}}
    for how in ("stretch", "tail"):
        dlkit.train(crash.tiny, out=tmp_path / how)
    short = rates_of(tmp_path / "tail")
    with pytest.raises(UsageError, match=r"train.epochs: 2 in the checkpoint, 4 now\n.*--extend stretch"):
        dlkit.train(longer, resume=Resume(tmp_path / "tail"))
    for how in ("stretch", "tail"):
        result = dlkit.train(longer, resume=Resume(tmp_path / how, extend=how))
        assert len(result.history) == 4
    dlkit.train(longer, out=tmp_path / "whole")
    whole = rates_of(tmp_path / "whole")
    assert rates_of(tmp_path / "stretch") == short + whole[len(short) :]
    assert rates_of(tmp_path / "tail") == short + [short[-1]] * len(short)
    # the same command again, as after a kill, and once more for longer
    dlkit.train(longer, resume=Resume(tmp_path / "tail", extend="tail"))
    dlkit.train(crash.tiny | {"train": {"epochs": 5}}, resume=Resume(tmp_path / "tail", extend="tail"))
    assert set(rates_of(tmp_path / "tail")[len(short) :]) == {short[-1]}


def test_where_and_how_fast_may_change(crash, begun):
    free = {"checkpoint": {"every_steps": 3, "keep": 1}, "name": "other", "log": {"tensorboard": False, "every": 2}}
    assert dlkit.train(crash.tiny | free, resume=Resume(begun)).status == "finished"
